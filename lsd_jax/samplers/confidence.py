"""Confidence samplers: every step reveals the positions that the network is surest of, as many as the grid says."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.samplers.ancestral import ancestral
from lsd_jax.samplers.kernel import Draw, Kernel, Knobs, denoise
from lsd_jax.samplers.simulate import Schedule
from lsd_jax.samplers.transition import Transition

_CHOICE_TEMPERATURE = 4.5  # MaskGIT's, at the start


def margin(log_prob_BLS: jax.Array) -> jax.Array:
    """Probability of the likeliest token minus that of the next (B, L)."""
    top_BL2 = jax.lax.top_k(jnp.exp(log_prob_BLS), 2)[0]
    return top_BL2[..., 0] - top_BL2[..., 1]


def negative_entropy(log_prob_BLS: jax.Array) -> jax.Array:
    """Sum of p log p (B, L), nats."""
    return jax.scipy.special.xlogy(jnp.exp(log_prob_BLS), jnp.exp(log_prob_BLS)).sum(-1)


def _surest(confidence_BL: jax.Array, masks_B: jax.Array, process: Absorbing, x_BL, u) -> jax.Array:
    """The masked positions (B, L) to reveal so that round(masks_B m(u) / m(1)) are left; ties go to the left.

    The counts of all steps follow from their times alone, whatever the grid: rounding never adds up.
    """
    masked_BL = x_BL == process.mask
    share = process.mask_probability(u) / process.mask_probability(jnp.ones(()))
    count_B = masked_BL.sum(-1) - jnp.floor(masks_B * share + 0.5).astype(jnp.int32)
    order_BL = jnp.argsort(jnp.where(masked_BL, confidence_BL, -jnp.inf), axis=-1, descending=True)
    return masked_BL & (jnp.argsort(order_BL, axis=-1) < count_B[:, None])


def _reveal(x_BL: jax.Array, chosen_BL: jax.Array, log_score_BLS: jax.Array, knobs: Knobs) -> Transition:
    return Transition(x_BL, jnp.where(chosen_BL, -jnp.inf, 0.0), knobs.temper(log_score_BLS))


def _maskgit(
    draw: Draw, masks_B: jax.Array, process, log_score_fn: LogScoreFn, x_BL, t, u, knobs: Knobs
) -> tuple[jax.Array, jax.Array]:
    """Draws a token everywhere and keeps the likeliest (Chang et al. 2022, section 3.2).

    Confidence is the log-probability of the drawn token under the network, without temperature, plus Gumbel noise of
    temperature 4.5 u: on equal steps MaskGIT's linear annealing.
    """
    log_score_BLS = knobs.scale(log_score_fn(x_BL, t))
    drawn_BL = draw(_reveal(x_BL, x_BL == process.mask, log_score_BLS, knobs))
    token_BL1 = jnp.minimum(drawn_BL, process.vocab_size - 1)[..., None]
    log_prob_BL = jnp.take_along_axis(jax.nn.log_softmax(log_score_BLS), token_BL1, -1)[..., 0]
    gumbel_BL = -jnp.log(-jnp.log(draw.uniform(1)[0]))
    chosen_BL = _surest(log_prob_BL + _CHOICE_TEMPERATURE * u * gumbel_BL, masks_B, process, x_BL, u)
    return jnp.where(chosen_BL, drawn_BL, x_BL), masks_B


def _ordered(measure: Callable[[jax.Array], jax.Array]) -> Callable:
    """A step that chooses positions first, by a measure of the network's law there, and draws their tokens then."""

    def advance(draw: Draw, masks_B: jax.Array, process, log_score_fn: LogScoreFn, x_BL, t, u, knobs: Knobs):
        log_score_BLS = knobs.scale(log_score_fn(x_BL, t))
        chosen_BL = _surest(measure(jax.nn.log_softmax(log_score_BLS)), masks_B, process, x_BL, u)
        return draw(_reveal(x_BL, chosen_BL, log_score_BLS, knobs)), masks_B

    return advance


def ordered_nll(
    process: Absorbing, kernel: Kernel, log_score_fn: LogScoreFn, schedule: Schedule, x0_BL: jax.Array
) -> jax.Array:
    """The exact -log p(x0) (B,), nats, of `margin` or `entropy` under a schedule.

    Their order is a function of the state: tokens and path determine each other, and nothing is left to average over.

    Raises:
        ValueError: a kernel that chooses positions at random.
    """
    if kernel.nll is None:
        raise ValueError(f"kernel {kernel.name!r} has no exact likelihood: only margin and entropy have")

    def force(carry, transition):
        x_BL, nll_B = carry
        jump_BL = jnp.isneginf(transition.log_stay_BL)
        nll_B = nll_B - jnp.where(jump_BL, transition.destination_log_prob(x0_BL, jump_BL), 0.0).sum(-1)
        return jnp.where(jump_BL, x0_BL, x_BL), nll_B

    def body(carry, step):
        t, u, knobs = step
        x_BL, masks_B = carry[0], jnp.full(len(x0_BL), x0_BL.shape[1])
        transition, _ = kernel.advance(lambda transition: transition, masks_B, process, log_score_fn, x_BL, t, u, knobs)
        return force(carry, transition), None

    last, grid = schedule.steps - 1, schedule.time_grid
    knobs = jax.tree.map(lambda leaf: leaf[:last], schedule.knobs)
    carry = jnp.full(x0_BL.shape, process.mask, jnp.int32), jnp.zeros(len(x0_BL))
    carry, _ = jax.lax.scan(body, carry, (grid[:last], grid[1:-1], knobs))
    last_knobs = jax.tree.map(lambda leaf: leaf[last], schedule.knobs)
    return force(carry, denoise(process, log_score_fn, carry[0], grid[last], last_knobs))[1]


# The grid alone says how many positions are revealed: LSD's coefficient on the score changes nothing, on the log-score
# the temperature.
_kernel = functools.partial(
    Kernel,
    step=ancestral,
    nfe=1,
    processes=("absorbing",),
    memory=lambda process, x_BL: (x_BL == process.mask).sum(-1),
)

MASKGIT = _kernel("maskgit", paper="Chang et al. 2022, arXiv 2202.04200", advance=_maskgit)
MARGIN = _kernel("margin", paper="Kim et al. 2025, arXiv 2502.06768", advance=_ordered(margin), nll=ordered_nll)
ENTROPY = _kernel(
    "entropy", paper="Ye et al. 2025, arXiv 2508.15487", advance=_ordered(negative_entropy), nll=ordered_nll
)
