"""Training that starts from a network: what it keeps, how it takes more tokens, and files that do not fit."""

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models import weights
from lsd_jax.models.backbones import initial, network
from lsd_jax.models.ddit import DDiTConfig
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.training import train as training
from lsd_jax.training.start import parameters_of

SIZES = DDiTConfig(5, 16, 1, 2)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "net.safetensors"
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), initial(SIZES, jax.random.key(0))
    )
    weights.save(path, params, SIZES, {})
    return path


def test_the_same_network_is_taken_as_it_is(file):
    jax.tree.map(np.testing.assert_array_equal, parameters_of(str(file), SIZES, False), weights.load(file)[1])


@pytest.mark.parametrize("padded", [False, True])
def test_old_tokens_mean_what_they_meant_and_new_ones_nothing(file, padded):
    wide = DDiTConfig(8, 16, 1, 2)
    params = parameters_of(str(file), wide, padded)
    place = 5 - padded
    old = np.array(
        [*range(place), *range(place + 3, 8 + 1)]
    )  # numbers of the old tokens, the pad and the mask among the new
    x_BL = jnp.array([[0, 5, 2, 4, 5, 1]])  # 5 is the old mask
    wanted = network(SIZES).apply(weights.load(file)[1], x_BL)
    found = network(wide).apply(params, jnp.asarray(old)[x_BL])
    np.testing.assert_allclose(found[..., old[:-1]], wanted, atol=1e-5)
    mean = wanted[..., :place].mean(-1, keepdims=True)
    np.testing.assert_allclose(found[..., place : place + 3], np.repeat(mean, 3, -1), atol=1e-5)


def test_training_goes_on_from_it(file, tmp_path):
    rows = np.random.default_rng(0).integers(0, 5, (64, 8)).astype(np.int32)
    for start in ("", str(file)):
        settings = training.TrainingSettings(
            steps=1, batch_size=8, microbatch=1, learning_rate=0.0, warmup_steps=0, start=start
        )
        batches = iter(grain.MapDataset.source(rows).repeat().batch(8).to_iter_dataset())
        folder = tmp_path / ("from" if start else "fresh")
        params, _ = training.train(settings, SIZES, Absorbing(5, LogLinear()), batches, rows, folder, seed=0)
        same = jax.tree.map(lambda a, b: np.allclose(a, b), params, weights.load(file)[1])
        assert jax.tree.all(same) == bool(start)


@pytest.mark.parametrize(
    "sizes, message",
    [
        (DDiTConfig(5, 32, 1, 2), "its network has dim=16, and 32 is to be trained"),
        (DDiTConfig(5, 16, 1, 2, causal=True), "its network has causal=False, and True is to be trained"),
        (DDiTConfig(4, 16, 1, 2), "its network knows 5 tokens, and vocab_size=4"),
    ],
)
def test_a_network_of_other_sizes_is_told(file, sizes, message):
    with pytest.raises(ValueError, match=rf"^start='.*': {message}"):
        parameters_of(str(file), sizes, False)
    with pytest.raises(FileNotFoundError, match=r"^start='none.safetensors': no such file"):
        parameters_of("none.safetensors", sizes, False)
    with pytest.raises(
        ValueError, match=r"^start='digits_unet.safetensors': holds a unet, and a ddit is to be trained"
    ):
        parameters_of("digits_unet.safetensors", sizes, False)
