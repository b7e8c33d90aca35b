"""Potentials of the uniform process: what they reach beyond the limit of independent tokens, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lsd_jax.distill.potentials import uniform
from lsd_jax.distill.problem import Plan
from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior, markov_log_posterior
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.uniform import Uniform
from lsd_jax.samplers.coupling import IID
from lsd_jax.samplers.kernel import transition_of
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.schedule import Step, neutral
from lsd_jax.tasks.chain_laws import countdown, sample_chain
from measurements.bigram import chain_kl, counted_chain

S, L = 3, 4
PROCESS = Uniform(S, LogLinear())
STATES = all_sequences(S, L)
N = len(STATES)


def enumerated(probs):
    """The exact model of a distribution (N,)."""
    return Diffusion.from_function(enumerated_log_posterior(PROCESS, probs, L), PROCESS, "log_posterior")


def hidden_chain():
    """A distribution (N,) of tokens that a hidden chain of six states shows in pairs, and sequences drawn from it.

    It is no first-order chain, so that a table of bigrams is not the language.
    """
    rng = np.random.default_rng(0)
    transition = 0.95 * np.eye(6)[[1, 2, 3, 4, 5, 0]] + 0.05 / 6
    probs = np.zeros(N)
    for index, sequence in enumerate(STATES):
        forward = np.full(6, 1 / 6) * (np.arange(6) // 2 == sequence[0])
        for token in sequence[1:]:
            forward = forward @ transition * (np.arange(6) // 2 == token)
        probs[index] = forward.sum()
    return probs / probs.sum(), STATES[rng.choice(N, 1024, p=probs / probs.sum())].astype(np.int32)


def test_potentials_and_network_beat_either_alone():
    """Nats per unseen sequence in two steps, independent, with potentials, and of a table of bigrams with no network."""
    probs, tokens = hidden_chain()
    keys = sequence_keys(jax.random.key(0), len(tokens))
    plan = Plan(IID, np.array([1.0, 0.7, 0.0]), {})
    found = uniform.with_potentials(enumerated(probs), TWEEDIE, plan, tokens, keys)
    entropy = -(probs * np.log(probs)).sum()
    chain = counted_chain(tokens, S)
    alone = -(np.log(chain[0])[tokens[768:, 0]] + np.log(chain[1])[tokens[768:, :-1], tokens[768:, 1:]].sum(1)).mean()
    assert found.log_potential.shape == (2, 1, S, S) and found.log_potential[1].any()
    assert entropy - 0.1 < found.metrics["potential_nats"] < found.metrics["independent_nats"] - 0.1
    assert found.metrics["potential_nats"] < alone


def test_independent_tokens_gain_no_potentials():
    tokens = STATES[np.random.default_rng(0).choice(N, 64)].astype(np.int32)
    model = enumerated(np.full(N, 1 / N))
    plan = Plan(IID, np.array([1.0, 0.5, 0.0]), {})
    found = uniform.with_potentials(model, TWEEDIE, plan, tokens, sequence_keys(jax.random.key(0), 64))
    assert found.metrics["independent_nats"] - found.metrics["potential_nats"] < 0.02


def test_denoising_from_noise_with_a_table_is_the_markov_chain():
    """And so the last step of an optimal grid may start nearly at noise: its cost there is the chain's own."""
    process, length = Uniform(4, LogLinear()), 8
    chain = countdown(4, 0.05)
    tokens = sample_chain(np.random.default_rng(0), *chain, 2048, length).astype(np.int32)
    model = Diffusion.from_function(markov_log_posterior(process, *chain), process, "log_posterior")
    keys = sequence_keys(jax.random.key(0), len(tokens))
    judged = (tokens[1536:], keys[1536:])
    cost = uniform.denoising_cost(model, TWEEDIE, tokens, keys, judged)
    probs, rows, exact = chain[0], -(chain[1] * np.log(chain[1])).sum(1), -(chain[0] * np.log(chain[0])).sum()
    for _ in range(length - 1):
        exact, probs = exact + probs @ rows, probs @ chain[1]
    assert cost(np.array([1.0]))[0] == pytest.approx(exact, abs=0.35)
    assert (np.diff(cost(np.linspace(0.1, 1, 10))) > -0.3).all()
    assert chain_kl(chain, counted_chain(tokens, 4), length) < 0.03
    assert chain_kl(chain, chain, length) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("t", "u"), [(0.9, 0.5), (0.6, 0.0)])
def test_no_factorized_step_beats_the_exact_marginals(t, u):
    """The limit: a distribution of every position, free in every state of the bridge, ends at Tweedie's own path KL, inside
    the path and in the last step."""
    probs_N1 = jnp.asarray(np.random.default_rng(3).dirichlet(np.full(N, 0.2)), jnp.float32)[:, None]
    x_NL, at, to = jnp.asarray(STATES, jnp.int32), jnp.float32(t), jnp.float32(u)

    def from_data(x0_L):
        """The chance of every state at t, and the bridge's distribution of every position from there."""
        seen_N = PROCESS.marginal(x0_L, jnp.full(L, at))[jnp.arange(L)[None], x_NL].prod(1)
        bridge = PROCESS.bridge(x_NL, jnp.broadcast_to(x0_L, (N, L)), at, to)
        return seen_N, jnp.exp(bridge.log_distribution())

    seen_NN, bridge_NNLS = jax.lax.map(from_data, x_NL)
    entropy_NN = jax.scipy.special.xlogy(bridge_NNLS, bridge_NNLS).sum((2, 3))

    @jax.jit
    def path_kl(logits_NLS):
        cross_NN = jnp.einsum("dnls,nls->dn", bridge_NNLS, jax.nn.log_softmax(logits_NLS))
        return (probs_N1 * seen_NN * (entropy_NN - cross_NN)).sum()

    own = transition_of(TWEEDIE, enumerated(probs_N1[:, 0]), x_NL, Step(at, to, neutral()), u == 0).log_distribution()
    tweedie = float(path_kl(own))
    assert float(jnp.abs(jax.grad(path_kl)(own)).max()) < 1e-4  # stationary, of a convex function
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 1500))

    @jax.jit
    def optimized(start_NLS):
        def step(state, _):
            value, moments = state
            updates, moments = optimizer.update(jax.grad(path_kl)(value), moments)
            return (optax.apply_updates(value, updates), moments), None

        return jax.lax.scan(step, (start_NLS, optimizer.init(start_NLS)), None, 1500)[0][0]

    start_NLS = jax.random.normal(jax.random.key(0), (N, L, S))
    assert float(path_kl(start_NLS)) > tweedie + 0.3
    assert tweedie - 1e-4 < float(path_kl(optimized(start_NLS))) < tweedie + 0.02
