import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from lsd_jax import parallel


def one_device() -> Mesh:
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])


@pytest.mark.parametrize("microbatch", [0, 2])
def test_gradient_on_eight_devices_is_that_of_one(microbatch):
    params = {"w": jax.random.normal(jax.random.key(0), (4,))}
    batch = np.asarray(jax.random.normal(jax.random.key(1), (32, 4)))

    def loss_fn(params, frozen, batch):
        value = (jnp.tanh(batch @ params["w"] + frozen) ** 2).mean()
        return value, {"twice": 2 * value}

    results = []
    for mesh in (one_device(), parallel.data_mesh()):
        function = parallel.value_and_grad_over_data(loss_fn, mesh, microbatch, has_aux=True)
        results.append(jax.jit(function)(params, jnp.float32(0.3), parallel.shard_batch(batch, mesh)))
    expected = jax.value_and_grad(loss_fn, has_aux=True)(params, jnp.float32(0.3), batch)
    for result in results:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), result, expected)
    assert parallel.data_mesh().size == 8


def test_map_and_mean_over_data():
    mesh = parallel.data_mesh()
    batch = parallel.shard_global(np.arange(16.0), mesh)
    assert parallel.gather(parallel.map_over_data(lambda a, x: a * x, mesh)(2.0, batch)).tolist() == [
        2.0 * i for i in range(16)
    ]
    assert float(parallel.mean_over_data(lambda a, x: a + x.mean(), mesh)(1.0, batch)) == pytest.approx(8.5)


@pytest.mark.parametrize("batch_size", [1, 8, 12, 100])
def test_batches_of_any_size_are_those_of_whole_multiples_of_the_devices(batch_size):
    seen = []
    found = parallel.in_batches(lambda x: seen.append(x.shape) or x + 1, batch_size, np.arange(20.0))
    np.testing.assert_array_equal(found, np.arange(1.0, 21.0))
    assert set(seen) == {(-(-batch_size // 8) * 8,)}
