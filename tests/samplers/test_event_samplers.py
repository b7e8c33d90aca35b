"""Samplers without a grid: exact where they say so, independent of the batch, and faithful to given tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.keys import sequence_keys
from lsd_jax.models.oracle import all_sequences
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.events.gillespie import holding_times, next_events
from lsd_jax.samplers.events.uniformization import rate_bound
from lsd_jax.samplers.kernel import Condition
from lsd_jax.samplers.registry import EVENT_SAMPLERS
from lsd_jax.samplers.schedule import neutral

GOLDEN = np.load("tests/golden/lsd_gillespie.npz")
PAIRS = [(name, process) for name, sampler in EVENT_SAMPLERS.items() for process in sampler.processes]


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(name, model, keys, budget, condition):
    drawn = EVENT_SAMPLERS[name].draw(keys, model, 3, budget, neutral(), condition)
    return drawn.tokens, drawn.calls_B


def run(name, world, count, budget, condition=None, keys=None):
    keys = sequence_keys(jax.random.key(1), count) if keys is None else keys
    return _run(name, world.model, keys, budget, condition)


@pytest.mark.parametrize("name", ["any_order", "gillespie"])
def test_one_token_per_call_is_exact_and_fewer_calls_are_not(toy, name):
    world = toy("absorbing")
    tokens, calls = run(name, world, 40_000, 3)
    assert world.error(tokens) < 0.02 and (np.asarray(calls) == 3).all()
    tokens, calls = run(name, world, 40_000, 2)
    assert 0.03 < world.error(tokens) < 0.2 and (np.asarray(calls) == 2).all()


def test_first_hitting_is_exact(toy):
    tokens, calls = run("first_hitting", toy("absorbing"), 40_000, 3)
    assert (np.asarray(calls) == 3).all()
    assert toy("absorbing").error(tokens) < 0.02


def test_uniformization_is_exact_and_makes_the_expected_calls(toy):
    world = toy("uniform")
    tokens, calls = run("uniformization", world, 40_000, 1)
    assert world.error(tokens) < 0.02
    # The bound's integral over sigma_bar, times three positions, plus the denoising call; pieces add up to 13 percent.
    start, end = float(world.model.process.noise.sigma_bar(jnp.ones(()))), 1e-3 / 3
    integral = np.log(np.expm1(start) / np.expm1(end)) - (start - end) / 3
    assert 3 * integral + 1 < np.asarray(calls).mean() < 1.13 * 3 * integral + 1


def test_gillespie_under_uniform_noise_improves_with_the_budget(toy):
    world = toy("uniform")
    coarse, fine = (run("gillespie", world, 20_000, budget) for budget in (2, 64))
    assert world.error(fine[0]) < 0.08 < world.error(coarse[0])
    assert np.asarray(coarse[1]).mean() < np.asarray(fine[1]).mean() < 20


def test_the_rate_bound_holds_for_every_posterior_and_is_reached():
    process = make_process("uniform", 5, make_noise("loglinear"))
    posterior = np.random.default_rng(0).dirichlet(np.full(5, 0.2), (64, 4))
    posterior[0] = np.eye(5)[1]
    log_posterior = jnp.log(jnp.asarray(posterior, jnp.float32) + 1e-30)
    x = jnp.zeros((64, 4), jnp.int32)
    for t in (1e-3, 0.1, 0.5, 0.99):
        score = np.exp(np.asarray(process.log_score(log_posterior, x, jnp.float32(t))))
        total = score[..., 1:].sum(-1) / 5
        bound = float(rate_bound(process, process.noise.sigma_bar(jnp.float32(t))))
        assert total.max() <= bound * (1 + 1e-4)
        np.testing.assert_allclose(total[0], bound, rtol=1e-4)


def test_golden_gillespie_events():
    """The paper's own code at one call: which four positions jump, and when the last of them does."""
    process = make_process("absorbing", 11, make_noise("loglinear"))
    log_score, t = jnp.asarray(GOLDEN["log_score"][..., :11]), jnp.float32(0.6)
    log_rate = jax.nn.logsumexp(log_score, -1) + jnp.log(process.noise.sigma(t))
    holding = holding_times(log_rate, jnp.asarray(GOLDEN["u_time"]))
    chosen, elapsed = next_events(holding, jnp.full(3, 4))
    np.testing.assert_array_equal(chosen, GOLDEN["xt"] != 11)
    np.testing.assert_allclose(elapsed, GOLDEN["tau"], rtol=1e-5)


@pytest.mark.parametrize(("name", "process"), PAIRS)
def test_a_sequence_depends_on_its_own_key_only_and_given_tokens_stay(toy, name, process):
    world, keys = toy(process), sequence_keys(jax.random.key(2), 8)
    fixed = np.array([[True, False, True], [False, False, True], [True, True, True], [False, False, False]] * 2)
    given = np.array([[0, 2, 1]] * 8)

    def part(rows):
        condition = Condition(jnp.asarray(given[rows]), jnp.asarray(fixed[rows]))
        return run(name, world, len(fixed[rows]), 3, condition, keys[rows])

    tokens, calls = part(slice(None))
    parts = [part(rows) for rows in (slice(0, 4), slice(4, 8))]
    jax.tree.map(lambda a, *b: np.testing.assert_array_equal(a, np.concatenate(b)), (tokens, calls), *parts)
    assert (np.asarray(tokens) == given)[fixed].all() and (np.asarray(tokens) < 3).all()
    if process == "absorbing" and EVENT_SAMPLERS[name].threshold is None:
        assert np.asarray(calls).tolist() == (~fixed).sum(1).tolist()


@pytest.mark.parametrize("name", ["first_hitting", "any_order", "gillespie"])
def test_infilling_draws_the_conditional_distribution(toy, name):
    world = toy("absorbing")
    fixed = jnp.broadcast_to(jnp.asarray([False, True, False]), (40_000, 3))
    given = Condition(jnp.full((40_000, 3), 1), fixed)
    tokens, _ = run(name, world, 40_000, 3, given)
    conditional = np.where(all_sequences(3, 3)[:, 1] == 1, world.probs, 0)
    assert world.error(tokens, conditional / conditional.sum()) < 0.02
