"""Steps of the uniform process whose tokens depend on each other: an exact law, its samples, its bound."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.metrics.bound import m_step_nll
from lsd_jax.models.oracle import enumerated_log_posterior
from lsd_jax.models.score_fn import posterior_score_fn
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.bridge import bridge_transition, transition_kl
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.kernel import Knobs, denoise
from lsd_jax.samplers.simulate import Schedule, simulate, uniform_schedule

S, L, M = 3, 3, 3
STATES = np.array(list(itertools.product(range(S), repeat=L)), np.int32)
N = len(STATES)
PROCESS, KERNEL, IID = make_process("uniform", S, make_noise("loglinear")), get_kernel("tweedie"), Coupling("iid")
PROBS = np.random.default_rng(0).dirichlet(np.full(N, 0.3))
SCORE = posterior_score_fn(PROCESS, enumerated_log_posterior(PROCESS, PROBS, L))
TABLES = jnp.asarray(np.random.default_rng(1).normal(size=(M, 1, S, S)), jnp.float32)
GRID = jnp.asarray([1.0, 0.6, 0.25, 0.0], jnp.float32)
SCHEDULE = Schedule(GRID, Knobs(jnp.zeros(M), jnp.zeros(M), "score", TABLES))


def step(k, x_NL):
    knobs = Knobs(jnp.zeros(()), jnp.zeros(()), "score", TABLES[k])
    if k == M - 1:
        return denoise(PROCESS, SCORE, x_NL, GRID[k], knobs)
    return KERNEL.step(PROCESS, SCORE, x_NL, GRID[k], GRID[k + 1], knobs)


def matrix(k):
    """The law (N, N) of step k from every state to every state."""
    start = jnp.asarray(np.repeat(STATES, N, 0))
    following = jnp.asarray(np.tile(STATES, (N, 1)))
    return np.exp(np.asarray(step(k, start).log_prob(following).sum(1), np.float64)).reshape(N, N)


def marginal(x0, t):
    """q(x_t | x_0) (N,) over all states."""
    return np.prod(np.asarray(PROCESS.marginal(jnp.asarray(x0), jnp.full(L, t, jnp.float32)))[np.arange(L), STATES], 1)


def index(tokens):
    return np.asarray(tokens) @ S ** np.arange(L)[::-1]


def test_the_law_of_a_step_sums_to_one():
    for k in range(M):
        np.testing.assert_allclose(matrix(k).sum(1), 1, atol=1e-5)


def test_samples_follow_the_enumerated_law_of_all_steps():
    law = np.full(N, 1 / N)
    for k in range(M):
        law = law @ matrix(k)
    count = 40_000
    drawn = simulate(jax.random.key(5), PROCESS, KERNEL, SCORE, SCHEDULE, IID, count, L).tokens
    observed = np.bincount(index(drawn), minlength=N) / count
    assert count * ((observed - law) ** 2 / law).sum() < N + 5 * np.sqrt(2 * N)
    independent = simulate(jax.random.key(5), PROCESS, KERNEL, SCORE, uniform_schedule(M), IID, count, L).tokens
    assert count * ((np.bincount(index(independent), minlength=N) / count - law) ** 2 / law).sum() > 10 * N


def enumerated_bound(x0):
    """The bound of one sequence, every step a sum over all states that the bridge visits and goes to."""
    total = L * np.log(S) + (marginal(x0, 1.0) * np.log(marginal(x0, 1.0))).sum()
    for k, (t, u) in enumerate(zip(np.asarray(GRID)[:-1], np.asarray(GRID)[1:])):
        x0_NL = jnp.asarray(np.tile(x0, (N, 1)))
        bridge = bridge_transition(PROCESS, jnp.asarray(STATES), x0_NL, jnp.float32(t), jnp.float32(u))
        single_NLS = np.exp(np.asarray(bridge.log_law(), np.float64))
        to = np.prod(single_NLS[:, np.arange(L), STATES], -1) if k < M - 1 else np.eye(N)[index(x0)][None].repeat(N, 0)
        own = matrix(k)
        costs = np.where(to > 1e-12, to * np.log(np.where(to > 1e-12, to, 1) / own), 0).sum(1)
        total += (marginal(x0, t) * costs).sum()
    return total


def test_the_bound_is_unbiased_and_lies_above_the_exact_likelihood():
    law = np.full(N, 1 / N)
    for k in range(M):
        law = law @ matrix(k)
    draws = 2000
    for x0 in (STATES[0], STATES[5], STATES[17]):
        keys = sequence_keys(jax.random.key(3), draws)
        x0_BL = jnp.asarray(np.tile(x0, (draws, 1)))
        nll = np.asarray(m_step_nll(keys, PROCESS, KERNEL, SCORE, SCHEDULE, IID, x0_BL), np.float64)
        wanted = enumerated_bound(x0)
        assert nll.mean() == pytest.approx(wanted, abs=4 * nll.std() / np.sqrt(draws) + 1e-4)
        assert wanted > -np.log(law[index(x0)])


def test_zero_potentials_change_no_divergence():
    x_NL, x0_NL = jnp.asarray(STATES), jnp.asarray(STATES[::-1].copy())
    bridge = bridge_transition(PROCESS, x_NL, x0_NL, jnp.float32(0.6), jnp.float32(0.25))
    with_zeros, without = (
        KERNEL.step(PROCESS, SCORE, x_NL, GRID[1], GRID[2], Knobs(jnp.zeros(()), jnp.zeros(()), "score", table))
        for table in (jnp.zeros((1, S, S)), None)
    )
    np.testing.assert_allclose(transition_kl(bridge, with_zeros), transition_kl(bridge, without), atol=2e-5)
    np.testing.assert_allclose(with_zeros.log_prob(x0_NL), without.log_prob(x0_NL), atol=2e-5)
