"""Score alignment, LSD: Phi_k s_k should equal the teacher's s*_k (Fu et al. 2025, eq. 5 and 6, algorithm 1).

The relaxed objective (eq. 9 and 10) starts the student from a prior state within Hamming distance `radius` L of the
teacher's, in training only. With independent noise the minimizer of the squared distance is the chance that two independent
mask patterns overlap (docs/design.md); shared noise lets the student read the teacher's own uniforms.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.distill.objectives.objective import Objective
from lsd_jax.distill.relaxed import relaxed_rollout
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import Student, frozen
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.errors import InputError
from lsd_jax.keys import PathStream
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.processes.soft import hard_tokens
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import AnyKernel, Kernel
from lsd_jax.samplers.simulate import simulate

DISTANCES = ("l2", "kl")
NOISES = ("shared", "independent")
GRADIENTS = ("detached", "unrolled")


_CACHED_BYTES = 2**30  # of the teacher's log-scores; more are computed again in every gradient step


class Aligned(NamedTuple):
    """The teacher at the student's times: path keys (P, 2), states (P, M, L), log-scores (P, M, L, S) or None."""

    key_data: jax.Array
    states: jax.Array
    log_scores: jax.Array | None


def prepare(student: Student, model: Diffusion, paths: TeacherPaths, settings: OptimizeSettings) -> Aligned:
    """The teacher's states at the student's times and their log-scores."""
    del settings
    grid = student.time_grid
    states = paths.states[:, paths.index_of(np.asarray(grid[:-1]))].astype(np.int32)
    cached = states.size * model.process.vocab_size * 4 <= _CACHED_BYTES
    log_scores = scores_at(model, states, grid[:-1]) if cached else None
    return Aligned(jnp.asarray(paths.key_data), jnp.asarray(states), log_scores)


def loss(
    student: Student, model: Diffusion, batch: Aligned, step: jax.Array, settings: OptimizeSettings
) -> tuple[jax.Array, dict]:
    """sum_k w_k d(Phi_k s_k, s*_k), per sequence, with w_k = expm1(sigma_bar(tau_k))^2 for the squared distance.

    "detached" is the paper's gradient, every term moves its own coefficient; "unrolled" goes through the student's path.
    """
    held, process = frozen(student, "step_logits", "log_temperature"), model.process
    states, log_scores = student_states(held, model, batch, step, settings)
    schedule = held.schedule()

    @jax.checkpoint  # one step's scores at a time, in the backward pass too
    def mismatch(inputs):
        x, log_score_BLS, t, teacher_x_BL, teacher_BLS, params = inputs
        log_score_BLS = model.log_score(x, t) if log_score_BLS is None else log_score_BLS
        teacher_BLS = model.log_score(teacher_x_BL, t) if teacher_BLS is None else teacher_BLS
        own = scaled_score(process, x, params.scale(process.masked(x, log_score_BLS)), t)
        target = scaled_score(process, teacher_x_BL, teacher_BLS, t)
        return distance(settings.alignment.distance, own, target)

    teacher = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), (batch.states, batch.log_scores))
    by_step_M = jax.lax.map(mismatch, (states, log_scores, schedule.time_grid[:-1], *teacher, schedule.params))
    return by_step_M.sum(), {"mismatch": by_step_M.mean()}


def student_states(
    student: Student, model: Diffusion, batch: Aligned, step: jax.Array, settings: OptimizeSettings
) -> tuple[jax.Array, jax.Array | None]:
    """The student's states at its M times, tokens (M, B, L) or soft ones (M, B, L, S'), and their log-scores, or None.

    Only "unrolled" lets gradients through them. Log-scores that are not kept for the teacher are not kept here either.
    """
    alignment, length = settings.alignment, batch.states.shape[-1]
    key_B = jax.random.wrap_key_data(batch.key_data)
    if alignment.noise == "independent":
        key_B = jax.vmap(lambda key: jax.random.fold_in(key, 1 + step))(key_B)
    start_BL = perturbed_prior(key_B, model.process, batch.states[:, 0], int(alignment.radius * length))
    if alignment.gradient == "unrolled":
        return relaxed_rollout(key_B, model, student.sampler(length), start_BL)
    own = jax.lax.stop_gradient(student.sampler(length))
    states = simulate(key_B, model, own, len(key_B), keep_states=True, start_BL=start_BL).states[:-1]
    if batch.log_scores is None:
        return states, None
    return states, jax.lax.map(lambda pair: model.log_score(*pair), (states, own.schedule.time_grid[:-1]))


def perturbed_prior(key_B: jax.Array, process: Process, teacher_BL: jax.Array, radius: int) -> jax.Array:
    """Prior states (B, L), up to `radius` positions of each replaced by random data tokens (eq. 9).

    Where positions jump once they have the lengths of the teacher's sequences, and a pad stays one.
    """
    length = teacher_BL.shape[1]

    def one(key, teacher_L):
        key_prior, key_count, key_place, key_token = jax.random.split(jax.random.fold_in(key, int(PathStream.LAST)), 4)
        prior_L = process.start(teacher_L) if process.jumps_once else process.prior_sample(key_prior, (length,))
        count = jax.random.randint(key_count, (), 0, radius + 1)
        chosen_L = jax.random.permutation(key_place, length) < count
        if process.longest is not None:
            chosen_L = chosen_L & (prior_L == process.mask)
        tokens = process.vocab_size if process.longest is None else process.pad
        return jnp.where(chosen_L, jax.random.randint(key_token, (length,), 0, tokens), prior_L)

    return jax.vmap(one)(key_B, teacher_BL)


def scaled_score(process: Process, x, log_score_BLS: jax.Array, t: jax.Array) -> jax.Array:
    """exp(log-score) where the process reads it, zero elsewhere; x are tokens (B, L) or soft tokens (B, L, S').

    Absorbing: both scores hold 1 / expm1(sigma_bar(t)), huge near t = 0; it is taken out, so that every step weighs alike.
    Gaussian: times the base rate, which says how much of a score is read.
    """
    if process.ordered:
        tokens = hard_tokens(x)
        return process.reverse_base_rate(tokens) * jnp.exp(process.log_concrete_score(log_score_BLS, tokens, t))
    if not process.jumps_once:
        return jnp.exp(log_score_BLS)
    masked = x[..., process.mask] if x.ndim == 3 else (x == process.mask).astype(jnp.float32)
    read_BLS = process.masked(x, log_score_BLS)
    return masked[..., None] * jnp.exp(read_BLS + jnp.log(jnp.expm1(process.noise.sigma_bar(t))))


def distance(name: str, own_BLS: jax.Array, target_BLS: jax.Array) -> jax.Array:
    """The mean over sequences of the squared distance, or of the KL divergence of positive measures."""
    if name == "l2":
        return ((own_BLS - target_BLS) ** 2).sum((1, 2)).mean()
    # Where the masks of the two differ the logarithm has no value; the masses still count.
    both = (own_BLS > 0) & (target_BLS > 0)
    ratio = jnp.where(both, target_BLS, 1.0) / jnp.where(both, own_BLS, 1.0)
    return (jnp.where(both, target_BLS, 0.0) * jnp.log(ratio) - target_BLS + own_BLS).sum((1, 2)).mean()


def scores_at(model: Diffusion, states_PML: np.ndarray, time_M: jax.Array) -> jax.Array:
    """The network's log-scores (P, M, L, S) at given states and times, sharded over the devices."""
    mesh = parallel.data_mesh()

    def local(replicated, states_BML):
        model, time_M = replicated
        rows = jax.lax.map(lambda pair: model.log_score(*pair), (jnp.swapaxes(states_BML, 0, 1), time_M))
        return jnp.swapaxes(rows, 0, 1)

    batch = parallel.shard_global(states_PML, mesh)
    return jax.jit(parallel.map_over_data(local, mesh))((model, time_M), batch)


def check(settings: OptimizeSettings, process: Process, kernel: AnyKernel, coupling: Coupling) -> None:
    """Raises ValueError where a setting is unknown, or unrolled gradients meet steps of several stages."""
    del process, coupling
    alignment = settings.alignment
    for field, choices in (("distance", DISTANCES), ("noise", NOISES), ("gradient", GRADIENTS)):
        if getattr(alignment, field) not in choices:
            raise InputError(f"alignment.{field}={getattr(alignment, field)!r}: choose one of {choices}")
    if not 0 <= alignment.radius <= 1:
        raise InputError(f"alignment.radius={alignment.radius}: is a share of the positions, 0 to 1")
    if alignment.gradient == "unrolled" and not isinstance(kernel, Kernel):
        raise InputError(
            f"alignment.gradient='unrolled': goes through steps of one stage; kernel {kernel.name!r} has more"
        )


SCORE_ALIGNMENT = Objective("score_alignment", prepare, loss, check=check)
