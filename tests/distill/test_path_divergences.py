"""Forward and reverse path KL, and the dial between them, against sums over every path of a tiny chain."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs.common import base_config
from lsd_jax.distill.objectives import get_objective
from lsd_jax.distill.student import init_student
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.models.score_fn import oracle_score_model
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import legible, make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.kernel import denoise

S, L, M, P = 2, 2, 3, 8192
LAW = np.array([0.5, 0.05, 0.15, 0.3], np.float32)
PROCESS = make_process("absorbing", S, make_noise("loglinear"))
MODEL = oracle_score_model(PROCESS, enumerated_log_posterior(PROCESS, LAW, L))
DATA, STATES = all_sequences(S, L), all_sequences(S + 1, L)
COEFFICIENTS, TEMPERATURES = (0.3, -0.4, 0.0), (0.3, -0.4, 0.2)
SETTINGS = base_config().distill


def student_of(coupling: str, coefficients=COEFFICIENTS):
    start = init_student("tweedie", Coupling(coupling), "score", M)
    return dataclasses.replace(start, log_coefficient=jnp.array(coefficients), log_temperature=jnp.array(TEMPERATURES))


def teacher_steps(grid: np.ndarray) -> list[np.ndarray]:
    """The teacher's exact transition matrices (9, 9): reveal times by the schedule, tokens by their joint law."""
    masked = STATES == S
    law = np.array(
        [LAW[[bool((hidden | (row == state)).all()) for row in DATA]].sum() for state, hidden in zip(STATES, masked)]
    )
    share = np.append(np.asarray(PROCESS.mask_probability(np.asarray(grid[:-1], np.float32))), 0.0)
    steps = []
    for k in range(M):
        stay = share[k + 1] / share[k]
        matrix = np.zeros((len(STATES), len(STATES)))
        for a, before in enumerate(STATES):
            for b, after in enumerate(STATES):
                if (masked[a] | (before == after)).all():
                    time = np.where(masked[a], np.where(masked[b], stay, 1 - stay), 1.0).prod()
                    matrix[a, b] = time * law[b] / law[a]
        steps.append(matrix)
    return steps


def student_steps(student) -> list[jax.Array]:
    """The student's log transition matrices (9, 9), -inf where it cannot go."""
    kernel, schedule, grid = get_kernel(student.kernel), student.schedule(), student.time_grid
    hidden = jnp.asarray(STATES == S)
    possible = (hidden[:, None] | (STATES[:, None] == STATES[None])).all(-1)
    score_fn = lambda x, t: legible(PROCESS, x, MODEL.bind(())(x, t))  # noqa: E731
    steps = []
    for k in range(M):
        knobs = jax.tree.map(lambda leaf, k=k: leaf[k], schedule.knobs)
        if k == M - 1:
            step, ended = denoise(PROCESS, score_fn, jnp.asarray(STATES), grid[k], knobs), True
        else:
            step, ended = kernel.step(PROCESS, score_fn, jnp.asarray(STATES), grid[k], grid[k + 1], knobs), False
        stay = jnp.where(hidden, -1e30 if ended else step.log_stay_BL, 0.0)
        jump = 0.0 if ended else jnp.log(-jnp.expm1(jnp.minimum(step.log_stay_BL, -1e-30)))
        columns = []
        for after in STATES:
            after = jnp.broadcast_to(after, STATES.shape)
            moved = jump + step.destination_log_prob(after, after != step.x_BL)
            columns.append(jnp.where(hidden & (after != S), moved, stay).sum(-1))
        steps.append(jnp.where(possible, jnp.stack(columns, -1), -jnp.inf))
    return steps


def divergence(p_steps, q_steps) -> jax.Array:
    """KL of two Markov chains given by log transition matrices, both from all masks."""
    law, total = jnp.zeros(len(STATES)).at[-1].set(1.0), 0.0
    for log_p, log_q in zip(p_steps, q_steps):
        p = jnp.exp(log_p)
        gap = jnp.where(p > 1e-12, jnp.where(p > 1e-12, log_p, 0.0) - jnp.where(p > 1e-12, log_q, 0.0), 0.0)
        total += law @ (p * gap).sum(-1)
        law = law @ p
    return total


def exact(student) -> tuple[jax.Array, jax.Array]:
    """(forward, reverse) path KL in nats."""
    with np.errstate(divide="ignore"):
        teacher = [jnp.asarray(np.log(matrix)) for matrix in teacher_steps(np.asarray(student.time_grid))]
    own = student_steps(student)
    return divergence(teacher, own), divergence(own, teacher)


@functools.cache
def paths() -> TeacherPaths:
    tokens = DATA[np.random.default_rng(0).choice(len(DATA), P, p=LAW)].astype(np.int32)
    keys = np.asarray(jax.random.key_data(sequence_keys(jax.random.key(1), P)))
    states = np.stack([np.full_like(tokens, S), tokens], 1)
    return TeacherPaths(states=states, key_data=keys, time_grid=np.array([1.0, 0.0]))


def estimate(objective: str, student, settings=SETTINGS):
    """(value, gradient in coefficients, in temperatures) of an objective over many draws."""
    objective = get_objective(objective)
    batch = objective.prepare(student, PROCESS, MODEL, paths(), settings)

    @jax.jit
    def value(c, t):
        moved = dataclasses.replace(student, log_coefficient=c, log_temperature=t)
        return objective.loss(moved, PROCESS, MODEL, (), batch, 0, settings)[0]

    return jax.value_and_grad(value, argnums=(0, 1))(student.log_coefficient, student.log_temperature)


def gradients(student, index: int):
    def value(c, t):
        return exact(dataclasses.replace(student, log_coefficient=c, log_temperature=t))[index]

    return jax.grad(value, argnums=(0, 1))(student.log_coefficient, student.log_temperature)


def entropy() -> float:
    return float(-(LAW * np.log(LAW)).sum())


@pytest.mark.parametrize(("objective", "index"), [("path_kl", 0), ("reverse_path_kl", 1)])
def test_divergences_are_the_enumerated_ones(objective, index):
    student = student_of("iid")
    value, (by_coefficient, by_temperature) = estimate(objective, student)
    constant = entropy() if objective == "path_kl" else 0.0  # the teacher's own entropy is left out of the forward one
    assert float(value) - constant == pytest.approx(float(exact(student)[index]), abs=0.02)
    exact_coefficient, exact_temperature = gradients(student, index)
    assert np.abs(exact_coefficient[:2]).min() > 0.02 and np.abs(exact_temperature).max() > 0.02
    np.testing.assert_allclose(by_coefficient[:2], exact_coefficient[:2], atol=0.03)
    np.testing.assert_allclose(by_temperature, exact_temperature, atol=0.03)


def test_kept_thresholds_leave_the_tokens_part():
    """With coefficients of one, student and teacher reveal alike, and only tokens are left of the divergence."""
    student = student_of("shared", coefficients=(0.0, 0.0, 0.0))
    value, (by_coefficient, by_temperature) = estimate("reverse_path_kl", student)
    assert float(value) == pytest.approx(float(exact(student)[1]), abs=0.02)
    np.testing.assert_allclose(by_coefficient, 0, atol=1e-6)
    np.testing.assert_allclose(by_temperature, gradients(student, 1)[1], atol=0.03)


@pytest.mark.parametrize("precision", [0.0, 0.3, 1.0])
def test_the_dial_weighs_the_two(precision):
    student = student_of("iid")
    settings: ml_collections.ConfigDict = SETTINGS.copy_and_resolve_references()
    settings.precision = precision
    forward, reverse = exact(student)
    value, (_, by_temperature) = estimate("dial", student, settings)
    expected = (1 - precision) * (float(forward) + entropy()) + precision * float(reverse)
    assert float(value) == pytest.approx(expected, abs=0.02)
    expected = (1 - precision) * gradients(student, 0)[1] + precision * gradients(student, 1)[1]
    np.testing.assert_allclose(by_temperature, expected, atol=0.03)
