"""Euler's method for the reverse CTMC: jump with probability rate times step."""

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.score import Process, log_concrete_score
from lsd_jax.samplers.kernel import Kernel, Knobs, jump_form
from lsd_jax.samplers.transition import Transition


def euler(
    process: Process, log_score_fn: LogScoreFn, x_BL: jax.Array, t: jax.Array, u: jax.Array, knobs: Knobs
) -> Transition:
    """One Euler step from t to u (SEDD, Lou et al. 2024, eq. 13): mass (t - u) sigma(t) Q(v, x) s(v)."""
    if isinstance(process, DiscretizedGaussian):
        log_score_BLS = knobs.scale(log_concrete_score(process, log_score_fn(x_BL, t), x_BL, t))
        base_rate_BLS = jnp.maximum(process.reverse_base_rate(x_BL), jnp.finfo(jnp.float32).tiny)
        log_factor_BLS = jnp.log((t - u) * process.noise.sigma(t)) + jnp.log(base_rate_BLS)
        return jump_form(process, x_BL, log_score_BLS + log_factor_BLS, knobs)
    base_rate = 1.0 if isinstance(process, Absorbing) else 1.0 / process.vocab_size
    log_factor = jnp.log((t - u) * process.noise.sigma(t) * base_rate)
    return jump_form(process, x_BL, knobs.scale(log_score_fn(x_BL, t)) + log_factor, knobs)


EULER = Kernel("euler", euler, 1, ("absorbing", "uniform", "gaussian"), "Lou et al. 2024, arXiv 2310.16834")
