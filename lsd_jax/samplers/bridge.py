"""Bridges: the noising process between known data and time t, and what one step back from there should be.

A many-step teacher that ends in x_0 got there along such a path. Objectives, cost tables and bounds score a sampler's step
against the bridge's own, so that they need the teacher's final tokens only, at any times.
"""

import jax
import jax.numpy as jnp

from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.score import Process, keep_and_move
from lsd_jax.samplers.coupling import Coupling, path_noise
from lsd_jax.samplers.transition import Transition, fine_uniform


def reveal_thresholds(key_B: jax.Array, process: Absorbing, coupling: Coupling, length: int) -> jax.Array:
    """The thresholds (B, L) that a path with these keys reveals by: a position is masked while m(t) / m(1) is above."""
    noise = path_noise(key_B, process, coupling, length)
    if noise.threshold_BL is not None:
        return noise.threshold_BL
    return jax.vmap(lambda key: fine_uniform(key, (length,)))(noise.key_B)


def bridge_state(key_B: jax.Array, process: Process, coupling: Coupling, x0_BL: jax.Array, t: jax.Array) -> jax.Array:
    """x_t (B, L) given x_0, t scalar; equal keys give the states of one path at different times.

    Absorbing: the path of a sampler that reads the same keys, where its positions keep their thresholds. Elsewhere the
    states of different times share their uniforms, and are a path's in their own laws only.
    """
    if isinstance(process, Absorbing):
        share = process.mask_probability(t) / process.mask_probability(jnp.ones(()))
        threshold_BL = reveal_thresholds(key_B, process, coupling, x0_BL.shape[1])
        return jnp.where(threshold_BL < share, process.mask, x0_BL)
    if isinstance(process, DiscretizedGaussian):
        uniform_BL = jax.vmap(lambda key: fine_uniform(key, (x0_BL.shape[1],)))(key_B)
        return process.quantile(uniform_BL, x0_BL, t)
    uniform = jax.vmap(lambda key: fine_uniform(key, (2, x0_BL.shape[1])))(key_B)
    token_BL = jnp.minimum((uniform[:, 1] * process.vocab_size).astype(jnp.int32), process.vocab_size - 1)
    return jnp.where(uniform[:, 0] < -jnp.expm1(-process.noise.sigma_bar(t)), token_BL, x0_BL)


def bridge_transition(process: Process, x_BL: jax.Array, x0_BL: jax.Array, t: jax.Array, u: jax.Array) -> Transition:
    """q(x_u | x_t, x_0) for u < t (D3PM, Austin et al. 2021, eq. 3)."""
    data_BLS = jax.nn.one_hot(x0_BL, process.vocab_size) > 0
    if isinstance(process, Absorbing):
        kept = process.mask_probability(u) / process.mask_probability(t)
        log_stay_BL = jnp.where(x_BL == process.mask, jnp.log(kept), 0.0)
        return Transition(x_BL, log_stay_BL, jnp.where(data_BLS, 0.0, -jnp.inf))
    here_BLS = jax.nn.one_hot(x_BL, process.vocab_size) > 0
    if isinstance(process, DiscretizedGaussian):
        sigma_bar_t, sigma_bar_u = process.noise.sigma_bar(t), process.noise.sigma_bar(u)
        log_forward = process.log_transition(sigma_bar_t - sigma_bar_u)
        return from_log_probs(x_BL, process.log_transition(sigma_bar_u)[x0_BL] + log_forward.T[x_BL])
    stay_u, move_u = keep_and_move(process, process.noise.sigma_bar(u))
    stay_tu, move_tu = keep_and_move(process, process.noise.sigma_bar(t) - process.noise.sigma_bar(u))
    weight_BLS = jnp.where(data_BLS, stay_u, move_u) * jnp.where(here_BLS, stay_tu, move_tu)
    probs_BLS = weight_BLS / weight_BLS.sum(-1, keepdims=True)
    jump_BL = jnp.where(here_BLS, 0.0, probs_BLS).sum(-1)
    # Where nothing can move, at u = 0, the law of where to is never read, but must be one.
    log_destination_BLS = jnp.where(here_BLS & (jump_BL > 0)[..., None], -jnp.inf, jnp.log(probs_BLS))
    return Transition(x_BL, jnp.log1p(-jump_BL), log_destination_BLS)


def from_log_probs(x_BL: jax.Array, log_mass_BLS: jax.Array) -> Transition:
    """The transition whose law over all tokens, the present one included, is proportional to exp(log_mass)."""
    log_probs_BLS = jax.nn.log_softmax(log_mass_BLS)
    here_BLS = jax.nn.one_hot(x_BL, log_probs_BLS.shape[-1]) > 0
    log_destination_BLS = jnp.where(here_BLS, -jnp.inf, log_probs_BLS)
    # Each of the two where it keeps its digits.
    log_jump_BL = jnp.minimum(jax.nn.logsumexp(log_destination_BLS, -1), 0.0)
    log_stay_BL = jnp.where(here_BLS, log_probs_BLS, 0.0).sum(-1)
    log_stay_BL = jnp.where(log_jump_BL < -1.0, jnp.log1p(-jnp.exp(log_jump_BL)), log_stay_BL)
    return Transition(x_BL, log_stay_BL, log_destination_BLS)


def transition_kl(p: Transition, q: Transition) -> jax.Array:
    """KL(p || q) in nats at every position, (B, L), of two transitions from the same tokens; p's positions are independent.

    Where q redraws them from left to right it is the mean over p's tokens to the left.
    """
    if (joint := q.redraw()) is not None:
        return joint.kl_from(jnp.exp(p.log_law()))
    stay_BL, jump_BLS = p.probabilities()
    log_jump_BL = jnp.log(-jnp.expm1(jnp.minimum(q.log_stay_BL, -1e-30)))
    log_q_BLS = log_jump_BL[..., None] + jax.nn.log_softmax(q.log_destination_BLS)
    log_stay_BL = jnp.where(stay_BL > 0, q.log_stay_BL, 0.0)
    stay_part_BL = jax.scipy.special.xlogy(stay_BL, stay_BL) - stay_BL * log_stay_BL
    log_q_BLS = jnp.where(jump_BLS > 0, log_q_BLS, 0.0)
    return stay_part_BL + (jax.scipy.special.xlogy(jump_BLS, jump_BLS) - jump_BLS * log_q_BLS).sum(-1)


def forward_log_prob(process: Process, x_BL: jax.Array, earlier_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
    """log q(x_t = x | x_u = earlier) of the noising process at every position, (B, L), u < t."""
    delta = process.noise.sigma_bar(t) - process.noise.sigma_bar(u)
    if isinstance(process, Absorbing):
        masked_BL = jnp.where(earlier_BL == process.mask, 0.0, jnp.log(-jnp.expm1(-delta)))
        return jnp.where(x_BL == process.mask, masked_BL, -delta)
    if isinstance(process, DiscretizedGaussian):
        return process.log_transition(delta)[earlier_BL, x_BL]
    stay, move = keep_and_move(process, delta)
    return jnp.where(x_BL == earlier_BL, jnp.log(stay), jnp.log(move))
