"""top-p against a sort, and that the whole set changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.samplers.sampler import sampler
from lsd_jax.samplers.schedule import nucleus
from tests.samplers.enumeration import draw


def by_sorting(probs: np.ndarray, top_p: float) -> np.ndarray:
    """Which tokens are kept: the likeliest until their sum is at least top_p."""
    order = np.argsort(-probs, -1)
    before = np.cumsum(np.take_along_axis(probs, order, -1), -1) - np.take_along_axis(probs, order, -1)
    kept = np.zeros_like(probs, bool)
    np.put_along_axis(kept, order, before < top_p, -1)
    return kept


@pytest.mark.parametrize("top_p", [0.01, 0.3, 0.9, 0.99])
def test_nucleus_is_the_smallest_set(top_p):
    for concentration in (0.05, 1.0, 20.0):
        probs = np.random.default_rng(0).dirichlet(np.full(50, concentration), (8, 16))
        log_mass = jnp.asarray(np.log(probs + 1e-20) + 3.0, jnp.float32)
        found = np.asarray(nucleus(log_mass, top_p))
        kept = by_sorting(np.asarray(jax.nn.softmax(log_mass), np.float64), top_p)
        np.testing.assert_array_equal(found > -np.inf, kept)
        np.testing.assert_array_equal(found[kept], np.asarray(log_mass)[kept])


def test_the_whole_set_changes_nothing(toy):
    model = toy("absorbing").model

    def tokens(**settings):
        return np.asarray(
            draw(jax.random.key(0), model, sampler("tweedie", 4, **settings).bound_to(model, 3), 512).tokens
        )

    plain = tokens()
    np.testing.assert_array_equal(plain, tokens(top_p=1.0))
    np.testing.assert_array_equal(plain, tokens(top_p=1 - 1e-7))
    assert (plain != tokens(top_p=0.3)).any()
