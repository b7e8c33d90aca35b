import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.ddit import DDiT, DDiTConfig, rotary_table, rotate

B, L, S = 2, 6, 5
X = jax.random.randint(jax.random.key(7), (B, L), 0, S + 1)
SIGMA = jnp.array([0.3, 2.0])


def make(**settings):
    """A tiny network with every parameter random, the ones that start at zero included."""
    model = DDiT(DDiTConfig(vocab_size=S, dim=16, depth=2, heads=2, **settings))
    params = model.init(jax.random.key(0), X, SIGMA)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [leaf + 0.2 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys)]
    return model, params, jax.tree.unflatten(tree, noisy)


@pytest.mark.parametrize("conditioned", [False, True])
def test_starts_uniform(conditioned):
    model, start, params = make(time_conditioned=conditioned)
    assert model.apply(params, X, SIGMA).shape == (B, L, S)
    np.testing.assert_array_equal(model.apply(start, X, SIGMA), 0)


def test_only_a_conditioned_network_sees_the_noise_level():
    for conditioned in (False, True):
        model, _, params = make(time_conditioned=conditioned)
        low, high = model.apply(params, X, SIGMA), model.apply(params, X, SIGMA[::-1])
        assert np.allclose(low, high, atol=1e-5) == (not conditioned)


def test_a_scalar_noise_level_is_every_sequence_s():
    model, _, params = make(time_conditioned=True)
    np.testing.assert_allclose(
        model.apply(params, X, jnp.asarray(0.3)), model.apply(params, X, jnp.full(B, 0.3)), atol=1e-6
    )


def test_causal_network_does_not_look_ahead():
    changed = X.at[:, 4].set((X[:, 4] + 1) % S)
    for causal in (True, False):
        model, _, params = make(causal=causal)
        apart = np.abs(model.apply(params, X, SIGMA) - model.apply(params, changed, SIGMA)).max((0, 2))
        assert np.all(apart[4:] > 1e-4)
        assert np.all(apart[:4] < 1e-6) == causal


def test_labels_stand_first_and_nowhere_else():
    model, _, params = make(labels=2)
    probs_BLS = jax.nn.softmax(model.apply(params, X, SIGMA))
    assert np.all(probs_BLS[:, 0, [0, 1, 4]] == 0) and np.all(probs_BLS[:, 0, 2:4] > 0)
    assert np.all(probs_BLS[:, 1:, 2:4] == 0) and np.all(probs_BLS[:, 1:, [0, 1, 4]] > 0)
    gradient = jax.grad(lambda p: jax.nn.log_softmax(model.apply(p, X, SIGMA))[..., 0].sum())(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_rotary_products_depend_on_the_distance_only():
    table = rotary_table(10, 8)
    q, k = jax.random.normal(jax.random.key(0), (2, 8))
    everywhere = lambda vector: rotate(jnp.broadcast_to(vector, (1, 1, 10, 8)), table)[0, 0]
    products = np.asarray(jnp.matmul(everywhere(q), everywhere(k).T, precision="highest"))
    for distance in range(-9, 10):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-4)
    assert np.ptp(products) > 0.1
    np.testing.assert_allclose(products[0, 0], q @ k, rtol=1e-5)


def test_the_hidden_state_is_what_the_head_reads_and_adds_no_parameter():
    for conditioned in (False, True):
        model, start, params = make(time_conditioned=conditioned)
        assert set(start) == {"params"}
        logits, kept = model.apply(params, X, SIGMA, mutable=["intermediates"])
        head = params["params"]["head"]
        (hidden,) = kept["intermediates"]["hidden"]
        np.testing.assert_allclose(hidden @ head["kernel"] + head["bias"][None, None], logits, atol=1e-5)
        np.testing.assert_array_equal(logits, model.apply(params, X, SIGMA))
