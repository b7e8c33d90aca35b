"""Predictor-corrector sampling: after each step, some forward-and-back moves that leave the marginal distribution as it is."""

import functools

import jax
import jax.numpy as jnp

from lsd_jax.errors import InputError
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import reverse_rate
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.kernel import Draw, Kernel, StagedKernel
from lsd_jax.samplers.kernels.tau_leaping import categorical_leap, finite_log, ordinal_leap, tau_leaping
from lsd_jax.samplers.kernels.tweedie import tweedie
from lsd_jax.samplers.schedule import Step, StepParameters, neutral

_PROCESSES = ("absorbing", "uniform", "gaussian")
_PAPER = "Campbell et al. 2022, arXiv 2205.14987"


def predictor(model: Diffusion, x_BL: jax.Array, step: Step) -> Transition:
    """Tweedie; where states are ordered tau-leaping, as in tauLDR."""
    return (tau_leaping if model.process.ordered else tweedie)(model, x_BL, step)


PREDICTOR = Kernel("predictor_corrector", predictor, _PROCESSES, _PAPER)


def corrector(
    model: Diffusion, x_BL: jax.Array, u: jax.Array, duration: jax.Array, params: StepParameters
) -> Transition:
    """A leap of `duration` at the rates of time u, forward plus reverse, whose stationary distribution is p_u (Campbell et al.
    2022, section 4.4).

    Under absorbing noise it masks tokens again: the destinations have num_states columns.
    """
    mean_BLV = corrector_mean(model, x_BL, u, duration, params)
    if model.process.ordered:
        return ordinal_leap(x_BL, mean_BLV, neutral())
    return categorical_leap(model.process, x_BL, finite_log(mean_BLV), neutral(), several=True)


def corrector_mean(
    model: Diffusion, x_BL: jax.Array, u: jax.Array, duration: jax.Array, params: StepParameters
) -> jax.Array:
    """The mean number of jumps (B, L, num_states) in a corrector's leap; the step parameters act on the reverse part."""
    process = model.process
    mean_BLS = duration * reverse_rate(process, params.scale(model.log_score(x_BL, u)), x_BL, u)
    share_BLS = jax.nn.softmax(params.temper(finite_log(mean_BLS)))
    mean_BLS = mean_BLS.sum(-1, keepdims=True) * share_BLS
    return process.add_forward(mean_BLS, x_BL, duration * process.noise.sigma(u))


@functools.cache
def predictor_corrector(correctors: int = 1, entry_time: float = 1.0, multiplier: float = 1.0) -> StagedKernel:
    """A predictor's step, then `correctors` leaps at the new time (Campbell et al. 2022, algorithm 2).

    Args:
        correctors: corrector steps per predictor step, each one network evaluation.
        entry_time: corrects at times below it only; before it no evaluation is spent.
        multiplier: length of a corrector step in predictor steps.

    Raises:
        ValueError: no corrector, or an entry time or multiplier that is not positive.
    """
    if correctors < 1 or entry_time <= 0 or multiplier <= 0:
        raise InputError(
            f"correctors={correctors}: must be at least 1, entry_time={entry_time} and multiplier={multiplier} positive"
        )

    def move(draw: Draw, calls_B: jax.Array, model: Diffusion, x_BL: jax.Array, step: Step):
        t, u, params = step
        x_BL = draw(predictor(model, x_BL, step), 0)

        def correct(x_BL):
            for stage in range(1, correctors + 1):
                x_BL = draw(corrector(model, x_BL, u, multiplier * (t - u), params), stage)
            return x_BL

        if entry_time >= 1:
            return correct(x_BL), calls_B + 1 + correctors
        entered = u < entry_time
        x_BL = jax.lax.cond(entered, correct, lambda x_BL: x_BL, x_BL)
        return x_BL, calls_B + 1 + jnp.where(entered, correctors, 0)

    return StagedKernel(
        "predictor_corrector",
        1 + correctors,
        _PROCESSES,
        _PAPER,
        stand_in=PREDICTOR,
        step=move,
        init=lambda process, x_BL: jnp.zeros(len(x_BL), jnp.int32),
        calls=lambda calls_B: calls_B + 1,
    )


PREDICTOR_CORRECTOR = predictor_corrector()
