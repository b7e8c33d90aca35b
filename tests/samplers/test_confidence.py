"""Confidence samplers: how many by the grid, which by the network, and the exact likelihood of a fixed order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences
from lsd_jax.samplers.kernel import Condition
from lsd_jax.samplers.kernels.confidence import blockwise, margin, negative_entropy, ordered_nll
from lsd_jax.samplers.likelihood import elbo_nats
from lsd_jax.samplers.registry import KERNELS
from lsd_jax.samplers.sampler import Sampler, sampler
from lsd_jax.samplers.schedule import Schedule, Step, neutral, uniform_schedule
from tests.samplers.enumeration import draw


def sloped_scores(x, t):
    """Distributions that depend on the position only, sharper to the right."""
    logits = jnp.outer(jnp.arange(x.shape[1]) / 4, jnp.asarray([0.0, 1.0, -1.0]))
    return jnp.broadcast_to(logits[None], (*x.shape, 3))


@pytest.fixture(scope="module")
def sloped(toy):
    return Diffusion.from_function(sloped_scores, toy("absorbing").model.process, "log_score", time_conditioned=False)


@pytest.mark.parametrize("name", ["maskgit", "margin", "entropy", "blockwise"])
def test_the_grid_says_how_many(sloped, name):
    grid, mask = jnp.asarray([1.0, 0.93, 0.6, 0.55, 0.21, 0.0]), sloped.process.mask
    uneven = Sampler(Schedule(grid, neutral(5)), KERNELS[name], length=12)
    given = Condition(jnp.ones((4, 12), jnp.int32), jnp.broadcast_to(jnp.arange(12) < 5, (4, 12)))
    for free, condition in ((12, None), (7, given)):
        states = np.asarray(draw(jax.random.key(0), sloped, uneven, 4, keep_states=True, condition=condition).states)
        masks = (states == mask).sum(-1)
        np.testing.assert_array_equal(masks, np.floor(free * np.asarray(grid) + 0.5).astype(int)[:, None] + 0 * masks)
        if condition is not None:
            assert (states[:, :, :5] == 1).all()
        if name != "maskgit":  # the surest are to the right
            assert (np.diff((states == mask)[:, :, 12 - free :].astype(int), axis=-1) <= 0).all()


def test_measures():
    law = jnp.log(jnp.asarray([[[0.5, 0.3, 0.2], [0.98, 0.01, 0.01], [1 / 3, 1 / 3, 1 / 3]]]))
    np.testing.assert_allclose(margin(law)[0], [0.2, 0.97, 0.0], atol=1e-6)
    entropy = -(np.exp(law) * np.asarray(law)).sum(-1)
    np.testing.assert_allclose(negative_entropy(law), -entropy, rtol=1e-5)
    np.testing.assert_allclose(blockwise(law)[0], [0.5, 0.98, 1 / 3], rtol=1e-5)
    certain = jnp.asarray([[[0.0, -jnp.inf, -jnp.inf]]])
    assert negative_entropy(certain)[0, 0] == 0


def test_blocks_come_from_left_to_right(sloped):
    """Every step reveals half a block; within a block the sharpest, which are to the right, come first."""
    halves = Sampler(uniform_schedule(5), KERNELS["blockwise"], length=80)
    states = np.asarray(draw(jax.random.key(0), sloped, halves, 2, keep_states=True).states) == sloped.process.mask
    open_L = [sorted(set(range(80)) - set(np.flatnonzero(masked).tolist())) for masked in states[:, 0]]
    assert open_L[1] == list(range(16, 32)) and open_L[2] == list(range(32))
    assert open_L[3] == [*range(32), *range(48, 64)] and open_L[4] == list(range(64)) and len(open_L[5]) == 80


def test_maskgit_keeps_the_likeliest_of_the_drawn_tokens(sloped):
    drawn = jnp.asarray([[1, 1, 0, 1, 2, 1]])  # log-probability falls with the position where a token is not 1
    x = jnp.full((1, 6), sloped.process.mask).at[0, 5].set(1)

    class Fixed:
        def __init__(self, uniform_L):
            self.noise = jnp.stack([uniform_L[None]] * 2)

        def __call__(self, transition, stage=0):
            return jnp.where(jnp.isneginf(transition.log_stay_BL), drawn, transition.x_BL)

        def uniform(self, stage):
            return self.noise

    @jax.jit
    def moved(uniform_L):
        step = Step(jnp.float32(1.0), jnp.float32(0.6), neutral())
        return KERNELS["maskgit"].step(Fixed(uniform_L), jnp.asarray([5]), sloped, x, step)[0][0]

    def kept(uniform):
        return np.flatnonzero(np.asarray(moved(jnp.asarray(uniform))) != sloped.process.mask).tolist()

    assert kept([0.5] * 6) == [1, 3, 5]
    assert kept([0.5, 0.5, 0.5, 0.5, 0.99, 0.5]) == [3, 4, 5]


@pytest.mark.parametrize("name", ["margin", "entropy", "blockwise"])
@pytest.mark.parametrize("steps", [2, 3])
def test_the_likelihood_of_an_order_is_exact(toy, name, steps):
    (model, probs), sequences = toy("absorbing"), np.asarray(all_sequences(3, 3))
    exact = jax.jit(lambda schedule: ordered_nll(model, KERNELS[name], schedule, jnp.asarray(sequences)))
    cool = sampler(name, steps, temperature=0.8).bound_to(model, 3)
    nll = exact(cool.schedule)
    law = np.exp(-np.asarray(nll, np.float64))
    evaluated = elbo_nats(model, cool, jax.random.key(0), sequences, 32)
    assert cool.has_likelihood(model.process)
    np.testing.assert_allclose(evaluated, nll, rtol=1e-5)
    assert abs(law.sum() - 1) < 1e-5
    assert toy("absorbing").error(draw(jax.random.key(0), model, cool, 40_000).tokens, law) < 0.02
    if steps == 3:  # one token a step, in whatever order: exact without a temperature
        np.testing.assert_allclose(np.exp(-np.asarray(exact(uniform_schedule(3)))), probs, atol=1e-5)


def test_random_orders_have_no_such_likelihood(toy):
    with pytest.raises(ValueError, match="^kernel='maskgit': has no exact likelihood"):
        ordered_nll(toy("absorbing").model, KERNELS["maskgit"], uniform_schedule(2), jnp.zeros((1, 3), jnp.int32))
