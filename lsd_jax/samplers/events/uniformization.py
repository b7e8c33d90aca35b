"""Uniformization: exact for the uniform process, by Poisson candidates that are accepted with their share of a bound."""

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.draws import as_uniform
from lsd_jax.processes.uniform import Uniform
from lsd_jax.samplers.events import common
from lsd_jax.samplers.kernel import Condition, EventSampler, Sample
from lsd_jax.samplers.schedule import StepParameters

_PIECES = 128  # of the geometric partition: a bound at most 13 % above the one that moves with time
_END = 1e-3  # sigma_bar, summed over a sequence, at which the denoising call takes over


def rate_bound(process: Uniform, sigma_bar: jax.Array) -> jax.Array:
    """The largest total rate out of a position, per unit of sigma_bar: (1 - p) / (S p), p = (1 - exp(-sigma_bar)) / S.

    An exact score is an average over y of q(v | y) / q(x | y); summed over v != x that is largest for y != x.
    """
    move = -jnp.expm1(-sigma_bar) / process.vocab_size
    return (1 - move) / (process.vocab_size * move)


def uniformization(
    key_B: jax.Array,
    model: Diffusion,
    length: int,
    budget: int,
    params: StepParameters,
    condition: Condition | None = None,
) -> Sample:
    """Chen and Ying 2024 (arXiv 2402.08095, algorithm 1): one network evaluation per candidate, as many as there are.

    Time is cut geometrically in sigma_bar; on a piece the rate is bounded by its bound at the piece's end, and a sequence's
    candidates are a Poisson process of that rate. A call takes the next candidate of every sequence, each at its own time. It
    stops where a sequence is expected to hold 0.001 wrong tokens and denoises. The bound holds for every normalized
    posterior; a network of scores that exceeds it, or a coefficient on the log-score, is cut off there.
    """
    process = model.process
    x_BL, free_BL, free_B = common.start(key_B, process, length, condition)
    start, zero = process.noise.sigma_bar(jnp.ones(())), jnp.zeros(())
    end = jnp.maximum(process.noise.sigma_bar(zero), _END / length)
    knots = start * (end / start) ** jnp.linspace(0, 1, _PIECES + 1)
    bounds = rate_bound(process, knots[1:])
    measure = jnp.concatenate([jnp.zeros(1), jnp.cumsum(bounds * (knots[:-1] - knots[1:]))])
    factor = jnp.exp(params.log_coefficient) if params.coefficient == "score" else 1.0

    def advance(reached_B, event):
        """The measure at every sequence's next candidate."""
        waiting_B = -jnp.log(as_uniform(common.bits(key_B, event, 3)[:, 2])) / (factor * free_B)
        return reached_B + waiting_B

    def call(carry):
        x_BL, reached_B, event, calls_B = carry
        active_B = reached_B < measure[-1]
        sigma_bar_B = jnp.interp(reached_B, measure, knots)
        piece_B = jnp.clip(jnp.searchsorted(measure, reached_B, side="right") - 1, 0, _PIECES - 1)
        log_score_BLS = params.scale(model.log_scores(x_BL, process.noise.inverse(sigma_bar_B)))
        movable_BLS = free_BL[..., None] & (jax.nn.one_hot(x_BL, process.vocab_size) == 0)
        log_rate_BLS = jnp.where(movable_BLS, log_score_BLS - jnp.log(process.vocab_size), -jnp.inf)
        cumulative_BL = jnp.cumsum(jnp.exp(jax.nn.logsumexp(log_rate_BLS, -1)), -1)
        bound_B = jnp.maximum(factor * free_B * bounds[piece_B], cumulative_BL[:, -1])
        bits_BU = common.bits(key_B, event, 3)
        # One uniform accepts and chooses the position; beyond the total rate it is a rejection.
        place_B = (cumulative_BL <= (as_uniform(bits_BU[:, 0]) * bound_B)[:, None]).sum(-1)
        chosen_BL = (jnp.arange(length)[None] == place_B[:, None]) & active_B[:, None]
        # Positions that are not chosen draw nothing, but still need a distribution that is not empty.
        log_destination_BLS = jnp.where(chosen_BL[..., None], log_rate_BLS, 0.0)
        token_bits_BL = jnp.broadcast_to(bits_BU[:, 1:2], x_BL.shape)
        x_BL = common.jump_at(x_BL, chosen_BL, params.temper(log_destination_BLS), token_bits_BL)
        return x_BL, jnp.where(active_B, advance(reached_B, event + 1), reached_B), event + 1, calls_B + active_B

    first = jnp.zeros((), jnp.int32)
    carry = x_BL, advance(jnp.zeros(len(key_B)), first), first, jnp.zeros(len(key_B), jnp.int32)
    x_BL, _, _, calls_B = jax.lax.while_loop(lambda carry: model.any(carry[1] < measure[-1]), call, carry)
    x_BL = common.denoised(key_B, model, x_BL, free_BL, process.noise.inverse(end), params)
    return Sample(x_BL, budget, None, calls_B + 1)


UNIFORMIZATION = EventSampler(
    "uniformization", uniformization, ("uniform",), "Chen and Ying 2024, arXiv 2402.08095", True
)
