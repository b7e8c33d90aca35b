import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.metrics.scorer import Scorer, load_scorer
from lsd_jax.models import weights
from lsd_jax.models.causal import autoregressive_loss
from lsd_jax.models.ddit import DDiT, DDiTConfig

SIZES = DDiTConfig(vocab_size=5, dim=8, depth=1, heads=2, causal=True)
MODEL = DDiT(SIZES)
PARAMS = jax.tree.map(
    lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(1), leaf.shape),
    MODEL.init(jax.random.key(0), jnp.zeros((1, 6), jnp.int32), jnp.zeros(1)),
)
TOKENS = np.random.default_rng(0).integers(0, 5, (11, 6)).astype(np.uint8)


def scorer(batch_size):
    return Scorer(MODEL, PARAMS, batch_size, {})


def test_likelihood_is_the_network_s_and_features_do_not_depend_on_the_batch():
    scored, features = scorer(8).read(TOKENS)
    assert scored.shape == (11, 2) and features.shape == (11, 8)
    loss = autoregressive_loss(lambda x, sigma_bar: MODEL.apply(PARAMS, x, sigma_bar), 5, TOKENS.astype(np.int32))
    np.testing.assert_allclose(scored[:, 0], loss, rtol=1e-5)
    np.testing.assert_array_equal(scored[:, 1], 6)
    np.testing.assert_array_equal(scorer(8)(TOKENS), scored)
    again = scorer(16).read(TOKENS)
    np.testing.assert_allclose(features, again[1], atol=1e-5)
    np.testing.assert_allclose(scored, again[0], rtol=1e-5)
    changed = TOKENS.copy()
    changed[0, -1] = (changed[0, -1] + 1) % 5  # of the last token there is only the likelihood
    other_scored, other = scorer(8).read(changed)
    np.testing.assert_allclose(features, other, atol=1e-5)
    assert abs(other_scored[0, 0] - scored[0, 0]) > 1e-3
    changed[0, 0] = (changed[0, 0] + 1) % 5
    assert np.abs(scorer(8).read(changed)[1][0] - features[0]).max() > 1e-3


def test_a_network_that_looks_ahead_or_reads_other_tokens_is_refused(tmp_path):
    weights.save(tmp_path / "causal.safetensors", PARAMS, SIZES, {})
    found = load_scorer(str(tmp_path / "causal.safetensors"), 8, 5)
    assert found.model == MODEL and found.identity["name"] == "causal.safetensors"
    with pytest.raises(ValueError, match=r"^scorer=.*: it reads 5 tokens, vocab_size=27"):
        load_scorer(str(tmp_path / "causal.safetensors"), 8, 27)
    weights.save(tmp_path / "both.safetensors", PARAMS, DDiTConfig(vocab_size=5, dim=8, depth=1, heads=2), {})
    with pytest.raises(ValueError, match=r"^scorer=.*: not a causal network"):
        load_scorer(str(tmp_path / "both.safetensors"), 8, 5)
