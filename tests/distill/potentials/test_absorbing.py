"""Potentials between tokens revealed in one step: an exact distribution, an exact fit, and a sampler that carries them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.distill.plan import class_plan
from lsd_jax.distill.potentials import absorbing
from lsd_jax.distill.problem import Plan
from lsd_jax.distill.student import init_student
from lsd_jax.keys import sequence_keys
from lsd_jax.metrics.chain import exact_log_prob
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import markov_log_posterior
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.potentials import Factors, nearest_left, potential
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.likelihood import m_step_nll
from lsd_jax.samplers.simulate import simulate
from lsd_jax.tasks.chain_laws import countdown, sample_chain

S, L = 4, 6
PROCESS = Absorbing(S, LogLinear())
CHAIN = countdown(S, 0.05)
MODEL = Diffusion.from_function(markov_log_posterior(PROCESS, *CHAIN), PROCESS, "log_posterior")
STATES = np.array(list(itertools.product(range(S), repeat=L)), np.int32)
AT_ONCE = Coupling("low_discrepancy", "pattern", (0,))  # any order will do for one step
nll_of = jax.jit(m_step_nll)


def sampler_of(coupling, times, tables):
    return init_student(TWEEDIE, coupling, "score", len(times) - 1, times, 1.0, tables).sampler(L, PROCESS)


def random_sampler(coupling, times):
    tables = np.random.default_rng(0).normal(size=(len(times) - 1, 3, S, S)).astype(np.float32)
    return sampler_of(coupling, times, tables)


def random_factors(steps: int, rank: int) -> tuple[Factors, np.ndarray]:
    """Factors, and the tables that are their products."""
    rng = np.random.default_rng(0)
    left, own = rng.normal(size=(steps, 3, S, rank)), rng.normal(size=(steps, 3, rank, S))
    return Factors(np.float32(left), np.float32(own)), np.float32(left @ own)


def test_factors_are_the_table_that_is_their_product():
    factors, tables = random_factors(1, 2)
    distance, left = (np.ravel(grid) for grid in np.meshgrid(np.arange(6), np.arange(S), indexing="ij"))
    found = potential(jax.tree.map(lambda leaf: leaf[0], factors), jnp.asarray(distance), jnp.asarray(left))
    np.testing.assert_allclose(found, potential(jnp.asarray(tables[0]), distance, left), atol=1e-5)


def test_a_sampler_with_factors_is_the_one_with_tables():
    coupling, times = class_plan(np.array([0, 0, 1]), 2, PROCESS)
    ours, theirs = (sampler_of(coupling, times, potentials) for potentials in random_factors(2, 2))
    keys = sequence_keys(jax.random.key(3), 64)
    states = jnp.asarray(STATES[::64])
    np.testing.assert_allclose(nll_of(keys, MODEL, ours, states), nll_of(keys, MODEL, theirs, states), atol=1e-4)
    drawn = [np.asarray(simulate(jax.random.key(5), MODEL, own, 512).tokens) for own in (ours, theirs)]
    assert (drawn[0] == drawn[1]).mean() > 0.999


def test_nearest_left_is_the_last_jump_before():
    jump = jnp.array([[True, False, True, True, False, True]])
    distance, left = nearest_left(jump)
    np.testing.assert_array_equal(distance, [[0, 1, 2, 1, 1, 2]])
    np.testing.assert_array_equal(left, [[0, 0, 0, 2, 3, 3]])


@pytest.mark.parametrize("classes", [(0,), (0, 0, 1), (0, 2, 1)])
def test_the_elbo_is_a_distribution(classes):
    """With one key the order is fixed: the bound is then exact, and sums to one."""
    sampler = random_sampler(*class_plan(np.array(classes), max(classes) + 1, PROCESS))
    keys = jnp.broadcast_to(jax.random.key(3), (len(STATES),))
    probs = np.exp(-np.asarray(nll_of(keys, MODEL, sampler, jnp.asarray(STATES)), np.float64))
    assert probs.sum() == pytest.approx(1, abs=1e-4)


def test_samples_follow_the_distribution():
    """In one step there is no order to average over: the enumerated distribution is the sampler's."""
    sampler, count = random_sampler(AT_ONCE, np.array([1.0, 0.0])), 40_000
    probs = np.exp(-np.asarray(nll_of(sequence_keys(jax.random.key(3), len(STATES)), MODEL, sampler, STATES)))
    drawn = np.asarray(simulate(jax.random.key(5), MODEL, sampler, count).tokens)
    observed = np.bincount(drawn @ S ** np.arange(L)[::-1], minlength=len(STATES)) / count
    chi_square = count * ((observed - probs) ** 2 / probs).sum()
    assert chi_square < len(STATES) + 5 * np.sqrt(2 * len(STATES))


def test_zero_potentials_change_no_draw():
    coupling, times = class_plan(np.array([0, 0, 1]), 2, PROCESS)
    draw = jax.jit(lambda sampler: simulate(jax.random.key(1), MODEL, sampler, 64).tokens)
    tables = np.zeros((2, 3, S, S), np.float32)
    np.testing.assert_array_equal(draw(sampler_of(coupling, times, tables)), draw(sampler_of(coupling, times, None)))


def test_one_step_with_potentials_is_the_markov_chain():
    """Everything in one step: a table for distance one is all that a chain needs, but for the prior and the first tokens."""
    tokens = sample_chain(np.random.default_rng(0), *CHAIN, 4096, L).astype(np.int32)
    plan = Plan(AT_ONCE, np.array([1.0, 0.0]), {})
    found = absorbing.with_potentials(MODEL, plan, tokens, sequence_keys(jax.random.key(0), len(tokens)))
    exact = -exact_log_prob(tokens[3072:], *CHAIN).mean()
    assert exact - 1e-3 < found.metrics["potential_nats"] < exact + 0.1
    assert found.metrics["independent_nats"] > exact + 2
    drawn = simulate(jax.random.key(2), MODEL, sampler_of(plan.coupling, plan.times, found.log_potential), 4096)
    pairs = np.bincount(
        (np.asarray(drawn.tokens)[:, :-1] * S + np.asarray(drawn.tokens)[:, 1:]).ravel(), minlength=S * S
    )
    wanted = np.bincount((tokens[:, :-1] * S + tokens[:, 1:]).ravel(), minlength=S * S)
    np.testing.assert_allclose(pairs / pairs.sum(), wanted / wanted.sum(), atol=0.01)


def test_a_large_vocabulary_gets_factors_that_find_the_chain():
    """The countdown chain's table has full rank, which factors of rank 16 hold for a vocabulary of four."""
    tokens = sample_chain(np.random.default_rng(0), *CHAIN, 4096, L).astype(np.int32)
    plan, keys = Plan(AT_ONCE, np.array([1.0, 0.0]), {}), sequence_keys(jax.random.key(0), 4096)
    found = absorbing.fit(MODEL, plan, tokens, keys, max_table=S - 1)
    exact = -exact_log_prob(tokens[3072:], *CHAIN).mean()
    assert exact - 1e-3 < found.nats < exact + 0.1
    assert found.independent_nats > exact + 2
    assert isinstance(found.log_potential, Factors) and found.log_potential.left_DSR.shape == (1, 4, S, 16)


@pytest.mark.parametrize("largest", [256, S - 1])
def test_noise_is_not_fitted(largest):
    """Independent tokens: unseen sequences refuse every table, and every pair of factors."""
    tokens = np.random.default_rng(1).integers(0, S, (64, L)).astype(np.int32)
    chain = (np.full(S, 1 / S), np.full((S, S), 1 / S))
    model = Diffusion.from_function(markov_log_posterior(PROCESS, *chain), PROCESS, "log_posterior")
    plan = Plan(*class_plan(np.array([0, 0, 1]), 2, PROCESS), {})
    found = absorbing.fit(model, plan, tokens, sequence_keys(jax.random.key(0), 64), max_table=largest)
    assert not any(np.any(part) for part in jax.tree.leaves(found.log_potential))
    assert found.nats == pytest.approx(found.independent_nats) == pytest.approx(L * np.log(S), rel=1e-4)
