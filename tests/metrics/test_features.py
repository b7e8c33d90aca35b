import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax import evaluation
from lsd_jax.metrics.features import read_sequences
from lsd_jax.models.ddit import DDiT, DDiTConfig

SIZES = DDiTConfig(vocab_size=5, dim=8, depth=1, heads=2, causal=True)
MODEL = DDiT(SIZES)
PARAMS = jax.tree.map(
    lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape),
    MODEL.init(jax.random.key(0), jnp.zeros((1, 6), jnp.int32), jnp.zeros(1)),
)
TOKENS = np.random.default_rng(0).integers(0, 5, (11, 6)).astype(np.uint8)


def test_likelihood_is_gen_ppl_s_and_features_do_not_depend_on_the_batch():
    nats, features = read_sequences(MODEL, PARAMS, TOKENS, 8)
    assert nats.shape == (11,) and features.shape == (11, 8)
    np.testing.assert_allclose(nats, evaluation.scorer_nats(MODEL, PARAMS, TOKENS, 8), rtol=1e-5)
    again = read_sequences(MODEL, PARAMS, TOKENS, 16)
    np.testing.assert_allclose(features, again[1], atol=1e-5)
    changed = TOKENS.copy()
    changed[0, -1] = (changed[0, -1] + 1) % 5  # of the last token there is only the likelihood
    other_nats, other = read_sequences(MODEL, PARAMS, changed, 8)
    np.testing.assert_allclose(features, other, atol=1e-5)
    assert abs(other_nats[0] - nats[0]) > 1e-3
    changed[0, 0] = (changed[0, 0] + 1) % 5
    assert np.abs(read_sequences(MODEL, PARAMS, changed, 8)[1][0] - features[0]).max() > 1e-3


def test_a_network_that_looks_ahead_is_refused():
    with pytest.raises(ValueError, match="causal"):
        read_sequences(DDiT(DDiTConfig(vocab_size=5, dim=8, depth=1, heads=2)), PARAMS, TOKENS, 8)
