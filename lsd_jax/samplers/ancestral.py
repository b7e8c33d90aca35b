"""Ancestral sampling: draws from q(x_u | x_t, x_0) averaged over the model's posterior of x_0."""

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.score import EPS_RATIO, Process, keep_and_move, uniform_step_probs
from lsd_jax.samplers.kernel import Kernel, Knobs, jump_form
from lsd_jax.samplers.transition import Transition


def ancestral(
    process: Process, log_score_fn: LogScoreFn, x_BL: jax.Array, t: jax.Array, u: jax.Array, knobs: Knobs
) -> Transition:
    """One posterior step from t to u (D3PM, Austin et al. 2021, eq. 4; MDLM, Sahoo et al. 2024, eq. 6).

    Absorbing: mass (m(t) - m(u)) / m(t) p(v), scaled by LSD's coefficient. Gaussian: the coefficient scales the posterior, and
    so the mass of every jump; as "log_score" it sharpens the posterior.
    """
    log_score_BLS = knobs.scale(log_score_fn(x_BL, t))
    if isinstance(process, Absorbing):
        m_t, m_u = process.mask_probability(t), process.mask_probability(u)
        scale = 1.0 if knobs.coefficient == "log_score" else jnp.exp(knobs.log_coefficient)
        log_jump = jnp.log(scale * (m_t - m_u) / m_t)
        return jump_form(process, x_BL, jax.nn.log_softmax(log_score_BLS) + log_jump, knobs)
    if isinstance(process, DiscretizedGaussian):
        return _general(process, log_score_BLS, x_BL, t, u, knobs)
    posterior_BLS = uniform_step_probs(process, log_score_BLS, x_BL, process.noise.sigma_bar(t))
    stay_t, move_t = keep_and_move(process, process.noise.sigma_bar(t))
    stay_u, move_u = keep_and_move(process, process.noise.sigma_bar(u))
    stay_tu, move_tu = keep_and_move(process, process.noise.sigma_bar(t) - process.noise.sigma_bar(u))
    here_BLS = jax.nn.one_hot(x_BL, process.vocab_size) > 0
    weight_BLS = jnp.where(here_BLS, posterior_BLS / stay_t, posterior_BLS / move_t)
    back_BLS = move_u * weight_BLS.sum(-1, keepdims=True) + (stay_u - move_u) * weight_BLS
    log_mass_BLS = jnp.log(jnp.where(here_BLS, back_BLS * stay_tu, back_BLS * move_tu))
    return jump_form(process, x_BL, jax.nn.log_softmax(log_mass_BLS), knobs)


def _general(process, log_posterior_BLS, x_BL, t, u, knobs):
    if knobs.coefficient == "log_score":
        log_posterior_BLS = jax.nn.log_softmax(log_posterior_BLS)
    sigma_bar_t, sigma_bar_u = process.noise.sigma_bar(t), process.noise.sigma_bar(u)
    weight_BLS = jnp.exp(log_posterior_BLS) / (process.transition(sigma_bar_t).T[x_BL] + EPS_RATIO)
    back_BLS = jnp.matmul(weight_BLS, process.transition(sigma_bar_u), precision="highest")
    log_back_BLS = jnp.log(jnp.maximum(back_BLS, jnp.finfo(jnp.float32).tiny))
    return jump_form(process, x_BL, log_back_BLS + process.log_transition(sigma_bar_t - sigma_bar_u).T[x_BL], knobs)


ANCESTRAL = Kernel(
    "ancestral", ancestral, 1, ("absorbing", "uniform", "gaussian"), "Sahoo et al. 2024, arXiv 2406.07524"
)
