"""Forward and reverse path KL, and the mix of them, against sums over every path of a tiny chain."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.distill.objectives.registry import get_objective
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import Student, init_student
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import transition_of
from lsd_jax.samplers.kernels.tweedie import TWEEDIE

S, L, M, P = 2, 2, 3, 8192
PROBS = np.array([0.5, 0.05, 0.15, 0.3], np.float32)
PROCESS = Absorbing(S, LogLinear())
MODEL = Diffusion.from_function(enumerated_log_posterior(PROCESS, PROBS, L), PROCESS, "log_posterior")
DATA, STATES = all_sequences(S, L), all_sequences(S + 1, L)
COEFFICIENTS, TEMPERATURES = (0.3, -0.4, 0.0), (0.3, -0.4, 0.2)
SETTINGS = OptimizeSettings()


def student_of(coupling: str, coefficients=COEFFICIENTS) -> Student:
    start = init_student(TWEEDIE, Coupling(coupling), "score", M)
    return dataclasses.replace(start, log_coefficient=jnp.array(coefficients), log_temperature=jnp.array(TEMPERATURES))


def teacher_steps(grid: np.ndarray) -> list[np.ndarray]:
    """The teacher's exact transition matrices (9, 9): reveal times by the schedule, tokens by their joint distribution."""
    masked = STATES == S
    probs = np.array(
        [PROBS[[bool((hidden | (row == state)).all()) for row in DATA]].sum() for state, hidden in zip(STATES, masked)]
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
                    matrix[a, b] = time * probs[b] / probs[a]
        steps.append(matrix)
    return steps


def student_steps(student: Student) -> list[jax.Array]:
    """The student's log transition matrices (9, 9), -inf where it cannot go."""
    schedule, hidden = student.schedule(), jnp.asarray(STATES == S)
    possible = (hidden[:, None] | (STATES[:, None] == STATES[None])).all(-1)
    steps = []
    for k in range(M):
        ended = k == M - 1
        step = transition_of(TWEEDIE, MODEL.masked(), jnp.asarray(STATES), schedule.step(k), ended)
        stay = jnp.where(hidden, -1e30 if ended else step.log_stay_BL, 0.0)
        jump = 0.0 if ended else jnp.log(-jnp.expm1(jnp.minimum(step.log_stay_BL, -1e-30)))

        def column(after, step=step, stay=stay, jump=jump):
            after = jnp.broadcast_to(after, STATES.shape)
            moved = jump + step.destination_log_prob(after, after != step.x_BL)
            return jnp.where(hidden & (after != S), moved, stay).sum(-1)

        steps.append(jnp.where(possible, jax.vmap(column, out_axes=-1)(jnp.asarray(STATES)), -jnp.inf))
    return steps


def divergence(p_steps, q_steps) -> jax.Array:
    """KL of two Markov chains given by log transition matrices, both from all masks."""
    probs, total = jnp.zeros(len(STATES)).at[-1].set(1.0), 0.0
    for log_p, log_q in zip(p_steps, q_steps):
        p = jnp.exp(log_p)
        gap = jnp.where(p > 1e-12, jnp.where(p > 1e-12, log_p, 0.0) - jnp.where(p > 1e-12, log_q, 0.0), 0.0)
        total += probs @ (p * gap).sum(-1)
        probs = probs @ p
    return total


@functools.cache
def derivative():
    """The jitted (forward, reverse) path KL in nats and their gradients, as a function of coefficients and temperatures."""
    student = student_of("iid")
    with np.errstate(divide="ignore"):
        teacher = [jnp.asarray(np.log(matrix)) for matrix in teacher_steps(np.asarray(student.time_grid))]

    def both(c, t):
        own = student_steps(dataclasses.replace(student, log_coefficient=c, log_temperature=t))
        values = jnp.stack([divergence(teacher, own), divergence(own, teacher)])
        return values, values

    return jax.jit(jax.jacrev(both, argnums=(0, 1), has_aux=True))


def exact(coefficients=COEFFICIENTS) -> tuple[list[float], list[tuple[jax.Array, jax.Array]]]:
    """(forward, reverse) path KL in nats, and of each the gradient in coefficients and in temperatures."""
    jacobian, values = derivative()(jnp.array(coefficients), jnp.array(TEMPERATURES))
    return [float(value) for value in values], [tuple(part[index] for part in jacobian) for index in range(2)]


@functools.cache
def paths() -> TeacherPaths:
    tokens = DATA[np.random.default_rng(0).choice(len(DATA), P, p=PROBS)].astype(np.int32)
    keys = np.asarray(jax.random.key_data(sequence_keys(jax.random.key(1), P)))
    states = np.stack([np.full_like(tokens, S), tokens], 1)
    return TeacherPaths(states=states, key_data=keys, time_grid=np.array([1.0, 0.0]))


@functools.cache
def estimator(objective: str, coupling: str):
    """The jitted (value, gradients) of an objective over many draws, as a function of coefficients, temperatures and share."""
    objective, start = get_objective(objective), student_of(coupling)
    batch = objective.prepare(start, MODEL, paths(), SETTINGS)

    def value(c, t, share):
        settings = dataclasses.replace(SETTINGS, reverse_share=share)
        moved = dataclasses.replace(start, log_coefficient=c, log_temperature=t)
        return objective.loss(moved, MODEL, batch, 0, settings)[0]

    return jax.jit(jax.value_and_grad(value, argnums=(0, 1)))


def estimate(objective: str, student: Student, share: float = 0.5):
    """(value, gradient in coefficients, in temperatures)."""
    run = estimator(objective, student.coupling.name)
    return run(student.log_coefficient, student.log_temperature, share)


def entropy() -> float:
    return float(-(PROBS * np.log(PROBS)).sum())


@pytest.mark.parametrize(("objective", "index"), [("path_kl", 0), ("reverse_path_kl", 1)])
def test_divergences_are_the_enumerated_ones(objective, index):
    value, (by_coefficient, by_temperature) = estimate(objective, student_of("iid"))
    constant = entropy() if objective == "path_kl" else 0.0  # the teacher's own entropy is left out of the forward one
    values, gradients = exact()
    assert float(value) - constant == pytest.approx(values[index], abs=0.02)
    exact_coefficient, exact_temperature = gradients[index]
    assert np.abs(exact_coefficient[:2]).min() > 0.02 and np.abs(exact_temperature).max() > 0.02
    np.testing.assert_allclose(by_coefficient[:2], exact_coefficient[:2], atol=0.03)
    np.testing.assert_allclose(by_temperature, exact_temperature, atol=0.03)


def test_kept_thresholds_leave_the_tokens_part():
    """With coefficients of one, student and teacher reveal alike, and only tokens are left of the divergence."""
    plain = (0.0, 0.0, 0.0)
    value, (by_coefficient, by_temperature) = estimate("reverse_path_kl", student_of("shared", plain))
    values, gradients = exact(plain)
    assert float(value) == pytest.approx(values[1], abs=0.02)
    np.testing.assert_allclose(by_coefficient, 0, atol=1e-6)
    np.testing.assert_allclose(by_temperature, gradients[1][1], atol=0.03)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_mix_weighs_the_two(share):
    value, (_, by_temperature) = estimate("kl_mix", student_of("iid"), share)
    (forward, reverse), gradients = exact()
    expected = (1 - share) * (forward + entropy()) + share * reverse
    assert float(value) == pytest.approx(expected, abs=0.02)
    expected = (1 - share) * gradients[0][1] + share * gradients[1][1]
    np.testing.assert_allclose(by_temperature, expected, atol=0.03)
