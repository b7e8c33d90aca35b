"""Forward path KL: the student's steps, teacher-forced, must explain the teacher's way (DESIGN 4, objective 3).

KL(teacher path || student path) up to the teacher's own entropy, which no student changes. It keeps diversity: what the
teacher does and the student never would costs without bound. Frozen network and forced states make the scores independent of
what is learned: where they fit into memory they are computed once, and a gradient step costs no network evaluation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from lsd_jax import parallel
from lsd_jax.distill.student import Student
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.models.score_fn import ScoreModel
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.score import Process, legible
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.bridge import bridge_state, bridge_transition, transition_kl
from lsd_jax.samplers.kernel import denoise

_CACHED_BYTES = 2**30  # log-scores kept instead of computed in every gradient step


class Forced(NamedTuple):
    """Teacher-forced states of paths: tokens (P, L), states (P, M, L), and their log-scores (P, M, L, S) or None."""

    tokens: jax.Array
    states: jax.Array
    log_scores: jax.Array | None


def prepare(
    student: Student, process: Process, model: ScoreModel, paths: TeacherPaths, settings: ml_collections.ConfigDict
) -> Forced:
    """Bridges to the teacher's tokens at the student's own times, `settings.draws` in sequence for every path."""
    mesh, grid = parallel.data_mesh(), student.time_grid
    tokens, keys = paths.repeated(settings.draws)
    cached = len(tokens) * student.steps * tokens.shape[1] * process.vocab_size * 4 <= _CACHED_BYTES

    def local(replicated, batch):
        params, grid = replicated
        tokens_BL, key_B = batch

        def at(t):
            x_BL = bridge_state(key_B, process, student.coupling, tokens_BL, t)
            return x_BL, legible(process, x_BL, model.apply(params, x_BL, t)) if cached else None

        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), jax.lax.map(at, grid[:-1]))

    batch = parallel.shard_global(tokens, mesh), parallel.shard_global(keys, mesh)
    states, log_scores = jax.jit(parallel.map_over_data(local, mesh))((model.params, grid), batch)
    return Forced(batch[0], states, log_scores)


def loss(
    student: Student, process: Process, model: ScoreModel, params, batch: Forced, step, settings
) -> tuple[jax.Array, dict]:
    """The path KL plus a constant, nats a sequence, differentiable in coefficients and temperatures."""
    del step, settings
    kernel, schedule = get_kernel(student.kernel), student.schedule()
    grid = jax.lax.stop_gradient(schedule.time_grid)
    total = 0.0
    for k in range(student.steps):
        x_BL, t, u = batch.states[:, k], grid[k], grid[k + 1]
        if batch.log_scores is None:
            log_score_BLS = legible(process, x_BL, model.apply(params, x_BL, t))
        else:
            log_score_BLS = batch.log_scores[:, k]
        knobs = jax.tree.map(lambda leaf, k=k: leaf[k], schedule.knobs)
        frozen = lambda x, t, log_score_BLS=log_score_BLS: log_score_BLS  # noqa: E731
        last = k == student.steps - 1
        own = denoise(process, frozen, x_BL, t, knobs) if last else kernel.step(process, frozen, x_BL, t, u, knobs)
        bridge = bridge_transition(process, x_BL, batch.tokens, t, u)
        if isinstance(process, Absorbing):
            following_BL = batch.tokens if last else batch.states[:, k + 1]
            cost_BL = _reveal_cost(process, bridge, own, following_BL, last)
        else:
            cost_BL = transition_kl(bridge, own)
        total += cost_BL.sum(-1).mean()
    return total, {"path_nll": total}


def _reveal_cost(process, bridge, own, following_BL, last):
    """-log p of what the coupling reveals next, and the divergence of how much is revealed, at masked positions."""
    masked_BL = bridge.x_BL == process.mask
    revealed_BL = masked_BL & (following_BL != process.mask)
    cost_BL = jnp.where(revealed_BL, -own.destination_log_prob(following_BL, revealed_BL), 0.0)
    if last:  # everything is revealed, by both
        return cost_BL
    log_jump_BL = jnp.log(-jnp.expm1(jnp.minimum(own.log_stay_BL, -1e-30)))
    stay_BL = jnp.exp(bridge.log_stay_BL)
    time_BL = jax.scipy.special.xlogy(stay_BL, stay_BL) - stay_BL * own.log_stay_BL
    time_BL += jax.scipy.special.xlogy(1 - stay_BL, 1 - stay_BL) - (1 - stay_BL) * log_jump_BL
    return cost_BL + jnp.where(masked_BL, time_BL, 0.0)
