"""Tau-leaping: the reverse rates are held for a step, and every position counts its jumps.

Tokens have no order, so two jumps of one position have no sum: Poisson leaping rejects them, binomial leaping lets the last
one stand. Where states are ordered (`ordinal_leap`), jumps add up.
"""

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.processes.transition import Transition, normalized
from lsd_jax.samplers.kernel import Kernel, tempered
from lsd_jax.samplers.schedule import Step, StepParameters

_NEVER = -1e30


def log_expected_jumps(model: Diffusion, x_BL: jax.Array, step: Step) -> jax.Array:
    """Logarithm of the mean number of jumps to every data token (B, L, S) from t to u at the rates of time t."""
    (t, u, params), process = step, model.process
    log_score_BLS = params.scale(process.log_concrete_score(model.log_score(x_BL, t), x_BL, t))
    return log_score_BLS + jnp.log((t - u) * process.noise.sigma(t)) + finite_log(process.reverse_base_rate(x_BL))


def finite_log(mass: jax.Array) -> jax.Array:
    """Logarithm of rates or probabilities; a large negative number where they are 0, so that the gradient is finite."""
    log_mass = jnp.where(mass > 0, jnp.log(jnp.where(mass > 0, mass, 1.0)), _NEVER)
    return jnp.where(jnp.isnan(mass), jnp.nan, log_mass)


def categorical_leap(
    process: Process, x_BL: jax.Array, log_mean_BLS: jax.Array, params: StepParameters, several: bool
) -> Transition:
    """The distribution of a leap between tokens without an order, from the logarithm of the mean number of jumps to each.

    With mean total Lambda: P(jump to v) = lambda_v exp(-Lambda), exactly one jump, or with `several` any number of them, the
    last of which counts: lambda_v / Lambda (1 - exp(-Lambda)).
    """
    log_total_BL = jax.nn.logsumexp(log_mean_BLS, -1)
    total_BL = jnp.exp(log_total_BL)
    log_stay_BL = -total_BL if several else jnp.log1p(-total_BL * jnp.exp(-total_BL))
    return tempered(process, Transition(x_BL, log_stay_BL, normalized(log_mean_BLS, log_total_BL)), params)


def ordinal_leap(x_BL: jax.Array, mean_BLS: jax.Array, params: StepParameters) -> Transition:
    """The distribution of x + sum_j N_j (j - x), N_j Poisson, with what leaves 0 .. S - 1 put on the nearest end.

    A compound Poisson distribution, by its characteristic function on a range eight times as wide. It is exact while no position moves further
    than 3.5 S beyond an end. No useful step is that long. It is taken given at least one jump,
    so that round-off is relative to the chance of jumping; destinations below a millionth of that are left out.
    """
    S, width = mean_BLS.shape[-1], 8 * mean_BLS.shape[-1]
    total_BL1 = mean_BLS.sum(-1, keepdims=True)
    turn_BLF = 2j * jnp.pi / width * (x_BL[..., None] * jnp.arange(width // 2 + 1)[None, None])
    exponent_BLF = jnp.fft.rfft(mean_BLS, width) * jnp.exp(turn_BLF)
    few_BLF = jnp.exp(-jnp.minimum(total_BL1, 1.0)) * jnp.expm1(jnp.where(total_BL1 < 1, exponent_BLF, 0.0))
    many_BLF = jnp.exp(exponent_BLF - total_BL1) - jnp.exp(-total_BL1)
    probs_BLW = jnp.fft.irfft(jnp.where(total_BL1 < 1, few_BLF, many_BLF) * jnp.exp(-turn_BLF), width)
    jumped_BL1 = -jnp.expm1(-total_BL1)
    probs_BLW = jnp.where(probs_BLW > 1e-6 * jumped_BL1, probs_BLW, 0.0)
    above = S + (width - S) // 2  # the range is a circle: the upper half of what is outside lies below 0
    probs_BLS = (
        probs_BLW[..., :S]
        .at[..., -1]
        .add(probs_BLW[..., S:above].sum(-1))
        .at[..., 0]
        .add(probs_BLW[..., above:].sum(-1))
    )
    probs_BLS = jnp.where(jax.nn.one_hot(x_BL, S) > 0, 0.0, probs_BLS)  # and back where it started is staying
    log_stay_BL = jnp.log1p(-jnp.minimum(probs_BLS.sum(-1), 1 - 1e-6))
    return Transition(x_BL, log_stay_BL, params.temper(finite_log(probs_BLS)))


def tau_leaping(model: Diffusion, x_BL: jax.Array, step: Step) -> Transition:
    """One leap from t to u with Poisson counts (Campbell et al. 2022, section 4.3).

    Where states are ordered, jumps of a position add up; elsewhere a position that draws two jumps stays, as in tauLDR and JYS.
    """
    log_mean_BLS = log_expected_jumps(model, x_BL, step)
    if model.process.ordered:
        return ordinal_leap(x_BL, jnp.exp(log_mean_BLS), step.params)
    return categorical_leap(model.process, x_BL, log_mean_BLS, step.params, several=False)


def binomial_leaping(model: Diffusion, x_BL: jax.Array, step: Step) -> Transition:
    """One leap from t to u that jumps at most once (Chatterjee, Vlachos, Katsoulakis 2005): with 1 - exp(-Lambda)."""
    return categorical_leap(model.process, x_BL, log_expected_jumps(model, x_BL, step), step.params, several=True)


TAU_LEAPING = Kernel(
    "tau_leaping", tau_leaping, ("absorbing", "uniform", "gaussian"), "Campbell et al. 2022, arXiv 2205.14987"
)
BINOMIAL_LEAPING = Kernel(
    "binomial_leaping",
    binomial_leaping,
    ("absorbing", "uniform"),
    "Chatterjee et al. 2005, J. Chem. Phys. 122, 024112",
)
