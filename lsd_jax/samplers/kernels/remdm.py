"""ReMDM: ancestral sampling that also masks tokens again, so that a token drawn too early can be taken back.

Four remasking schedules, with the settings of the authors' scripts for text. Each step's probability of remasking, sigma, is
at most sigma_max = min(1, m(u) / (1 - m(t))), m being the share of masks: alpha = 1 - m in the paper.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.kernel import Draw, StagedKernel, denoise, jump
from lsd_jax.samplers.kernels.ancestral import ANCESTRAL
from lsd_jax.samplers.schedule import Step, StepParameters

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
    params: StepParameters,
) -> Transition:
    """ReMDM's step (eq. 6 and 7), its destinations the data tokens and the mask (B, L, S + 1).

    A mask becomes a token with probability (m_t - m_u + sigma (1 - m_t)) / m_t, times LSD's coefficient; a token becomes a
    mask with probability sigma, a scalar or (B, L). Sigma 0 is the ancestral step.
    """
    log_score_BLS = params.scale(log_score_BLS)
    scale = 1.0 if params.coefficient == "log_score" else jnp.exp(params.log_coefficient)
    masked_BL = x_BL == process.mask
    log_jump = jnp.log(scale * (m_t - m_u + sigma * (1 - m_t)) / m_t)
    log_jump = log_jump[..., None] if log_jump.ndim else log_jump
    reveal = jump(process, x_BL, jax.nn.log_softmax(log_score_BLS) + log_jump, params)
    noised_BL = process.start(x_BL) == process.mask  # all but pads
    log_stay_BL = jnp.where(masked_BL, reveal.log_stay_BL, jnp.where(noised_BL, jnp.log1p(-sigma), 0.0))
    log_token_BLS = jnp.where(masked_BL[..., None], reveal.log_destination_BLS, -jnp.inf)
    log_mask_BL = jnp.where(masked_BL, -jnp.inf, 0.0)
    return Transition(x_BL, log_stay_BL, jnp.concatenate([log_token_BLS, log_mask_BL[..., None]], -1))


def _levels(process: Absorbing, t: jax.Array, u: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """m(t), m(u) and sigma_max."""
    m_t, m_u = process.mask_probability(t), process.mask_probability(u)
    return m_t, m_u, jnp.minimum(1.0, m_u / (1 - m_t))


def _scheduled(sigma: Callable[[jax.Array], jax.Array]) -> Callable:
    """A step whose sigma is a function of sigma_max."""

    def move(draw: Draw, state: tuple, model: Diffusion, x_BL: jax.Array, step: Step) -> tuple[jax.Array, tuple]:
        m_t, m_u, most = _levels(model.process, step.t, step.u)
        log_score_BLS = model.log_score(x_BL, step.t)
        return draw(remask_transition(model.process, log_score_BLS, x_BL, m_t, m_u, sigma(most), step.params)), state

    return move


def _confident(
    draw: Draw, chance_BL: jax.Array, model: Diffusion, x_BL: jax.Array, step: Step
) -> tuple[jax.Array, jax.Array]:
    """Tokens that were improbable when drawn are remasked first; about one per step at most.

    sigma is sigma_max times the softmax, over the tokens of a sequence, of minus the probability that each was drawn with
    (infinite under a mask, and for given tokens). A mask is revealed as if sigma were 0: as published, the step reveals
    fewer tokens than q(x_u) has.
    """
    process, (m_t, m_u, most) = model.process, _levels(model.process, step.t, step.u)
    weight_BL = jnp.exp(-chance_BL)
    sigma_BL = most * weight_BL / jnp.maximum(weight_BL.sum(-1, keepdims=True), 1e-30)
    transition = remask_transition(process, model.log_score(x_BL, step.t), x_BL, m_t, m_u, sigma_BL, step.params)
    next_BL = draw(transition)
    revealed_BL, hidden_BL = (x_BL == process.mask) & (next_BL != process.mask), next_BL == process.mask
    drawn_BL = jnp.exp(transition.destination_log_prob(next_BL, revealed_BL))
    return next_BL, jnp.where(revealed_BL, drawn_BL, jnp.where(hidden_BL, jnp.inf, chance_BL))


def loop_masks(t: jax.Array) -> jax.Array:
    """The share of masks at time t: falls to 0.1 until t = 0.55, holds, and falls to 0 from t = 0.05 on."""
    decode = 1 - (1 - t) * (1 - _LOOP_MASKS) / (1 - _LOOP_ON)
    return jnp.where(t > _LOOP_ON, decode, _LOOP_MASKS * jnp.minimum(1.0, t / _LOOP_OFF))


def _loop_time(process: Absorbing, t: jax.Array) -> jax.Array:
    """The time at which the process itself has `loop_masks(t)`: what a network with a time input must be told."""
    return process.time_of(jnp.minimum(loop_masks(t), process.mask_probability(jnp.ones(()))))


def _loop(draw: Draw, state: tuple, model: Diffusion, x_BL: jax.Array, step: Step) -> tuple[jax.Array, tuple]:
    """Decodes, holds and remasks, and finishes, by the times it is given: equal steps spend half of them holding."""
    t, u, params = step
    m_t, m_u = loop_masks(t), loop_masks(u)
    holding = (t <= _LOOP_ON) & (t > _LOOP_OFF)
    sigma = jnp.where(holding, jnp.minimum(_LOOP, m_u / (1 - m_t)), 0.0)
    log_score_BLS = model.log_score(x_BL, _loop_time(model.process, t))
    return draw(remask_transition(model.process, log_score_BLS, x_BL, m_t, m_u, sigma, params)), state


def _loop_finish(draw: Draw, state: tuple, model: Diffusion, x_BL: jax.Array, step: Step) -> tuple[jax.Array, tuple]:
    return draw(denoise(model, x_BL, step._replace(t=_loop_time(model.process, step.t)))), state


_kernel = functools.partial(StagedKernel, nfe=1, processes=("absorbing",), paper=_PAPER, stand_in=ANCESTRAL)

REMDM_CAP = _kernel("remdm_cap", step=_scheduled(lambda most: jnp.minimum(_CAP, most)))


def remdm_rescale(eta: float) -> StagedKernel:
    """Remasks with `eta` times the largest possible probability."""
    return _kernel("remdm_rescale", step=_scheduled(lambda most: eta * most))


REMDM_RESCALE = remdm_rescale(_RESCALE)
REMDM_CONF = _kernel(
    "remdm_conf", step=_confident, init=lambda process, x_BL: jnp.full(x_BL.shape, jnp.inf, jnp.float32)
)
REMDM_LOOP = _kernel("remdm_loop", step=_loop, finish=_loop_finish)
