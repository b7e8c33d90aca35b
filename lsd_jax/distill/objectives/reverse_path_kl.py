"""Reverse path KL: what the student does must be likely under the teacher (DESIGN 4, objective 4). Buys precision.

E_student[log p_student(path) - log p_teacher(path)], with score-function gradients: every step's log-probability is weighted
by the cost from that step on, less the mean of the other samples of its group (Kool, van Hoof and Welling 2019).
"""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from lsd_jax.distill.student import Student
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.metrics.bound import many_step_nll
from lsd_jax.models.score_fn import ScoreModel
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.score import Process, legible
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.bridge import forward_log_prob
from lsd_jax.samplers.coupling import path_noise
from lsd_jax.samplers.kernel import denoise

_GROUP = 4  # samples a path key; their leave-one-out mean is the baseline, whatever the number of devices
_DRAWS = 16  # network evaluations of the teacher's -log p (uniform process)


def prepare(
    student: Student, process: Process, model: ScoreModel, paths: TeacherPaths, settings: ml_collections.ConfigDict
) -> tuple:
    """(keys (P draws, 2), tokens that only give the length): the student's own samples are drawn in every step."""
    del student, process, model
    tokens, keys = paths.repeated(settings.draws)
    return np.asarray(jax.random.key_data(keys)), tokens


def loss(
    student: Student, process: Process, model: ScoreModel, params, batch: tuple, step, settings
) -> tuple[jax.Array, dict]:
    """The reverse path KL, nats a sequence; its gradient is the score-function estimate.

    Positions that keep their thresholds are revealed by student and teacher alike, so only the tokens count there, and only
    temperatures are moved; independent draws move coefficients too.
    """
    del settings
    key_B = jax.vmap(lambda key: jax.random.fold_in(key, step))(jax.random.wrap_key_data(batch[0]))
    score_fn = model.bind(params)
    read = lambda x, t: legible(process, x, score_fn(x, t))  # noqa: E731
    key_G = jax.vmap(lambda key: jax.random.split(key, _GROUP))(key_B).reshape(-1)
    log_prob_MG, cost_MG = rollout(key_G, student, process, read, batch[1].shape[1])
    cost_to_go_MG = jnp.cumsum(cost_MG[::-1], 0)[::-1]
    groups = cost_to_go_MG.reshape(student.steps, -1, _GROUP)
    advantage = (groups - groups.mean(-1, keepdims=True)) * _GROUP / (_GROUP - 1)
    surrogate = (jax.lax.stop_gradient(advantage) * log_prob_MG.reshape(groups.shape)).sum(0).mean()
    value = jax.lax.stop_gradient(cost_to_go_MG[0].mean())
    return value + surrogate - jax.lax.stop_gradient(surrogate), {"reverse_kl": value}


def rollout(
    key_B: jax.Array, student: Student, process: Process, log_score_fn, length: int
) -> tuple[jax.Array, jax.Array]:
    """Student samples: log-probability (M, B) of every step, and its cost log p_student - log p_teacher (M, B), nats."""
    kernel, schedule, batch = get_kernel(student.kernel), student.schedule(), len(key_B)
    grid = jax.lax.stop_gradient(schedule.time_grid)
    noise = path_noise(key_B, process, student.coupling, length)
    fold = lambda number: jax.vmap(lambda key: jax.random.fold_in(key, number))(key_B)  # noqa: E731
    x_BL = jax.vmap(lambda key: process.prior_sample(key, (length,)))(fold(2**31 - 1))
    survival_BL = jnp.zeros((batch, length))
    log_probs, costs = [], []
    for k in range(student.steps):
        knobs, t, u = jax.tree.map(lambda leaf, k=k: leaf[k], schedule.knobs), grid[k], grid[k + 1]
        last = k == student.steps - 1
        step = denoise(process, log_score_fn, x_BL, t, knobs) if last else None
        step = kernel.step(process, log_score_fn, x_BL, t, u, knobs) if step is None else step
        following_BL = jax.lax.stop_gradient(step.sample(*noise.step(jnp.int32(k), survival_BL)))
        survival_BL = survival_BL + jax.lax.stop_gradient(step.log_stay_BL)
        if isinstance(process, Absorbing):
            revealed_BL = (x_BL == process.mask) & (following_BL != process.mask)
            log_prob_B = jnp.where(revealed_BL, step.destination_log_prob(following_BL, revealed_BL), 0.0).sum(-1)
            cost_B = log_prob_B + _refill_nll(fold(2**20 + k), process, log_score_fn, following_BL, revealed_BL, t, u)
            if noise.threshold_BL is None and not last:
                own_BL = step.log_stay_BL + jnp.where(revealed_BL, _log_jump(step) - step.log_stay_BL, 0.0)
                stay = process.mask_probability(u) / process.mask_probability(t)
                teacher_BL = jnp.where(revealed_BL, jnp.log1p(-stay), jnp.log(stay))
                masked_BL = x_BL == process.mask
                log_prob_B += jnp.where(masked_BL, own_BL, 0.0).sum(-1)
                cost_B += jnp.where(masked_BL, own_BL - teacher_BL, 0.0).sum(-1)
        else:
            log_prob_B = step.log_prob(following_BL).sum(-1)
            cost_B = log_prob_B - forward_log_prob(process, x_BL, following_BL, t, u).sum(-1)
            if last:
                cost_B += many_step_nll(fold(2**20), process, log_score_fn, following_BL, _DRAWS)
                cost_B += process.prior_log_prob(following_BL)
        log_probs.append(log_prob_B)
        costs.append(jax.lax.stop_gradient(cost_B))
        x_BL = following_BL
    return jnp.stack(log_probs), jnp.stack(costs)


def _log_jump(step):
    return jnp.log(-jnp.expm1(jnp.minimum(step.log_stay_BL, -1e-30)))


def _refill_nll(key_B, process, log_score_fn, x_BL, revealed_BL, t, u):
    """The teacher's -log p (B,) of the tokens revealed in a step, one after the other in random order: an unbiased estimate
    from one network evaluation, with a random share m of them masked again."""
    uniform_BL = jax.vmap(lambda key: jax.random.uniform(key, (1 + x_BL.shape[1],), minval=1e-3))(key_B)
    share_B1 = uniform_BL[:, :1]
    masked_BL = revealed_BL & (uniform_BL[:, 1:] < share_B1)
    time_B = u + (t - u) * share_B1[:, 0]
    log_score_BLS = jax.vmap(lambda x, t: log_score_fn(x[None], t)[0])(jnp.where(masked_BL, process.mask, x_BL), time_B)
    log_prob_BL = jnp.take_along_axis(jax.nn.log_softmax(log_score_BLS), x_BL[..., None], -1)[..., 0]
    return -(jnp.where(masked_BL, log_prob_BL, 0.0) / share_B1).sum(-1)
