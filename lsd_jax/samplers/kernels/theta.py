"""Two-stage samplers, two network evaluations per step: the theta-trapezoidal method and theta-RK-2 (Ren et al. 2025).

A leap holds rates fixed along a clock. Here the clock is log m, m = 1 - exp(-sigma_bar), which the forward process fills:
in it the rate of leaving a mask is one whatever the noise schedule, and the uniform process's rates stay bounded toward
t = 0, so that what a stage has to extrapolate is the network's answer alone.

The trapezoidal method is of second order (tests measure it) while a1 mu* stays above a2 mu: at theta = 1/2 while no token's
probability more than halves between the stages. Beyond that its rate is cut off at zero and the order is one. RK-2 draws
the whole step from its start, at rates that have seen one guess of what is revealed: positions that jump in one step do so
as if they had not seen each other, and its order is one.
"""

import functools

import jax
import jax.numpy as jnp

from lsd_jax.errors import InputError
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.kernel import Draw, StagedKernel
from lsd_jax.samplers.kernels.tau_leaping import categorical_leap, finite_log
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.schedule import Step, StepParameters

_PAPER = "Ren et al. 2025, arXiv 2502.00234"


def clock(process: Process, t: jax.Array) -> jax.Array:
    """log m(t), of full precision at both ends."""
    return jax.nn.log1mexp(process.noise.sigma_bar(t))


def time_at(process: Process, log_m: jax.Array) -> jax.Array:
    """The time at which the clock shows `log_m`."""
    return process.noise.inverse(-jax.nn.log1mexp(-log_m))


def clock_rate(model: Diffusion, x_BL: jax.Array, t: jax.Array, params: StepParameters) -> jax.Array:
    """Reverse rates (B, L, S) per unit of the clock: dt/dlog m = expm1(sigma_bar) / sigma, so that sigma cancels."""
    log_pace = jnp.log(jnp.expm1(model.process.noise.sigma_bar(t)))
    log_rate_BLS = params.scale(model.log_score(x_BL, t)) + log_pace
    rate_BLS = jnp.where(jnp.isnan(log_rate_BLS), jnp.nan, jnp.exp(log_rate_BLS))  # XLA's exponential may drop it
    base_BLS = model.process.reverse_base_rate(x_BL)
    return jnp.where(base_BLS > 0, base_BLS * rate_BLS, 0.0)


def _first_stage(theta: float, draw: Draw, model: Diffusion, x_BL: jax.Array, step: Step):
    """(length of the step on the clock, rates at its start, state and rates at its theta-section)."""
    (t, u, params), process = step, model.process
    span = clock(process, t) - clock(process, u)
    rate_BLS = clock_rate(model, x_BL, t, params)
    middle_BL = draw(categorical_leap(process, x_BL, finite_log(theta * span * rate_BLS), params, several=True), 0)
    middle = time_at(process, clock(process, t) - theta * span)
    return span, rate_BLS, middle_BL, clock_rate(model, middle_BL, middle, params)


@functools.cache
def theta_trapezoidal(theta: float = 0.5) -> StagedKernel:
    """The theta-trapezoidal method (Ren et al. 2025, algorithm 2): on from the theta-section at (a1 mu* - a2 mu)+.

    a1 = 1 / (2 theta (1 - theta)), a2 = ((1 - theta)^2 + theta^2) / (2 theta (1 - theta)). A position that the first stage
    revealed has no rate left.

    Raises:
        ValueError: theta is not inside (0, 1).
    """
    _check(theta)
    a1 = 1 / (2 * theta * (1 - theta))
    a2 = a1 - 1

    def move(draw: Draw, state, model: Diffusion, x_BL: jax.Array, step: Step):
        span, rate_BLS, middle_BL, middle_rate_BLS = _first_stage(theta, draw, model, x_BL, step)
        # A token the position already holds is no jump: where its own rate is zero, so is what is extrapolated from it.
        rate_BLS = jnp.where(middle_rate_BLS == 0, 0.0, _positive(a1 * middle_rate_BLS - a2 * rate_BLS))
        log_mean_BLS = finite_log((1 - theta) * span * rate_BLS)
        return draw(categorical_leap(model.process, middle_BL, log_mean_BLS, step.params, several=True), 1), state

    return StagedKernel("theta_trapezoidal", 2, ("absorbing", "uniform"), _PAPER, TWEEDIE, move)


@functools.cache
def theta_rk2(theta: float = 0.5) -> StagedKernel:
    """theta-RK-2 (Ren et al. 2025, algorithm 1): from the start, at ((1 - 1/(2 theta)) mu + mu* / (2 theta))+.

    The network sees what the first stage revealed or moved; those tokens are drawn anew in the second stage. A position's rates at
    the section are those of the token that it starts from. Where the first stage moved a position the network no longer gives
    them, and the rates of the start are used instead.

    Raises:
        ValueError: theta is not inside (0, 1].
    """
    _check(theta, 1.0)
    weight = 1 / (2 * theta)

    def move(draw: Draw, state, model: Diffusion, x_BL: jax.Array, step: Step):
        span, rate_BLS, middle_BL, middle_rate_BLS = _first_stage(theta, draw, model, x_BL, step)
        middle_rate_BLS = jnp.where((middle_BL == x_BL)[..., None], middle_rate_BLS, rate_BLS)
        rate_BLS = _positive((1 - weight) * rate_BLS + weight * middle_rate_BLS)
        log_mean_BLS = finite_log(span * rate_BLS)
        return draw(categorical_leap(model.process, x_BL, log_mean_BLS, step.params, several=True), 1), state

    return StagedKernel("theta_rk2", 2, ("absorbing", "uniform"), _PAPER, TWEEDIE, move)


def _positive(rate: jax.Array) -> jax.Array:
    """The rate cut off at 0; NaN stays, which a maximum may drop."""
    return jnp.where(rate < 0, 0.0, rate)


def _check(theta: float, highest: float = 0.999) -> None:
    if not 0 < theta <= highest:
        raise InputError(f"theta={theta}: must lie between 0 and {highest}")


THETA_TRAPEZOIDAL = theta_trapezoidal()
THETA_RK2 = theta_rk2()
