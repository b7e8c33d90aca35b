"""k-Gillespie: the next k events with the rates frozen, then a new network evaluation."""

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.draws import as_uniform
from lsd_jax.samplers.events import common
from lsd_jax.samplers.kernel import Condition, EventSampler, Sample
from lsd_jax.samplers.schedule import StepParameters

_ROUNDING = 1e-3  # so that a float32 product just above a whole number counts as one
_END = 1e-2  # uniform noise: sigma_bar, summed over a sequence, at which the denoising call takes over


def holding_times(log_rate_BL: jax.Array, uniform_BL: jax.Array) -> jax.Array:
    """When each position would jump at a constant rate (B, L)."""
    return -jnp.log(uniform_BL) * jnp.exp(-log_rate_BL)


def next_events(holding_BL: jax.Array, count_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first `count_B` events of each sequence (B, L) and the time of the last of them (B,)."""
    chosen_BL = common.rank(holding_BL) < count_B[:, None]
    return chosen_BL, jnp.where(chosen_BL, holding_BL, 0.0).max(-1)


def gillespie(
    key_B: jax.Array,
    model: Diffusion,
    length: int,
    budget: int,
    params: StepParameters,
    condition: Condition | None = None,
) -> Sample:
    """k = expected events / budget events per call, on average (JYS, Park et al. 2024, arXiv 2410.07761, algorithm 3).

    Rates are frozen per unit of a clock in which they change little, so that no event comes after time 0. Absorbing: log m(t),
    where an exact network's are constant: k = 1 is exact, and n masks take n events. Uniform: log expm1(sigma_bar), in which
    they stay bounded; n positions see n (1 - 1/S) sigma_bar(1) events on average, a call takes at most one per position, and
    the number of calls is only near the budget. A denoising call ends it. Frozen rates keep it inexact at any budget.
    """
    process, absorbing = model.process, model.process.jumps_once
    x_BL, free_BL, free_B = common.start(key_B, process, length, condition)
    one, zero = jnp.ones(()), jnp.zeros(())
    if absorbing:
        clock, end = -jnp.log(process.mask_probability(one)), jnp.asarray(jnp.inf)
        time_of = lambda clock_B: process.time_of(jnp.exp(-clock_B))
        per_call_B = free_B / budget
    else:
        clock = -jnp.log(jnp.expm1(process.noise.sigma_bar(one)))
        last = jnp.maximum(process.noise.sigma_bar(zero), _END / length)
        end = -jnp.log(jnp.expm1(last))
        time_of = lambda clock_B: process.noise.inverse(jnp.log1p(jnp.exp(-clock_B)))
        expected_B = free_B * (1 - 1 / process.vocab_size) * (process.noise.sigma_bar(one) - last)
        per_call_B = expected_B / max(budget - 1, 1)

    def active(x_BL, clock_B):
        if absorbing:
            return (x_BL == process.mask).any(-1)
        return (clock_B < end) & (free_B > 0)

    def call(carry):
        x_BL, clock_B, event, calls_B = carry
        active_B, t_B = active(x_BL, clock_B), time_of(clock_B)
        log_score_BLS = params.scale(model.log_scores(x_BL, t_B))
        if absorbing:
            movable_BL = x_BL == process.mask
            log_rate_BLS = log_score_BLS + jnp.log(jnp.expm1(process.noise.sigma_bar(t_B)))[:, None, None]
        else:
            movable_BL = free_BL
            here_BLS = jax.nn.one_hot(x_BL, process.vocab_size) > 0
            log_base_B = jnp.log(-jnp.expm1(-process.noise.sigma_bar(t_B)) / process.vocab_size)
            log_rate_BLS = jnp.where(here_BLS, -jnp.inf, log_score_BLS + log_base_B[:, None, None])
        bits_BUL = common.bits(key_B, event, 2, length)
        log_total_BL = jax.nn.logsumexp(log_rate_BLS, -1)
        holding_BL = holding_times(log_total_BL, as_uniform(bits_BUL[:, 0]))
        movable_BL &= active_B[:, None]
        # k changes by one between calls, so that the calls use the budget and not fewer.
        count_B = jnp.ceil(per_call_B * (event + 1) - _ROUNDING) - jnp.ceil(per_call_B * event - _ROUNDING)
        count_B = jnp.clip(count_B.astype(jnp.int32), 1, length)
        chosen_BL, elapsed_B = next_events(jnp.where(movable_BL, holding_BL, jnp.inf), count_B)
        chosen_BL &= movable_BL & (holding_BL <= (end - clock_B)[:, None])
        # Rates that are no numbers have no first event: all jump, to no token, so that the loop ends and it is told.
        lost_B = jnp.isnan(jnp.where(movable_BL, log_total_BL * holding_BL, 0.0).sum(-1)) | jnp.isnan(clock_B)
        chosen_BL = jnp.where(lost_B[:, None], movable_BL, chosen_BL)
        x_BL = common.jump_at(x_BL, chosen_BL, params.temper(log_rate_BLS), bits_BUL[:, 1])
        clock_B = jnp.where(active_B, jnp.minimum(clock_B + elapsed_B, end), clock_B)
        clock_B, x_BL = jnp.where(lost_B, end, clock_B), jnp.where(lost_B[:, None] & movable_BL, -1, x_BL)
        return x_BL, clock_B, event + 1, calls_B + active_B

    carry = x_BL, jnp.full(len(key_B), clock), jnp.zeros((), jnp.int32), jnp.zeros(len(key_B), jnp.int32)
    x_BL, _, _, calls_B = jax.lax.while_loop(lambda carry: model.any(active(*carry[:2])), call, carry)
    if not absorbing:
        x_BL = common.denoised(key_B, model, x_BL, free_BL, time_of(end), params)
        calls_B = calls_B + 1
    return Sample(x_BL, budget, None, calls_B)


GILLESPIE = EventSampler("gillespie", gillespie, ("absorbing", "uniform"), "Park et al. 2024, arXiv 2410.07761", False)
