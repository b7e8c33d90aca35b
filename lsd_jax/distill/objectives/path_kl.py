"""Forward path KL: the student's steps, teacher-forced, must explain the teacher's way (docs/design.md).

KL(teacher path || student path) up to the teacher's own entropy, which no student changes. It keeps diversity: what the
teacher does and the student never would costs without bound. Frozen network and forced states make the scores independent of
what is learned: where they fit into memory they are computed once, and a gradient step costs no network evaluation.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsd_jax import parallel
from lsd_jax.distill.objectives.objective import Objective
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import Student
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.bridge import bridge_state
from lsd_jax.samplers.kernel import transition_of

_CACHED_BYTES = 2**30  # log-scores kept instead of computed in every gradient step


class Forced(NamedTuple):
    """Teacher-forced states of paths: tokens (P, L), states (P, M, L), and their log-scores (P, M, L, S) or None."""

    tokens: jax.Array
    states: jax.Array
    log_scores: jax.Array | None


def prepare(student: Student, model: Diffusion, paths: TeacherPaths, settings: OptimizeSettings) -> Forced:
    """Bridges to the teacher's tokens at the student's own times, `settings.draws` of them for every path."""
    mesh, grid = parallel.data_mesh(), student.time_grid
    tokens, keys = paths.repeated(settings.draws)
    cached = len(tokens) * student.steps * tokens.shape[1] * model.process.vocab_size * 4 <= _CACHED_BYTES

    def local(replicated, batch):
        model, grid = replicated
        tokens_BL, key_B = batch

        def at(t):
            x_BL = bridge_state(key_B, model.process, student.coupling, tokens_BL, t)
            return x_BL, model.masked().log_score(x_BL, t) if cached else None

        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), jax.lax.map(at, grid[:-1]))

    batch = parallel.shard_global(tokens, mesh), parallel.shard_global(keys, mesh)
    states, log_scores = jax.jit(parallel.map_over_data(local, mesh))((model, grid), batch)
    return Forced(batch[0], states, log_scores)


def loss(
    student: Student, model: Diffusion, batch: Forced, step: jax.Array, settings: OptimizeSettings
) -> tuple[jax.Array, dict]:
    """The path KL plus a constant, nats per sequence, differentiable in coefficients and temperatures."""
    del step, settings
    kernel, schedule, process = student.kernel.stand_in, student.schedule(), model.process
    schedule = dataclasses.replace(schedule, time_grid=jax.lax.stop_gradient(schedule.time_grid))
    total = 0.0
    for k in range(student.steps):
        x_BL, now, last = batch.states[:, k], schedule.step(k), k == student.steps - 1
        if batch.log_scores is None:
            log_score_BLS = model.masked().log_score(x_BL, now.t)
        else:
            log_score_BLS = batch.log_scores[:, k]
        own = transition_of(kernel, model.frozen(log_score_BLS), x_BL, now, last)
        bridge = process.bridge(x_BL, batch.tokens, now.t, now.u)
        if process.jumps_once:
            following_BL = batch.tokens if last else batch.states[:, k + 1]
            cost_BL = _reveal_cost(process.mask, bridge, own, following_BL, last)
        else:
            cost_BL = own.kl_from(bridge)
        total += cost_BL.sum(-1).mean()
    return total, {"path_nll": total}


def _reveal_cost(mask: int, bridge: Transition, own: Transition, following_BL: jax.Array, last: bool) -> jax.Array:
    """-log p of what the coupling reveals next, and the divergence of how much is revealed, at masked positions."""
    masked_BL = bridge.x_BL == mask
    revealed_BL = masked_BL & (following_BL != mask)
    cost_BL = jnp.where(revealed_BL, -own.destination_log_prob(following_BL, revealed_BL), 0.0)
    if last:  # everything is revealed, by both
        return cost_BL
    stay_BL = jnp.exp(bridge.log_stay_BL)
    time_BL = jax.scipy.special.xlogy(stay_BL, stay_BL) - stay_BL * own.log_stay_BL
    time_BL += jax.scipy.special.xlogy(1 - stay_BL, 1 - stay_BL) - (1 - stay_BL) * own.log_jump_BL
    return cost_BL + jnp.where(masked_BL, time_BL, 0.0)


PATH_KL = Objective("path_kl", prepare, loss, draws=True)
