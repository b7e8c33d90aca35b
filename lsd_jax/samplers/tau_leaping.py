"""Tau-leaping: the reverse rates are held for a step, and every position counts its jumps.

Tokens have no order, so two jumps of one position have no sum: Poisson leaping rejects them, binomial leaping lets the last
one stand. Where states are ordered (`ordinal_leap`), jumps add up.
"""

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.score import Process, reverse_rate
from lsd_jax.samplers.kernel import Kernel, Knobs
from lsd_jax.samplers.transition import Transition

_NEVER = -1e30


def expected_jumps(
    process: Process, log_score_fn: LogScoreFn, x_BL: jax.Array, t: jax.Array, u: jax.Array, knobs: Knobs
) -> jax.Array:
    """The mean number of jumps to every data token (B, L, S) from t to u at the rates of time t."""
    return (t - u) * reverse_rate(process, knobs.scale(log_score_fn(x_BL, t)), x_BL, t)


def categorical_leap(x_BL: jax.Array, mean_BLS: jax.Array, knobs: Knobs, several: bool) -> Transition:
    """The law of a leap between tokens without an order, from the mean number of jumps to each.

    With mean total Lambda: P(jump to v) = lambda_v exp(-Lambda), exactly one jump, or with `several` any number of them, the
    last of which counts: lambda_v / Lambda (1 - exp(-Lambda)).
    """
    total_BL = mean_BLS.sum(-1)
    log_stay_BL = -total_BL if several else jnp.log1p(-total_BL * jnp.exp(-total_BL))
    log_destination_BLS = jnp.where(mean_BLS > 0, jnp.log(jnp.where(mean_BLS > 0, mean_BLS, 1.0)), _NEVER)
    return Transition(x_BL, log_stay_BL, knobs.temper(log_destination_BLS), knobs.log_neighbour)


def tau_leaping(
    process: Process, log_score_fn: LogScoreFn, x_BL: jax.Array, t: jax.Array, u: jax.Array, knobs: Knobs
) -> Transition:
    """One leap from t to u with Poisson counts (Campbell et al. 2022, section 4.3); a position that draws two jumps stays.

    The rejection is what tauLDR and JYS do where states have no order.
    """
    mean_BLS = expected_jumps(process, log_score_fn, x_BL, t, u, knobs)
    return categorical_leap(x_BL, mean_BLS, knobs, several=False)


def binomial_leaping(
    process: Process, log_score_fn: LogScoreFn, x_BL: jax.Array, t: jax.Array, u: jax.Array, knobs: Knobs
) -> Transition:
    """One leap from t to u that jumps at most once (Chatterjee, Vlachos, Katsoulakis 2005): with 1 - exp(-Lambda)."""
    mean_BLS = expected_jumps(process, log_score_fn, x_BL, t, u, knobs)
    return categorical_leap(x_BL, mean_BLS, knobs, several=True)


TAU_LEAPING = Kernel("tau_leaping", tau_leaping, 1, ("absorbing", "uniform"), "Campbell et al. 2022, arXiv 2205.14987")
BINOMIAL_LEAPING = Kernel(
    "binomial_leaping",
    binomial_leaping,
    1,
    ("absorbing", "uniform"),
    "Chatterjee et al. 2005, J. Chem. Phys. 122, 024112",
)
