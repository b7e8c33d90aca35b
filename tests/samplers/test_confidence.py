"""Confidence samplers: how many by the grid, which by the network, and the exact likelihood of a fixed order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.evaluation import Sampler, bound_nats
from lsd_jax.models.oracle import all_sequences
from lsd_jax.models.score_fn import ScoreModel
from lsd_jax.samplers import KERNELS
from lsd_jax.samplers.confidence import margin, negative_entropy, ordered_nll
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Knobs
from lsd_jax.samplers.simulate import Condition, Schedule, simulate, uniform_schedule

NEUTRAL = Knobs(jnp.zeros(()), jnp.zeros(()))


def sloped_scores(x, t):
    """Laws that depend on the position only, sharper to the right."""
    logits = jnp.outer(jnp.arange(x.shape[1]) / 4, jnp.asarray([0.0, 1.0, -1.0]))
    return jnp.broadcast_to(logits[None], (*x.shape, 3))


@pytest.mark.parametrize("name", ["maskgit", "margin", "entropy"])
def test_the_grid_says_how_many(toy, name):
    process = toy("absorbing").process
    grid = jnp.asarray([1.0, 0.93, 0.6, 0.55, 0.21, 0.0])
    schedule = Schedule(grid, Knobs(jnp.zeros(5), jnp.zeros(5)))
    given = Condition(jnp.ones((4, 12), jnp.int32), jnp.broadcast_to(jnp.arange(12) < 5, (4, 12)))
    for free, condition in ((12, None), (7, given)):
        args = jax.random.key(0), process, KERNELS[name], sloped_scores, schedule, Coupling(), 4, 12
        states = np.asarray(simulate(*args, keep_states=True, condition=condition).states)
        masks = (states == process.mask).sum(-1)
        np.testing.assert_array_equal(masks, np.floor(free * np.asarray(grid) + 0.5).astype(int)[:, None] + 0 * masks)
        if condition is not None:
            assert (states[:, :, :5] == 1).all()
        if name != "maskgit":  # the surest are to the right
            assert (np.diff((states == process.mask)[:, :, 12 - free :].astype(int), axis=-1) <= 0).all()


def test_measures():
    law = jnp.log(jnp.asarray([[[0.5, 0.3, 0.2], [0.98, 0.01, 0.01], [1 / 3, 1 / 3, 1 / 3]]]))
    np.testing.assert_allclose(margin(law)[0], [0.2, 0.97, 0.0], atol=1e-6)
    entropy = -(np.exp(law) * np.asarray(law)).sum(-1)
    np.testing.assert_allclose(negative_entropy(law), -entropy, rtol=1e-5)
    certain = jnp.asarray([[[0.0, -jnp.inf, -jnp.inf]]])
    assert negative_entropy(certain)[0, 0] == 0


def test_maskgit_keeps_the_likeliest_of_the_drawn_tokens(toy):
    process = toy("absorbing").process
    drawn = jnp.asarray([[1, 1, 0, 1, 2, 1]])  # log-probability falls with the position where a token is not 1
    x = jnp.full((1, 6), process.mask).at[0, 5].set(1)

    class Fixed:
        def __init__(self, uniform):
            self.noise = jnp.asarray([[uniform], [uniform]])

        def __call__(self, transition, stage=0):
            return jnp.where(jnp.isneginf(transition.log_stay_BL), drawn, transition.x_BL)

        def uniform(self, stage):
            return self.noise

    def kept(uniform):
        step = KERNELS["maskgit"].advance
        moved, _ = step(
            *(Fixed(uniform), jnp.asarray([5]), process, sloped_scores, x, jnp.float32(1.0), jnp.float32(0.6)), NEUTRAL
        )
        return np.flatnonzero(np.asarray(moved[0]) != process.mask).tolist()

    assert kept([0.5] * 6) == [1, 3, 5]
    assert kept([0.5, 0.5, 0.5, 0.5, 0.99, 0.5]) == [3, 4, 5]


@pytest.mark.parametrize("name", ["margin", "entropy"])
@pytest.mark.parametrize("steps", [2, 3])
def test_the_likelihood_of_an_order_is_exact(toy, name, steps):
    process, score_fn, probs = world = toy("absorbing")
    schedule = uniform_schedule(steps, temperature=0.8)
    nll = ordered_nll(process, KERNELS[name], score_fn, schedule, jnp.asarray(all_sequences(3, 3)))
    law = np.exp(-np.asarray(nll, np.float64))
    sampler = Sampler(process, KERNELS[name], Coupling(), schedule, 3)
    model = ScoreModel(lambda params, x, t: score_fn(x, t), ())
    evaluated = bound_nats(model, sampler, jax.random.key(0), np.asarray(all_sequences(3, 3)), 32)
    assert sampler.has_likelihood
    np.testing.assert_allclose(evaluated, nll, rtol=1e-5)
    assert abs(law.sum() - 1) < 1e-5
    tokens = simulate(jax.random.key(0), process, KERNELS[name], score_fn, schedule, Coupling(), 40_000, 3).tokens
    assert world.error(tokens, law) < 0.02
    if steps == 3:  # one token a step, in whatever order: exact without a temperature
        one_by_one = ordered_nll(
            process, KERNELS[name], score_fn, uniform_schedule(3), jnp.asarray(all_sequences(3, 3))
        )
        np.testing.assert_allclose(np.exp(-np.asarray(one_by_one)), probs, atol=1e-5)


def test_random_orders_have_no_such_likelihood(toy):
    process, score_fn, _ = toy("absorbing")
    with pytest.raises(ValueError, match="maskgit"):
        ordered_nll(process, KERNELS["maskgit"], score_fn, uniform_schedule(2), jnp.zeros((1, 3), jnp.int32))
