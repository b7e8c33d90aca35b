"""The student's own path, differentiable with respect to its schedule: straight-through tokens and reveals.

In value every state is a hard draw, the one that `samplers.simulate` makes with the same keys; in gradient the draw of a
token is a Gumbel softmax (Jang et al. 2017) whose Gumbels are drawn given the token (Maddison et al. 2017), and that of
a jump a binary Concrete variable. The gradient of what is linear in a state's masks is unbiased as the sharpness goes to
zero; that of a loss is not, and measurements/gradient_estimators.py measures by how much.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lsd_jax.keys import StepStream
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.draws import fine_uniform
from lsd_jax.processes.process import Process
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.coupling import path_noise
from lsd_jax.samplers.kernel import check_kernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import StepParameters

# Stands for log 0: its exponential is zero in float32, and products with it stay finite.
_LOG_ZERO = -200.0
_LEAST_LOG_PROB = -80.0


def relaxed_rollout(
    key_B: jax.Array,
    model: Diffusion,
    sampler: Sampler,
    start_BL: jax.Array,
    sharpness: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Soft states (M, B, L, V) at time_grid[:M] and the network's log-scores (M, B, L, S) there; V is num_states.

    Differentiable in the time grid and the step parameters; each step is recomputed in the backward pass. At unmasked positions the
    log-score is what an exact denoiser says of a token it sees: a loss that weighs scores by the soft mask reads it in
    its gradient, and a network's own answer there is arbitrary.

    Args:
        key_B: one key per sequence; equal keys give the hard states of `simulate`.
        model: its network must accept soft tokens.
        sampler: of one stage per step; of a staged kernel the stand-in runs.
        start_BL: the tokens at time 1; `simulate` draws them from the prior.
        sharpness: temperature of both relaxations; smaller is closer to the hard draw, and noisier.

    Raises:
        ValueError: the kernel or the coupling is not defined for the process.
    """
    process, schedule, kernel = model.process, sampler.schedule, sampler.kernel.stand_in
    check_kernel(kernel, process)
    noise = path_noise(key_B, process, sampler.coupling, start_BL.shape[1])
    last = schedule.steps - 1

    def score(soft_BLV, x_BL, t):
        log_score_BLS = model.log_score(soft_BLV, t)
        if process.jumps_once:
            log_seen_BLS = jnp.where(jax.nn.one_hot(x_BL, process.vocab_size) > 0, 0.0, _LOG_ZERO)
            log_seen_BLS = process.log_score(log_seen_BLS, x_BL, t)
            log_score_BLS = jnp.where((x_BL == process.mask)[..., None], log_score_BLS, log_seen_BLS)
        return jnp.maximum(log_score_BLS, _LOG_ZERO)

    def step(soft_BLV, x_BL, log_survival_BL, inputs):
        index, now = inputs
        log_score_BLS = score(soft_BLV, x_BL, now.t)
        # The temperature comes after the kernel: inside, it would multiply log 0, whose gradient is not a number.
        untempered = now._replace(params=dataclasses.replace(now.params, log_temperature=jnp.zeros(())))
        from_BL, moving_BLV, movable_BL = _what_moves(process, x_BL, soft_BLV)
        transition = kernel.transition(model.frozen(log_score_BLS), from_BL, untempered)
        tempered_BLS = _temper(now.params, transition.log_destination_BLS)
        transition = dataclasses.replace(transition, log_destination_BLS=tempered_BLS)
        jump_BL, token_BL = noise.step(index, log_survival_BL)
        log_stay_BL = jnp.where(movable_BL, transition.log_stay_BL, 0.0)
        next_BL = dataclasses.replace(transition, x_BL=x_BL, log_stay_BL=log_stay_BL).sample(jump_BL, token_BL)
        next_log_survival_BL = log_survival_BL + transition.log_stay_BL
        keys = jax.vmap(
            lambda key: jax.random.split(jax.random.fold_in(jax.random.fold_in(key, index), int(StepStream.RELAXED)))
        )
        key_jump_B, key_gumbel_B = jnp.moveaxis(keys(noise.key_B), 1, 0)
        if noise.threshold_BL is None:
            # What a revealed position would have done as a mask must not depend on what revealed it.
            fresh_BL = jax.vmap(lambda key: fine_uniform(key, x_BL.shape[1:]))(key_jump_B)
            jump_BL = _soft_jump(transition, jnp.where(movable_BL, jump_BL, fresh_BL), sharpness)
            moved_BLV = jump_BL[..., None] * moving_BLV
        else:
            # One threshold decides all steps: the masks left are a function of survival alone, and so is their gradient.
            before_BL = _soft_survival(movable_BL, log_survival_BL, noise.threshold_BL, sharpness)
            after_BL = _soft_survival(next_BL == process.mask, next_log_survival_BL, noise.threshold_BL, sharpness)
            # A position that starts revealed has no survival to lose.
            moved_BL = jnp.where(start_BL == process.mask, before_BL - after_BL, 0.0)
            moved_BLV = moved_BL[..., None] * jax.nn.one_hot(from_BL, process.num_states)
        token_BLS = _soft_token(key_gumbel_B, transition, token_BL, sharpness)
        token_BLV = jnp.pad(token_BLS, ((0, 0), (0, 0), (0, process.num_states - process.vocab_size)))
        next_BLV = soft_BLV - moved_BLV + moved_BLV.sum(-1, keepdims=True) * token_BLV
        return log_score_BLS, next_BLV, next_BL, next_log_survival_BL

    def body(carry, inputs):
        log_score_BLS, *after = jax.checkpoint(step, prevent_cse=False)(*carry, inputs)
        return tuple(after), (carry[0], log_score_BLS)

    soft_BLV = jax.nn.one_hot(start_BL, process.num_states)
    carry = (soft_BLV, start_BL, jnp.zeros(start_BL.shape))
    carry, (states, log_scores) = jax.lax.scan(body, carry, (jnp.arange(last), schedule.inner))
    log_score_BLS = jax.checkpoint(score)(*carry[:2], schedule.last.t)
    return jnp.concatenate([states, carry[0][None]]), jnp.concatenate([log_scores, log_score_BLS[None]])


def _what_moves(process: Process, x_BL: jax.Array, soft_BLV: jax.Array):
    """The tokens that a step starts from, the part (B, L, V) of the soft state that it moves, and where it can.

    Absorbing: every position is asked what it would do as a mask, and its mask column moves by it, zero or not: so a
    gradient toward "still masked" meets the later chances of being revealed.
    """
    if process.jumps_once:
        mask_BL = jnp.full_like(x_BL, process.mask)
        return mask_BL, soft_BLV * jax.nn.one_hot(mask_BL, process.num_states), x_BL == process.mask
    return x_BL, soft_BLV, jnp.ones_like(x_BL, bool)


def _soft_token(key_B: jax.Array, transition: Transition, bits_BL: jax.Array, sharpness: float) -> jax.Array:
    """The token jumped to, one-hot (B, L, S); in gradient a softmax of perturbed log-probabilities, largest there."""
    certain = dataclasses.replace(transition, log_stay_BL=jnp.full_like(transition.log_stay_BL, -jnp.inf))
    token_BL = certain.sample(jnp.zeros(bits_BL.shape), bits_BL)
    S = transition.log_destination_BLS.shape[-1]
    log_destination_BLS = _finite(transition.log_destination_BLS)
    log_prob_BLS = jnp.maximum(jax.nn.log_softmax(log_destination_BLS), _LEAST_LOG_PROB)
    hard_BLS = jax.nn.one_hot(token_BL, S)
    uniform_BLS = jax.vmap(lambda key: fine_uniform(key, hard_BLS.shape[1:]))(key_B)
    exponential_BLS = -jnp.log(uniform_BLS)
    # The largest of the perturbed values is a standard Gumbel whichever it is; the others are Gumbels below it.
    top_BL1 = (hard_BLS * exponential_BLS).sum(-1, keepdims=True)
    others_BLS = exponential_BLS * jnp.exp(-log_prob_BLS) + top_BL1
    perturbed_BLS = -jnp.log(jnp.where(hard_BLS > 0, top_BL1, others_BLS))
    gumbel_BLS = jax.lax.stop_gradient(perturbed_BLS - log_prob_BLS)
    soft_BLS = jax.nn.softmax((log_prob_BLS + gumbel_BLS) / sharpness)
    return hard_BLS + (soft_BLS - jax.lax.stop_gradient(soft_BLS))


def _soft_jump(transition: Transition, uniform_BL: jax.Array, sharpness: float) -> jax.Array:
    """One where a position jumps (B, L); a logistic function of the odds of jumping in gradient."""
    hard_BL = transition.jumps(uniform_BL)
    movable_BL = transition.log_stay_BL < 0
    log_stay_BL = jnp.where(movable_BL, transition.log_stay_BL, -1.0)
    uniform_BL = jnp.clip(uniform_BL, 2.0**-33, 1 - 2.0**-24)
    odds_BL = jnp.log(-jnp.expm1(log_stay_BL)) - log_stay_BL
    soft_BL = jax.nn.sigmoid((odds_BL - jnp.log(uniform_BL) + jnp.log1p(-uniform_BL)) / sharpness)
    soft_BL = jnp.where(movable_BL, soft_BL, 0.0)
    return hard_BL + (soft_BL - jax.lax.stop_gradient(soft_BL))


def _soft_survival(hard_BL, log_survival_BL, threshold_BL, sharpness):
    """One where a position's survival is above its threshold (B, L); a logistic function of its odds in gradient."""
    log_survival_BL = jnp.minimum(log_survival_BL, -1e-6)  # the start survives with certainty, at infinite odds
    odds_BL = log_survival_BL - jnp.log(-jnp.expm1(log_survival_BL))
    soft_BL = jax.nn.sigmoid((odds_BL - jnp.log(threshold_BL) + jnp.log1p(-threshold_BL)) / sharpness)
    return hard_BL + (soft_BL - jax.lax.stop_gradient(soft_BL))


def _temper(params: StepParameters, log_destination_BLS: jax.Array) -> jax.Array:
    tempered_BLS = params.temper(_finite(log_destination_BLS))
    return jnp.where(log_destination_BLS > -jnp.inf, tempered_BLS, -jnp.inf)


def _finite(log_BLS):
    return jnp.where(log_BLS > -jnp.inf, log_BLS, _LOG_ZERO)
