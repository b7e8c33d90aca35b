"""Potentials between tokens revealed in one step: an exact law, an exact fit, and a student that carries them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.data.chain import sample_chain
from lsd_jax.data.countdown import transition_matrix
from lsd_jax.distill import artefact, neighbours
from lsd_jax.distill.plan import Plan, class_plan
from lsd_jax.distill.student import init_student
from lsd_jax.metrics.bound import m_step_nll
from lsd_jax.metrics.chain import exact_log_prob
from lsd_jax.models.oracle import markov_log_posterior
from lsd_jax.models.score_fn import oracle_score_model
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.simulate import simulate
from lsd_jax.samplers.transition import nearest_left

S, L = 4, 6
PROCESS = make_process("absorbing", S, make_noise("loglinear"))
CHAIN = transition_matrix(S, 0.05)
MODEL = oracle_score_model(PROCESS, markov_log_posterior(PROCESS, *CHAIN))
SCORE = MODEL.bind(())
STATES = np.array(list(itertools.product(range(S), repeat=L)), np.int32)


def student_of(coupling, times, seed=0):
    tables = np.random.default_rng(seed).normal(size=(len(times) - 1, 3, S, S)).astype(np.float32)
    return init_student("tweedie", coupling, "score", len(times) - 1, times, 1.0, tables)


def test_nearest_left_is_the_last_jump_before():
    jump = jnp.array([[True, False, True, True, False, True]])
    distance, left = nearest_left(jump)
    np.testing.assert_array_equal(distance, [[0, 1, 2, 1, 1, 2]])
    np.testing.assert_array_equal(left, [[0, 0, 0, 2, 3, 3]])


@pytest.mark.parametrize("classes", [(0,), (0, 0, 1), (0, 2, 1)])
def test_the_bound_is_a_law(classes):
    """With one key the order is fixed: the bound is then exact, and sums to one."""
    steps = max(classes) + 1
    student = student_of(*class_plan(np.array(classes), steps, PROCESS))
    schedule, kernel, key = student.schedule(), get_kernel("tweedie"), jax.random.key(3)
    keys = jnp.broadcast_to(key, (len(STATES),))
    nll = m_step_nll(keys, PROCESS, kernel, SCORE, schedule, student.coupling, jnp.asarray(STATES))
    law = np.exp(-np.asarray(nll, np.float64))
    assert law.sum() == pytest.approx(1, abs=1e-4)


def test_samples_follow_the_law():
    """In one step there is no order to average over: the enumerated law is the sampler's."""
    student, count = student_of(Coupling("low_discrepancy", "pattern", (0,)), np.array([1.0, 0.0])), 40_000
    settings = (PROCESS, get_kernel("tweedie"), SCORE, student.schedule(), student.coupling)
    law = np.exp(-np.asarray(m_step_nll(sequence_keys(jax.random.key(3), len(STATES)), *settings, jnp.asarray(STATES))))
    drawn = np.asarray(simulate(jax.random.key(5), *settings, count, L).tokens)
    observed = np.bincount(drawn @ S ** np.arange(L)[::-1], minlength=len(STATES)) / count
    chi_square = count * ((observed - law) ** 2 / law).sum()
    assert chi_square < len(STATES) + 5 * np.sqrt(2 * len(STATES))


def test_zero_potentials_change_no_draw():
    coupling, times = class_plan(np.array([0, 0, 1]), 2, PROCESS)
    tables = np.zeros((2, 3, S, S), np.float32)
    settings = (PROCESS, get_kernel("tweedie"), SCORE)

    def draw(log_neighbour):
        schedule = init_student("tweedie", coupling, "score", 2, times, 1.0, log_neighbour).schedule()
        return simulate(jax.random.key(1), *settings, schedule, coupling, 64, L).tokens

    np.testing.assert_array_equal(draw(tables), draw(None))


def test_one_step_with_potentials_is_the_markov_chain():
    """Everything in one step: a table for distance one is all that a chain needs, but for the prior and the first tokens."""
    tokens = sample_chain(np.random.default_rng(0), *CHAIN, 4096, L).astype(np.int32)
    plan = Plan(Coupling("low_discrepancy", "pattern", (0,)), np.array([1.0, 0.0]), {})
    found = neighbours.with_neighbours(PROCESS, MODEL, plan, 1, tokens, sequence_keys(jax.random.key(0), len(tokens)))
    exact = -exact_log_prob(tokens[3072:], *CHAIN).mean()
    assert exact - 1e-3 < found.metrics["neighbour_nats"] < exact + 0.1
    assert found.metrics["independent_nats"] > exact + 2
    student = init_student("tweedie", plan.coupling, "score", 1, plan.times, 1.0, found.log_neighbour)
    drawn = simulate(
        jax.random.key(2), PROCESS, get_kernel("tweedie"), SCORE, student.schedule(), plan.coupling, 4096, L
    )
    pairs = np.bincount(
        (np.asarray(drawn.tokens)[:, :-1] * S + np.asarray(drawn.tokens)[:, 1:]).ravel(), minlength=S * S
    )
    wanted = np.bincount((tokens[:, :-1] * S + tokens[:, 1:]).ravel(), minlength=S * S)
    np.testing.assert_allclose(pairs / pairs.sum(), wanted / wanted.sum(), atol=0.01)


def test_noise_is_not_fitted():
    """Independent tokens: unseen sequences refuse every table."""
    rng = np.random.default_rng(1)
    law = (np.full(S, 1 / S), np.full((S, S), 1 / S))
    tokens = rng.integers(0, S, (64, L)).astype(np.int32)
    model = oracle_score_model(PROCESS, markov_log_posterior(PROCESS, *law))
    plan = Plan(*class_plan(np.array([0, 0, 1]), 2, PROCESS), {})
    found = neighbours.fit(PROCESS, model, plan, tokens, sequence_keys(jax.random.key(0), 64))
    assert not found.log_neighbour.any()
    assert found.nats == pytest.approx(found.independent_nats) == pytest.approx(L * np.log(S), rel=1e-4)


def test_the_artefact_carries_them(tmp_path):
    student = student_of(*class_plan(np.array([0, 0, 1]), 2, PROCESS))
    record = artefact.to_record(student, PROCESS, L, {}, {}, {})
    artefact.write(tmp_path / "student.json", record)
    schedule, coupling = artefact.schedule_of(artefact.read(tmp_path / "student.json"))
    np.testing.assert_allclose(schedule.knobs.log_neighbour, student.log_neighbour, atol=1e-4)
    assert coupling == student.coupling
    record["neighbours"][0]["log_potential"] = [[0.0]]
    artefact.write(tmp_path / "bad.json", record)
    with pytest.raises(ValueError, match="neighbours"):
        artefact.read(tmp_path / "bad.json")
