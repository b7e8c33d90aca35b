"""ReMDM: ancestral sampling that also masks tokens again, so that a token drawn too early can be taken back.

Four remasking schedules, with the settings of the authors' scripts for text. Each step's probability of remasking, sigma, is
at most sigma_max = min(1, m(u) / (1 - m(t))), m being the share of masks: alpha = 1 - m in the paper.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.samplers.ancestral import ancestral
from lsd_jax.samplers.kernel import Draw, Kernel, Knobs, denoise, jump_form
from lsd_jax.samplers.transition import Transition

_PAPER = "Wang et al. 2025, arXiv 2503.00307"
_CAP, _RESCALE = 0.008, 0.015  # eta
_LOOP, _LOOP_ON, _LOOP_OFF, _LOOP_MASKS = 0.02, 0.55, 0.05, 0.1  # eta, the times and the level of the hold


def remask_transition(
    process: Absorbing,
    log_score_BLS: jax.Array,
    x_BL: jax.Array,
    m_t: jax.Array,
    m_u: jax.Array,
    sigma: jax.Array,
    knobs: Knobs,
) -> Transition:
    """ReMDM's step (eq. 6 and 7), its destinations the data tokens and the mask (B, L, S + 1).

    A mask becomes a token with probability (m_t - m_u + sigma (1 - m_t)) / m_t, times LSD's coefficient; a token becomes a
    mask with probability sigma, a scalar or (B, L). Sigma 0 is the ancestral step.
    """
    log_score_BLS = knobs.scale(log_score_BLS)
    scale = 1.0 if knobs.coefficient == "log_score" else jnp.exp(knobs.log_coefficient)
    masked_BL = x_BL == process.mask
    log_jump = jnp.log(scale * (m_t - m_u + sigma * (1 - m_t)) / m_t)
    log_jump = log_jump[..., None] if log_jump.ndim else log_jump
    reveal = jump_form(process, x_BL, jax.nn.log_softmax(log_score_BLS) + log_jump, knobs)
    log_stay_BL = jnp.where(masked_BL, reveal.log_stay_BL, jnp.log1p(-sigma))
    log_token_BLS = jnp.where(masked_BL[..., None], reveal.log_destination_BLS, -jnp.inf)
    log_mask_BL = jnp.where(masked_BL, -jnp.inf, 0.0)
    return Transition(x_BL, log_stay_BL, jnp.concatenate([log_token_BLS, log_mask_BL[..., None]], -1))


def _levels(process: Absorbing, t: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """m(t), m(u) and sigma_max."""
    m_t, m_u = process.mask_probability(t), process.mask_probability(u)
    return m_t, m_u, jnp.minimum(1.0, m_u / (1 - m_t))


def _scheduled(sigma: Callable[[jax.Array], jax.Array]) -> Callable:
    """A step whose sigma is a function of sigma_max."""

    def advance(
        draw: Draw, memory, process, log_score_fn: LogScoreFn, x_BL, t, u, knobs: Knobs
    ) -> tuple[jax.Array, tuple]:
        m_t, m_u, most = _levels(process, t, u)
        step = remask_transition(process, log_score_fn(x_BL, t), x_BL, m_t, m_u, sigma(most), knobs)
        return draw(step), memory

    return advance


def _confident(
    draw: Draw, chance_BL: jax.Array, process, log_score_fn: LogScoreFn, x_BL, t, u, knobs: Knobs
) -> tuple[jax.Array, jax.Array]:
    """Tokens that were improbable when drawn are remasked first; about one a step at most.

    sigma is sigma_max times the softmax, over the tokens of a sequence, of minus the probability that each was drawn with
    (infinite under a mask, and for given tokens). A mask is revealed as if sigma were 0: as published, the step reveals
    fewer tokens than q(x_u) has.
    """
    m_t, m_u, most = _levels(process, t, u)
    weight_BL = jnp.exp(-chance_BL)
    sigma_BL = most * weight_BL / jnp.maximum(weight_BL.sum(-1, keepdims=True), 1e-30)
    step = remask_transition(process, log_score_fn(x_BL, t), x_BL, m_t, m_u, sigma_BL, knobs)
    next_BL = draw(step)
    revealed_BL, hidden_BL = (x_BL == process.mask) & (next_BL != process.mask), next_BL == process.mask
    drawn_BL = jnp.exp(step.destination_log_prob(next_BL, revealed_BL))
    return next_BL, jnp.where(revealed_BL, drawn_BL, jnp.where(hidden_BL, jnp.inf, chance_BL))


def loop_masks(t: jax.Array) -> jax.Array:
    """The share of masks at time t: falls to 0.1 until t = 0.55, holds, and falls to 0 from t = 0.05 on."""
    decode = 1 - (1 - t) * (1 - _LOOP_MASKS) / (1 - _LOOP_ON)
    return jnp.where(t > _LOOP_ON, decode, _LOOP_MASKS * jnp.minimum(1.0, t / _LOOP_OFF))


def _loop_time(process: Absorbing, t: jax.Array) -> jax.Array:
    """The time at which the process itself has `loop_masks(t)`: what a time-conditioned network must be told."""
    masks = jnp.minimum(loop_masks(t), process.mask_probability(jnp.ones(())))
    return process.noise.inverse(-jnp.log1p(-masks))


def _loop(draw: Draw, memory, process, log_score_fn: LogScoreFn, x_BL, t, u, knobs: Knobs) -> tuple[jax.Array, tuple]:
    """Decodes, holds and remasks, and finishes, by the times it is given: equal steps spend half of them holding."""
    m_t, m_u = loop_masks(t), loop_masks(u)
    holding = (t <= _LOOP_ON) & (t > _LOOP_OFF)
    sigma = jnp.where(holding, jnp.minimum(_LOOP, m_u / (1 - m_t)), 0.0)
    log_score_BLS = log_score_fn(x_BL, _loop_time(process, t))
    return draw(remask_transition(process, log_score_BLS, x_BL, m_t, m_u, sigma, knobs)), memory


def _loop_finish(draw: Draw, memory, process, log_score_fn, x_BL, t, u, knobs) -> tuple[jax.Array, tuple]:
    del u
    return draw(denoise(process, log_score_fn, x_BL, _loop_time(process, t), knobs)), memory


_kernel = functools.partial(Kernel, step=ancestral, nfe=1, processes=("absorbing",), paper=_PAPER)

REMDM_CAP = _kernel("remdm_cap", advance=_scheduled(lambda most: jnp.minimum(_CAP, most)))
REMDM_RESCALE = _kernel("remdm_rescale", advance=_scheduled(lambda most: _RESCALE * most))
REMDM_CONF = _kernel(
    "remdm_conf", advance=_confident, memory=lambda process, x_BL: jnp.full(x_BL.shape, jnp.inf, jnp.float32)
)
REMDM_LOOP = _kernel("remdm_loop", advance=_loop, finish=_loop_finish)
