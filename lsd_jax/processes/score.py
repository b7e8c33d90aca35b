"""The one module that converts between posteriors, concrete scores and rates.

The concrete score s(x, t)[i, v] = p_t(x with x_i := v) / p_t(x) is kept as its logarithm over the S data tokens,
(B, L, S). Absorbing: it is meaningful at masked positions. Uniform: the entry of the current token is log 1 = 0.

Gaussian: what is passed around as `log_score` is log p(x_0 = v | x_t) instead. The posterior gives the score, a smooth
average of it, but no floating-point inverse gives it back, and steps of any size need it. `log_concrete_score` and
`reverse_rate` read every process's form.
"""

import dataclasses

import jax
import jax.numpy as jnp

from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.uniform import Uniform

Process = Absorbing | Uniform | DiscretizedGaussian

# tauLDR's eps_ratio: added to q(x_t | x_0) before a posterior is divided by it. A network never quite rules out what the
# noise could not have done, and in the exact quotient that would outweigh all that it could.
EPS_RATIO = 1e-9


def make_process(name: str, vocab_size: int, noise, **settings: float) -> Process:
    """A process by name; `settings` are the Gaussian process's rate_sigma and q_sigma.

    Raises:
        ValueError: unknown name or setting.
    """
    processes = {"absorbing": Absorbing, "gaussian": DiscretizedGaussian, "uniform": Uniform}
    if name not in processes:
        raise ValueError(f"config.process.name={name!r}: choose one of {sorted(processes)}")
    fields = {field.name for field in dataclasses.fields(processes[name])} - {"vocab_size", "noise"}
    if unknown := set(settings) - fields:
        raise ValueError(f"process {name!r} has no setting {sorted(unknown)}; it has {sorted(fields)}")
    return processes[name](vocab_size, noise, **settings)


def is_soft(x: jax.Array) -> bool:
    """Whether tokens are soft: floats (..., num_states), one-hot in value and differentiable, instead of integers."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def hard_tokens(x: jax.Array) -> jax.Array:
    """The integers of tokens that may be soft, without a gradient."""
    return jnp.argmax(jax.lax.stop_gradient(x), -1).astype(jnp.int32) if is_soft(x) else x


def log_posterior_to_log_score(
    process: Process, log_posterior_BLS: jax.Array, x_BL: jax.Array, t: jax.Array
) -> jax.Array:
    """log s from log p(x_0 = v | x_t), t scalar (SEDD, Lou et al. 2024, eq. 3 and section 3.3); x_BL may be soft.

    Absorbing: exp(-sigma_bar) / (1 - exp(-sigma_bar)) p(v) at masked positions.
    Uniform: the ratio of sum_y p(y) q_t(v | y) / q_t(x | y) to its value at v = x. Gaussian: the posterior as it is.
    """
    if isinstance(process, DiscretizedGaussian):
        return log_posterior_BLS
    sigma_bar = process.noise.sigma_bar(t)
    if isinstance(process, Absorbing):
        return log_posterior_BLS - jnp.log(jnp.expm1(sigma_bar))
    stay, move = keep_and_move(process, sigma_bar)
    here = jax.nn.one_hot(hard_tokens(x_BL), process.vocab_size)
    weight = jnp.where(here > 0, jnp.exp(log_posterior_BLS) / stay, jnp.exp(log_posterior_BLS) / move)
    score = move * weight.sum(-1, keepdims=True) + (stay - move) * weight
    return jnp.where(here > 0, 0.0, jnp.log(score))


def log_mean_to_log_score(process: Process, log_mean_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
    """log s from log p(x_0 = v | x_t at the *other* positions), t scalar; x_BL may be soft.

    It is the x_theta of UDLM and Duo (Sahoo et al. 2025, eq. 4), which stands for x_0 in q(x_t | x_0). Uniform: the ratio of
    alpha p(v) + (1 - alpha) / S to its value at the current token. Absorbing: a mask tells nothing, it is the posterior.
    """
    if isinstance(process, Absorbing):
        return log_posterior_to_log_score(process, log_mean_BLS, x_BL, t)
    alpha = jnp.exp(-process.noise.sigma_bar(t))
    log_marginal_BLS = jnp.log(alpha * jnp.exp(log_mean_BLS) + (1 - alpha) / process.vocab_size)
    return log_marginal_BLS - jnp.take_along_axis(log_marginal_BLS, hard_tokens(x_BL)[..., None], -1)


def log_score_to_log_posterior(process: Process, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
    """log p(x_0 = v | x_t) from log s, t scalar, normalised; what a score cannot be (negative mass) is clamped at 0.

    Absorbing: at masked positions; elsewhere the normalised score, which nobody reads. Gaussian: it is the posterior.
    """
    if isinstance(process, Absorbing | DiscretizedGaussian):
        return jax.nn.log_softmax(log_score_BLS)
    return jnp.log(_normalize(uniform_step_probs(process, log_score_BLS, x_BL, process.noise.sigma_bar(t))))


def uniform_step_probs(
    process: Uniform, log_score_BLS: jax.Array, x_BL: jax.Array, delta_sigma_bar: jax.Array
) -> jax.Array:
    """SEDD's analytic step (eq. 19): the staggered score times the forward transition, kept above 0, (B, L, S)."""
    here = jax.nn.one_hot(x_BL, process.vocab_size)
    score = jnp.where(here > 0, 1.0, jnp.exp(log_score_BLS))
    stay, move = keep_and_move(process, delta_sigma_bar)
    grow = jnp.expm1(delta_sigma_bar)
    staggered = (1 + grow) * score - grow / process.vocab_size * score.sum(-1, keepdims=True)
    # What rounding or a learned factor takes below zero is next to impossible, not infinitely costly.
    kept = jnp.maximum(staggered, 1e-9 * (1 + grow))
    return jnp.where(here > 0, stay * kept, move * kept)


def legible(process: Process, x: jax.Array, log_score_BLS: jax.Array) -> jax.Array:
    """The log-score with zeros where the process never reads it; that of soft tokens is finite already.

    Of a token that it sees, an exact denoiser says log 0: harmless in a sampler, but its gradient is not a number.
    """
    if is_soft(x) or not isinstance(process, Absorbing):
        return log_score_BLS
    return jnp.where((x == process.mask)[..., None], log_score_BLS, 0.0)


def log_concrete_score(process: Process, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
    """log s from what is passed around as `log_score`, t scalar: the same array, but for the Gaussian process.

    There s(v) = sum_y p(y) q_t(v | y) / (q_t(x | y) + EPS_RATIO) (Campbell et al. 2022, proposition 3), and log 1 = 0 at v = x.
    """
    if not isinstance(process, DiscretizedGaussian):
        return log_score_BLS
    transition = process.transition(process.noise.sigma_bar(t))
    weight_BLS = jnp.exp(log_score_BLS) / (transition.T[x_BL] + EPS_RATIO)
    score_BLS = jnp.matmul(weight_BLS, transition, precision="highest")
    log_score_BLS = jnp.log(jnp.maximum(score_BLS, jnp.finfo(score_BLS.dtype).tiny))
    return jnp.where(jax.nn.one_hot(x_BL, process.vocab_size) > 0, 0.0, log_score_BLS)


def reverse_rate(process: Process, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
    """R(x -> v at i) = sigma(t) Q(v, x_i) s(x, t)[i, v] over the data tokens, (B, L, S), t scalar."""
    log_score_BLS = log_concrete_score(process, log_score_BLS, x_BL, t)
    return process.noise.sigma(t) * process.reverse_base_rate(x_BL) * jnp.exp(log_score_BLS)


def keep_and_move(process: Uniform, sigma_bar: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The uniform process's forward probabilities of keeping a token and of moving to one given other token."""
    move = -jnp.expm1(-sigma_bar) / process.vocab_size
    return 1 - (process.vocab_size - 1) * move, move


def _normalize(probs: jax.Array) -> jax.Array:
    return probs / jnp.maximum(probs.sum(-1, keepdims=True), jnp.finfo(probs.dtype).tiny)
