"""Bridges against the processes' own matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.bridge import bridge_state
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.sampler import sampler
from tests.samplers.enumeration import draw

S, T, U = 4, 0.7, 0.3


def process_of(name):
    noise = make_noise("exponential", time_base=0.05) if name == "gaussian" else make_noise("loglinear")
    return make_process(name, S, noise, **({"rate_sigma": 2.0, "q_sigma": 3.0} if name == "gaussian" else {}))


def matrix(process, t, u):
    delta = float(process.noise.sigma_bar(jnp.float32(t)) - process.noise.sigma_bar(jnp.float32(u)))
    return scipy.linalg.expm(np.asarray(process.rate_matrix(), float) * delta)


@pytest.mark.parametrize("name", ["absorbing", "uniform", "gaussian"])
def test_one_step_of_a_bridge_is_bayes_rule(name):
    process = process_of(name)
    back, forward = matrix(process, U, 0.0), matrix(process, T, U)
    pairs = np.array(
        [(x, x0) for x0 in range(S) for x in range(process.num_states) if name != "absorbing" or x in (x0, S)]
    )
    bridge = jax.jit(lambda x, x0: process.bridge(x, x0, jnp.float32(T), jnp.float32(U)).probabilities())
    stay, jump = (np.asarray(part)[:, 0] for part in bridge(pairs[:, :1], pairs[:, 1:]))
    found = np.pad(jump, ((0, 0), (0, process.num_states - S)))
    found[np.arange(len(pairs)), pairs[:, 0]] += stay
    joint = back[pairs[:, 1]] * forward[:, pairs[:, 0]].T
    np.testing.assert_allclose(found, joint / joint.sum(1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("name", ["absorbing", "uniform", "gaussian"])
def test_states_have_the_marginal_and_forward_steps_the_matrix(name):
    process = process_of(name)
    keys, x0 = sequence_keys(jax.random.key(0), 20_000), jnp.tile(jnp.array([[2]]), (20_000, 1))
    state = np.asarray(jax.jit(lambda *given: bridge_state(given[0], process, IID, *given[1:]))(keys, x0, T))[:, 0]
    wanted = np.asarray(process.marginal(jnp.array(2), jnp.float32(T)))
    np.testing.assert_allclose(np.bincount(state, minlength=process.num_states) / len(state), wanted, atol=0.015)
    forward = matrix(process, T, U)
    every = jnp.arange(process.num_states)
    pairs = (
        jnp.broadcast_to(every[None], (process.num_states,) * 2),
        jnp.broadcast_to(every[:, None], (process.num_states,) * 2),
    )
    with np.errstate(divide="ignore"):
        log_prob = np.asarray(process.forward_log_prob(*pairs, jnp.float32(T), jnp.float32(U)))
    possible = forward > 1e-12
    np.testing.assert_allclose(np.exp(log_prob)[possible], forward[possible], atol=1e-5)


def test_a_bridge_with_a_samplers_keys_follows_its_path():
    process, coupling = process_of("absorbing"), Coupling("low_discrepancy")
    flat = Diffusion.from_function(
        lambda x, t: jnp.full((*x.shape, S), -np.log(S)), process, "log_posterior", time_conditioned=False
    )
    keys, euler = sequence_keys(jax.random.key(5), 16), sampler("euler", 8, coupling=coupling).bound_to(flat, 12)
    sample = draw(keys, flat, euler, 16, keep_states=True)
    bridge_of = jax.jit(lambda t: bridge_state(keys, process, coupling, sample.tokens, t))
    for k in range(8):
        bridge = bridge_of(euler.schedule.time_grid[k])
        assert (np.asarray(bridge) != np.asarray(sample.states[k])).mean() < 0.01  # float32 at a threshold


def test_kl_against_a_direct_sum():
    rng, x = np.random.default_rng(0), jnp.array([[0, 1, 2]])

    def make():
        log_stay = jnp.log(jnp.asarray(rng.uniform(0.1, 0.9, (1, 3))))
        return Transition(x, log_stay, jnp.asarray(rng.normal(size=(1, 3, S))))

    p, q = make(), make()
    found = np.asarray(q.kl_from(p))
    (p_stay, p_jump), (q_stay, q_jump) = (tuple(map(np.asarray, part.probabilities())) for part in (p, q))
    wanted = p_stay * np.log(p_stay / q_stay) + (p_jump * np.log(p_jump / q_jump)).sum(-1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    np.testing.assert_allclose(p.kl_from(p), 0, atol=1e-6)
