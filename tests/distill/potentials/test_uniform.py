"""Potentials of the uniform process: what they reach beyond the limit of independent tokens, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks.bigram import chain_kl, counted_chain
from lsd_jax.data.chain import sample_chain
from lsd_jax.data.countdown import transition_matrix
from lsd_jax.distill import artefact, redraws
from lsd_jax.distill.plan import Plan
from lsd_jax.distill.student import init_student
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior, markov_log_posterior
from lsd_jax.models.score_fn import oracle_score_model
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.bridge import bridge_transition
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.kernel import denoise, neutral_knobs

S, L = 3, 4
PROCESS, KERNEL, IID = make_process("uniform", S, make_noise("loglinear")), get_kernel("tweedie"), Coupling("iid")
STATES = all_sequences(S, L)
N = len(STATES)
KNOBS = jax.tree.map(lambda leaf: leaf[0], neutral_knobs(1))


def hidden_chain_law(seed=0):
    """A law (N,) of tokens that a hidden chain of six states shows in pairs: no first-order chain, so that a table of
    bigrams is not the language."""
    rng = np.random.default_rng(seed)
    transition = 0.95 * np.eye(6)[[1, 2, 3, 4, 5, 0]] + 0.05 / 6
    probs = np.zeros(N)
    for index, sequence in enumerate(STATES):
        forward = np.full(6, 1 / 6) * (np.arange(6) // 2 == sequence[0])
        for token in sequence[1:]:
            forward = forward @ transition * (np.arange(6) // 2 == token)
        probs[index] = forward.sum()
    return probs / probs.sum(), STATES[rng.choice(N, 1024, p=probs / probs.sum())].astype(np.int32)


def test_potentials_and_network_beat_either_alone():
    """Nats an unseen sequence in two steps, independent, with potentials, and of a table of bigrams with no network."""
    law, tokens = hidden_chain_law()
    model = oracle_score_model(PROCESS, enumerated_log_posterior(PROCESS, law, L))
    keys = sequence_keys(jax.random.key(0), len(tokens))
    plan = Plan(IID, np.array([1.0, 0.7, 0.0]), {})
    found = redraws.with_redraws(PROCESS, KERNEL, model, plan, tokens, keys)
    entropy = -(law * np.log(law)).sum()
    chain = counted_chain(tokens, S)
    alone = -(np.log(chain[0])[tokens[768:, 0]] + np.log(chain[1])[tokens[768:, :-1], tokens[768:, 1:]].sum(1)).mean()
    assert found.log_neighbour.shape == (2, 1, S, S) and found.log_neighbour[1].any()
    assert entropy - 0.1 < found.metrics["neighbour_nats"] < found.metrics["independent_nats"] - 0.1
    assert found.metrics["neighbour_nats"] < alone


def test_independent_tokens_gain_no_potentials():
    law = np.full(N, 1 / N)
    tokens = STATES[np.random.default_rng(0).choice(N, 64)].astype(np.int32)
    model = oracle_score_model(PROCESS, enumerated_log_posterior(PROCESS, law, L))
    plan = Plan(IID, np.array([1.0, 0.5, 0.0]), {})
    found = redraws.with_redraws(PROCESS, KERNEL, model, plan, tokens, sequence_keys(jax.random.key(0), 64))
    assert found.metrics["independent_nats"] - found.metrics["neighbour_nats"] < 0.02


def test_denoising_from_noise_with_a_table_is_the_markov_chain():
    """And so the last step of an optimal grid may start nearly at noise: its cost there is the chain's own."""
    process, length = make_process("uniform", 4, make_noise("loglinear")), 8
    chain = transition_matrix(4, 0.05)
    tokens = sample_chain(np.random.default_rng(0), *chain, 2048, length).astype(np.int32)
    model = oracle_score_model(process, markov_log_posterior(process, *chain))
    keys = sequence_keys(jax.random.key(0), len(tokens))
    judged = (tokens[1536:], keys[1536:])
    cost = redraws.denoising_cost(process, KERNEL, model, tokens, keys, judged)
    law, rows, exact = chain[0], -(chain[1] * np.log(chain[1])).sum(1), -(chain[0] * np.log(chain[0])).sum()
    for _ in range(length - 1):
        exact, law = exact + law @ rows, law @ chain[1]
    assert cost(np.array([1.0]))[0] == pytest.approx(exact, abs=0.35)
    assert (np.diff(cost(np.linspace(0.1, 1, 10))) > -0.3).all()
    assert chain_kl(chain, counted_chain(tokens, 4), length) < 0.03
    assert chain_kl(chain, chain, length) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("t", "u"), [(0.9, 0.5), (0.6, 0.0)])
def test_no_factorised_step_beats_the_exact_marginals(t, u):
    """The limit: laws of every position, free in every state of the bridge, end at Tweedie's own path KL, inside the path
    and in the last step."""
    law_N1 = jnp.asarray(np.random.default_rng(3).dirichlet(np.full(N, 0.2)), jnp.float32)[:, None]
    score = oracle_score_model(PROCESS, enumerated_log_posterior(PROCESS, law_N1[:, 0], L)).bind(())
    x_NL, at, to = jnp.asarray(STATES, jnp.int32), jnp.float32(t), jnp.float32(u)

    def from_data(x0_L):
        """The chance of every state at t, and the bridge's law of every position from there."""
        seen_N = PROCESS.marginal(x0_L, jnp.full(L, at))[jnp.arange(L)[None], x_NL].prod(1)
        return seen_N, jnp.exp(bridge_transition(PROCESS, x_NL, jnp.broadcast_to(x0_L, (N, L)), at, to).log_law())

    seen_NN, bridge_NNLS = jax.lax.map(from_data, x_NL)
    entropy_NN = jax.scipy.special.xlogy(bridge_NNLS, bridge_NNLS).sum((2, 3))

    @jax.jit
    def path_kl(logits_NLS):
        cross_NN = jnp.einsum("dnls,nls->dn", bridge_NNLS, jax.nn.log_softmax(logits_NLS))
        return (law_N1 * seen_NN * (entropy_NN - cross_NN)).sum()

    own = KERNEL.step(PROCESS, score, x_NL, at, to, KNOBS) if u else denoise(PROCESS, score, x_NL, at, KNOBS)
    tweedie = float(path_kl(own.log_law()))
    assert float(jnp.abs(jax.grad(path_kl)(own.log_law())).max()) < 1e-4  # stationary, of a convex function
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 1500))

    @jax.jit
    def optimised(start_NLS):
        def step(state, _):
            value, moments = state
            updates, moments = optimizer.update(jax.grad(path_kl)(value), moments)
            return (optax.apply_updates(value, updates), moments), None

        return jax.lax.scan(step, (start_NLS, optimizer.init(start_NLS)), None, 1500)[0][0]

    start_NLS = jax.random.normal(jax.random.key(0), (N, L, S))
    assert float(path_kl(start_NLS)) > tweedie + 0.3
    assert tweedie - 1e-4 < float(path_kl(optimised(start_NLS))) < tweedie + 0.02


def test_the_artefact_carries_them_and_refuses_other_distances(tmp_path):
    tables = np.random.default_rng(0).normal(size=(2, 1, S, S)).astype(np.float32)
    student = init_student("tweedie", IID, "score", 2, np.array([1.0, 0.5, 0.0]), 1.0, tables)
    record = artefact.to_record(student, PROCESS, L, {}, {}, {})
    artefact.write(tmp_path / "student.json", record)
    schedule, _ = artefact.schedule_of(artefact.read(tmp_path / "student.json"))
    np.testing.assert_allclose(schedule.knobs.log_neighbour, tables, atol=1e-4)
    record["neighbours"][0]["distance"] = 2
    artefact.write(tmp_path / "bad.json", record)
    with pytest.raises(ValueError, match="neighbours"):
        artefact.read(tmp_path / "bad.json")
