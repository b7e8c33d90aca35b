"""Effective transition, LSD+: step sizes kappa_k beside the coefficients (Fu et al. 2025, eq. 7 and 8, algorithm 2).

As printed the teacher's term is its own one-step size (1 - eps) / N times s*, whose minimum drives every kappa to the
teacher's step (`literal`). The consistent form sums the teacher's steps over the student's interval: kappa_k R(x_k, tau_k)
against the integral of the teacher's rate R* from tau_k to tau_k+1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.distill.objectives import score_alignment
from lsd_jax.distill.objectives.objective import Objective
from lsd_jax.distill.objectives.score_alignment import distance, scaled_score, scores_at, student_states
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import Student, frozen
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.errors import InputError
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import AnyKernel

_FINE = 64  # points of the teacher's path that the integral is taken over


class Batch(NamedTuple):
    """What score alignment reads, the teacher's rates (P, F + 1, L, S) integrated to F + 1 falling times, its step (P,)."""

    aligned: score_alignment.Aligned
    integrals: jax.Array
    teacher_step: jax.Array


def prepare(student: Student, model: Diffusion, paths: TeacherPaths, settings: OptimizeSettings) -> Batch:
    """The teacher at the student's times, and its rates integrated from time 1.

    Raises:
        ValueError: scores too large to keep for all paths and times.
    """
    aligned = score_alignment.prepare(student, model, paths, settings)
    if aligned.log_scores is None:
        raise InputError(
            f"objective='effective_transition': keeps scores of {len(paths.states)} paths, "
            f"{paths.tokens.shape[1]} positions and {model.process.vocab_size} tokens at {student.steps} and more times, over a "
            "gigabyte; lower the teacher's paths, or choose objective='score_alignment' or 'path_kl'"
        )
    index = np.round(np.linspace(0, paths.steps, min(_FINE, paths.steps) + 1)).astype(int)
    states, times = paths.states[:, index[:-1]].astype(np.int32), jnp.asarray(paths.time_grid[index])
    log_scores = scores_at(model, states, times[:-1])

    def rate(x_BL, log_score_BLS, t):
        return _unscaled(model.process, x_BL, log_score_BLS, t) * model.process.noise.sigma(t)

    rates = jax.vmap(rate, (1, 1, 0), 1)(jnp.asarray(states), log_scores, times[:-1])
    steps = rates * (times[:-1] - times[1:])[None, :, None, None]
    integrals = jnp.cumsum(jnp.pad(steps, ((0, 0), (1, 0), (0, 0), (0, 0))), 1)
    return Batch(aligned, integrals, jnp.full(len(states), 1 / paths.steps))


def loss(
    student: Student, model: Diffusion, batch: Batch, step: jax.Array, settings: OptimizeSettings
) -> tuple[jax.Array, dict]:
    """Eq. 6 moves the coefficients, plus eq. 8, which moves the step sizes."""
    process, alignment = model.process, settings.alignment
    mismatch, aux = score_alignment.loss(student, model, batch.aligned, step, settings)
    held = frozen(student, "log_coefficient", "log_temperature")
    states, log_scores = student_states(held, model, batch.aligned, step, settings)
    schedule, grid = held.schedule(), held.time_grid
    kappa_M, fine = grid[:-1] - grid[1:], batch.integrals.shape[1] - 1
    total = 0.0
    for k in range(student.steps):
        t = jax.lax.stop_gradient(grid[k])
        log_score_BLS = schedule.step(k).params.scale(process.masked(states[k], log_scores[k]))
        if alignment.literal:
            own = kappa_M[k] * scaled_score(process, states[k], log_score_BLS, t)
            teacher = scaled_score(process, batch.aligned.states[:, k], batch.aligned.log_scores[:, k], t)
            target = teacher * batch.teacher_step[:, None, None]
        else:
            own = kappa_M[k] * process.noise.sigma(t) * _unscaled(process, states[k], log_score_BLS, t)
            target = _at(batch.integrals, grid[k + 1], fine) - _at(batch.integrals, grid[k], fine)
        total += distance(alignment.distance, own, target)
    return mismatch + total, {**aux, "transition": total}


def _unscaled(process, x, log_score_BLS, t):
    score = scaled_score(process, x, log_score_BLS, t)
    return score / jnp.expm1(process.noise.sigma_bar(t)) if process.jumps_once else score


def _at(integrals, t, fine):
    """The integral at time t, linear between the fine times, differentiable in t."""
    place = (1 - t) * fine
    left = jnp.clip(jnp.floor(jax.lax.stop_gradient(place)).astype(jnp.int32), 0, fine - 1)
    below, above = jnp.take(integrals, left, 1), jnp.take(integrals, left + 1, 1)
    return below + (place - left) * (above - below)


def check(settings: OptimizeSettings, process: Process, kernel: AnyKernel, coupling: Coupling) -> None:
    """Raises ValueError where the kernel is not Euler's, or as score alignment."""
    if kernel.name != "euler":
        raise InputError(
            f"objective='effective_transition': matches Euler's transitions; kernel {kernel.name!r} is not 'euler'"
        )
    score_alignment.check(settings, process, kernel, coupling)


EFFECTIVE_TRANSITION = Objective("effective_transition", prepare, loss, check=check)
