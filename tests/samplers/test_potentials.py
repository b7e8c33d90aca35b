"""Steps of the uniform process whose tokens depend on each other: an exact distribution, its samples, its ELBO."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.keys import sequence_keys
from lsd_jax.samplers.kernel import transition_of
from lsd_jax.samplers.likelihood import m_step_nll
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import Schedule, Step, StepParameters, uniform_schedule
from tests.samplers.enumeration import draw, frequencies, oracle

S, L, M = 3, 3, 3
STATES = np.array(list(itertools.product(range(S), repeat=L)), np.int32)
N = len(STATES)
MODEL = oracle("uniform", np.random.default_rng(0).dirichlet(np.full(N, 0.3)), S, L)
PROCESS, KERNEL = MODEL.process, get_kernel("tweedie")
TABLES = jnp.asarray(np.random.default_rng(1).normal(size=(M, 1, S, S)), jnp.float32)
GRID = jnp.asarray([1.0, 0.6, 0.25, 0.0], jnp.float32)
COUPLED = Sampler(Schedule(GRID, StepParameters(jnp.zeros(M), jnp.zeros(M), "score", TABLES)), KERNEL, length=L)


@pytest.fixture(scope="module")
def matrices():
    """The distribution (N, N) of every step from every state to every state."""
    start, following = jnp.asarray(np.repeat(STATES, N, 0)), jnp.asarray(np.tile(STATES, (N, 1)))

    @jax.jit
    def log_probs():
        steps = [transition_of(KERNEL, MODEL, start, COUPLED.schedule.step(k), k == M - 1) for k in range(M)]
        return [step.log_prob(following).sum(1) for step in steps]

    return [np.exp(np.asarray(found, np.float64)).reshape(N, N) for found in log_probs()]


def marginal(x0, t):
    """q(x_t | x_0) (N,) over all states."""
    return np.prod(np.asarray(PROCESS.marginal(jnp.asarray(x0), jnp.full(L, t, jnp.float32)))[np.arange(L), STATES], 1)


def index(tokens):
    return np.asarray(tokens) @ S ** np.arange(L)[::-1]


def test_the_distribution_of_a_step_sums_to_one(matrices):
    for matrix in matrices:
        np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)


def test_samples_follow_the_enumerated_distribution_of_all_steps(matrices):
    law = np.full(N, 1 / N)
    for matrix in matrices:
        law = law @ matrix
    count = 40_000
    observed = frequencies(draw(jax.random.key(5), MODEL, COUPLED, count).tokens, S)
    assert count * ((observed - law) ** 2 / law).sum() < N + 5 * np.sqrt(2 * N)
    independent = draw(jax.random.key(5), MODEL, Sampler(uniform_schedule(M), KERNEL, length=L), count).tokens
    assert count * ((frequencies(independent, S) - law) ** 2 / law).sum() > 10 * N


def enumerated_elbo(x0, matrices):
    """The ELBO of one sequence, every step a sum over all states that the bridge visits and goes to."""
    total = L * np.log(S) + (marginal(x0, 1.0) * np.log(marginal(x0, 1.0))).sum()
    for k, (t, u) in enumerate(zip(np.asarray(GRID)[:-1], np.asarray(GRID)[1:])):
        x0_NL = jnp.asarray(np.tile(x0, (N, 1)))
        bridge = PROCESS.bridge(jnp.asarray(STATES), x0_NL, jnp.float32(t), jnp.float32(u))
        single_NLS = np.exp(np.asarray(bridge.log_distribution(), np.float64))
        to = np.prod(single_NLS[:, np.arange(L), STATES], -1) if k < M - 1 else np.eye(N)[index(x0)][None].repeat(N, 0)
        costs = np.where(to > 1e-12, to * np.log(np.where(to > 1e-12, to, 1) / matrices[k]), 0).sum(1)
        total += (marginal(x0, t) * costs).sum()
    return total


def test_the_elbo_is_unbiased_and_lies_above_the_exact_likelihood(matrices):
    law = np.full(N, 1 / N)
    for matrix in matrices:
        law = law @ matrix
    draws = 2000
    keys, cost = sequence_keys(jax.random.key(3), draws), jax.jit(m_step_nll)
    for x0 in (STATES[0], STATES[5], STATES[17]):
        nll = np.asarray(cost(keys, MODEL, COUPLED, jnp.asarray(np.tile(x0, (draws, 1)))), np.float64)
        wanted = enumerated_elbo(x0, matrices)
        assert nll.mean() == pytest.approx(wanted, abs=4 * nll.std() / np.sqrt(draws) + 1e-4)
        assert wanted > -np.log(law[index(x0)])


def test_zero_potentials_change_no_divergence():
    x_NL, x0_NL = jnp.asarray(STATES), jnp.asarray(STATES[::-1].copy())
    bridge = PROCESS.bridge(x_NL, x0_NL, jnp.float32(0.6), jnp.float32(0.25))
    with_zeros, without = (
        KERNEL.transition(
            MODEL, x_NL, Step(GRID[1], GRID[2], StepParameters(jnp.zeros(()), jnp.zeros(()), "score", table))
        )
        for table in (jnp.zeros((1, S, S)), None)
    )
    np.testing.assert_allclose(with_zeros.kl_from(bridge), without.kl_from(bridge), atol=2e-5)
    np.testing.assert_allclose(with_zeros.log_prob(x0_NL), without.log_prob(x0_NL), atol=2e-5)
