"""Reverse path KL: what the student does must be likely under the teacher (docs/design.md). It buys precision.

E_student[log p_student(path) - log p_teacher(path)], with score-function gradients: every step's log-probability is weighted
by the cost from that step on, less the mean of the other samples of its group (Kool, van Hoof and Welling 2019).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.distill.objectives.objective import Objective
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import Student
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.errors import InputError
from lsd_jax.keys import PathStream, fold_each
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.continuous import continuous_time_nll
from lsd_jax.samplers.coupling import Coupling, path_noise
from lsd_jax.samplers.kernel import AnyKernel, prior_tokens, transition_of

_GROUP = 4  # samples per path key; their leave-one-out mean is the baseline, whatever the number of devices
_DRAWS = 16  # network evaluations of the teacher's -log p (uniform process)


def prepare(student: Student, model: Diffusion, paths: TeacherPaths, settings: OptimizeSettings) -> tuple:
    """(keys (P draws, 2), tokens that only give the length): the student's own samples are drawn in every step."""
    del student, model
    tokens, keys = paths.repeated(settings.draws)
    return np.asarray(jax.random.key_data(keys)), tokens


def loss(
    student: Student, model: Diffusion, batch: tuple, step: jax.Array, settings: OptimizeSettings
) -> tuple[jax.Array, dict]:
    """The reverse path KL, nats per sequence; its gradient is the score-function estimate.

    Positions that keep their thresholds are revealed by student and teacher alike, so only the tokens count there, and only
    temperatures are moved; independent draws move coefficients too.
    """
    del settings
    key_B = fold_each(jax.random.wrap_key_data(batch[0]), step)
    key_G = jax.vmap(lambda key: jax.random.split(key, _GROUP))(key_B).reshape(-1)
    log_prob_MG, cost_MG = rollout(key_G, student, model.masked(), batch[1].shape[1])
    cost_to_go_MG = jnp.cumsum(cost_MG[::-1], 0)[::-1]
    groups = cost_to_go_MG.reshape(student.steps, -1, _GROUP)
    advantage = (groups - groups.mean(-1, keepdims=True)) * _GROUP / (_GROUP - 1)
    surrogate = (jax.lax.stop_gradient(advantage) * log_prob_MG.reshape(groups.shape)).sum(0).mean()
    value = jax.lax.stop_gradient(cost_to_go_MG[0].mean())
    return value + surrogate - jax.lax.stop_gradient(surrogate), {"reverse_kl": value}


def rollout(key_B: jax.Array, student: Student, model: Diffusion, length: int) -> tuple[jax.Array, jax.Array]:
    """Student samples: log-probability (M, B) of every step, and its cost log p_student - log p_teacher (M, B), nats."""
    kernel, schedule, process = student.kernel.stand_in, student.schedule(), model.process
    schedule = dataclasses.replace(schedule, time_grid=jax.lax.stop_gradient(schedule.time_grid))
    noise = path_noise(key_B, process, student.coupling, length)
    x_BL, survival_BL = prior_tokens(key_B, process, length), jnp.zeros((len(key_B), length))
    log_probs, costs = [], []
    for k in range(student.steps):
        now, last = schedule.step(k), k == student.steps - 1
        own = transition_of(kernel, model, x_BL, now, last)
        following_BL = jax.lax.stop_gradient(own.sample(*noise.step(jnp.int32(k), survival_BL)))
        survival_BL = survival_BL + jax.lax.stop_gradient(own.log_stay_BL)
        if process.jumps_once:
            revealed_BL = (x_BL == process.mask) & (following_BL != process.mask)
            log_prob_B = jnp.where(revealed_BL, own.destination_log_prob(following_BL, revealed_BL), 0.0).sum(-1)
            key_refill_B = fold_each(key_B, int(PathStream.REFILL) + k)
            cost_B = log_prob_B + _refill_nll(key_refill_B, model, following_BL, revealed_BL, now.t, now.u)
            if noise.threshold_BL is None and not last:
                own_BL = own.log_stay_BL + jnp.where(revealed_BL, own.log_jump_BL - own.log_stay_BL, 0.0)
                stay = process.mask_probability(now.u) / process.mask_probability(now.t)
                teacher_BL = jnp.where(revealed_BL, jnp.log1p(-stay), jnp.log(stay))
                masked_BL = x_BL == process.mask
                log_prob_B += jnp.where(masked_BL, own_BL, 0.0).sum(-1)
                cost_B += jnp.where(masked_BL, own_BL - teacher_BL, 0.0).sum(-1)
        else:
            log_prob_B = own.log_prob(following_BL).sum(-1)
            cost_B = log_prob_B - process.forward_log_prob(x_BL, following_BL, now.t, now.u).sum(-1)
            if last:
                cost_B += continuous_time_nll(fold_each(key_B, int(PathStream.REFILL)), following_BL, model, _DRAWS)
                cost_B += process.prior_log_prob(following_BL)
        log_probs.append(log_prob_B)
        costs.append(jax.lax.stop_gradient(cost_B))
        x_BL = following_BL
    return jnp.stack(log_probs), jnp.stack(costs)


def _refill_nll(
    key_B: jax.Array, model: Diffusion, x_BL: jax.Array, revealed_BL: jax.Array, t: jax.Array, u: jax.Array
) -> jax.Array:
    """The teacher's -log p (B,) of the tokens revealed in a step, one after the other in random order: an unbiased estimate
    from one network evaluation, with a random share m of them masked again."""
    uniform_BL = jax.vmap(lambda key: jax.random.uniform(key, (1 + x_BL.shape[1],), minval=1e-3))(key_B)
    share_B1 = uniform_BL[:, :1]
    masked_BL = revealed_BL & (uniform_BL[:, 1:] < share_B1)
    time_B = u + (t - u) * share_B1[:, 0]
    log_score_BLS = model.log_scores(jnp.where(masked_BL, model.process.mask, x_BL), time_B)
    log_prob_BL = jnp.take_along_axis(jax.nn.log_softmax(log_score_BLS), x_BL[..., None], -1)[..., 0]
    return -(jnp.where(masked_BL, log_prob_BL, 0.0) / share_B1).sum(-1)


def check(settings: OptimizeSettings, process: Process, kernel: AnyKernel, coupling: Coupling) -> None:
    """Raises ValueError where draws that share a shift have no likelihood."""
    del kernel
    if not process.jumps_once and coupling.name != "iid":
        raise InputError(
            f"objective={settings.objective!r}: on the {process.name} process needs the likelihood of independent draws; the "
            f"coupling's name is {coupling.name!r}, not 'iid'"
        )


REVERSE_PATH_KL = Objective("reverse_path_kl", prepare, loss, draws=True, check=check)
