"""Predictor-corrector sampling: after each step, some forward-and-back moves that leave the marginal law as it is."""

import functools

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.score import Process, reverse_rate
from lsd_jax.processes.uniform import Uniform
from lsd_jax.samplers.kernel import Draw, Kernel, Knobs
from lsd_jax.samplers.tau_leaping import categorical_leap, finite_log, ordinal_leap, tau_leaping
from lsd_jax.samplers.transition import Transition
from lsd_jax.samplers.tweedie import tweedie


def predictor(
    process: Process, log_score_fn: LogScoreFn, x_BL: jax.Array, t: jax.Array, u: jax.Array, knobs: Knobs
) -> Transition:
    """Tweedie; where states are ordered tau-leaping, as tauLDR has it."""
    step = tau_leaping if isinstance(process, DiscretizedGaussian) else tweedie
    return step(process, log_score_fn, x_BL, t, u, knobs)


def corrector(
    process: Process, log_score_fn: LogScoreFn, x_BL: jax.Array, u: jax.Array, duration: jax.Array, knobs: Knobs
) -> Transition:
    """A leap of `duration` at the rates of time u, forward plus reverse, whose stationary law is p_u (Campbell et al. 2022,
    section 4.4).

    Under absorbing noise it masks tokens again: the destinations have num_states columns.
    """
    mean_BLV = corrector_mean(process, log_score_fn, x_BL, u, duration, knobs)
    neutral = Knobs(jnp.zeros(()), jnp.zeros(()))
    if isinstance(process, DiscretizedGaussian):
        return ordinal_leap(x_BL, mean_BLV, neutral)
    return categorical_leap(process, x_BL, finite_log(mean_BLV), neutral, several=True)


def corrector_mean(
    process: Process, log_score_fn: LogScoreFn, x_BL: jax.Array, u: jax.Array, duration: jax.Array, knobs: Knobs
) -> jax.Array:
    """The mean number of jumps (B, L, num_states) in a corrector's leap; the knobs act on the reverse part."""
    mean_BLS = duration * reverse_rate(process, knobs.scale(log_score_fn(x_BL, u)), x_BL, u)
    share_BLS = jax.nn.softmax(knobs.temper(finite_log(mean_BLS)))
    return _add_forward(process, mean_BLS.sum(-1, keepdims=True) * share_BLS, x_BL, duration * process.noise.sigma(u))


def _add_forward(process: Process, mean_BLS: jax.Array, x_BL: jax.Array, scale: jax.Array) -> jax.Array:
    if isinstance(process, Absorbing):
        to_mask_BL = jnp.where(x_BL == process.mask, 0.0, scale)
        return jnp.concatenate([mean_BLS, to_mask_BL[..., None]], -1)
    if isinstance(process, Uniform):
        return mean_BLS + scale * process.reverse_base_rate(x_BL)  # Q is symmetric
    return mean_BLS + scale * jnp.maximum(process.rate_matrix(), 0.0)[x_BL]


@functools.cache
def predictor_corrector(correctors: int = 1, entry_time: float = 1.0, multiplier: float = 1.0) -> Kernel:
    """A predictor's step, then `correctors` leaps at the new time (Campbell et al. 2022, algorithm 2).

    Args:
        correctors: corrector steps a predictor step, each one network evaluation.
        entry_time: corrects at times below it only; before it no evaluation is spent.
        multiplier: length of a corrector step in predictor steps.

    Raises:
        ValueError: no corrector, or an entry time or multiplier that is not positive.
    """
    if correctors < 1 or entry_time <= 0 or multiplier <= 0:
        raise ValueError(
            f"correctors={correctors} must be at least 1, entry_time={entry_time} and multiplier={multiplier} positive"
        )

    def advance(draw: Draw, calls_B, process, log_score_fn, x_BL, t, u, knobs):
        x_BL = draw(predictor(process, log_score_fn, x_BL, t, u, knobs), 0)

        def correct(x_BL):
            for stage in range(1, correctors + 1):
                x_BL = draw(corrector(process, log_score_fn, x_BL, u, multiplier * (t - u), knobs), stage)
            return x_BL

        if entry_time >= 1:
            return correct(x_BL), calls_B + 1 + correctors
        entered = u < entry_time
        x_BL = jax.lax.cond(entered, correct, lambda x_BL: x_BL, x_BL)
        return x_BL, calls_B + 1 + jnp.where(entered, correctors, 0)

    return Kernel(
        "predictor_corrector",
        predictor,
        1 + correctors,
        ("absorbing", "uniform", "gaussian"),
        "Campbell et al. 2022, arXiv 2205.14987",
        advance,
        memory=lambda process, x_BL: jnp.zeros(len(x_BL), jnp.int32),
        calls=lambda calls_B: calls_B + 1,
    )


PREDICTOR_CORRECTOR = predictor_corrector()
