"""Confidence samplers: every step reveals the positions that the network is surest of, as many as the grid says."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from lsd_jax.errors import InputError
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.kernel import Draw, StagedKernel, denoise
from lsd_jax.samplers.kernels.ancestral import ANCESTRAL
from lsd_jax.samplers.schedule import Schedule, Step, StepParameters

_BLOCK = 32  # positions: one of LLaDA's sizes


def margin(log_prob_BLS: jax.Array) -> jax.Array:
    """Probability of the likeliest token minus that of the next (B, L)."""
    top_BL2 = jax.lax.top_k(jnp.exp(log_prob_BLS), 2)[0]
    return top_BL2[..., 0] - top_BL2[..., 1]


def negative_entropy(log_prob_BLS: jax.Array) -> jax.Array:
    """Sum of p log p (B, L), nats."""
    return jax.scipy.special.xlogy(jnp.exp(log_prob_BLS), jnp.exp(log_prob_BLS)).sum(-1)


def blockwise(log_prob_BLS: jax.Array) -> jax.Array:
    """Probability of the likeliest token (B, L), less twice the number of the position's block of 32: earlier blocks come first."""
    block_L = jnp.arange(log_prob_BLS.shape[1]) // _BLOCK
    return jnp.exp(log_prob_BLS.max(-1)) - 2.0 * block_L[None]


def _surest(confidence_BL: jax.Array, masks_B: jax.Array, process: Absorbing, x_BL, u) -> jax.Array:
    """The masked positions (B, L) to reveal so that round(masks_B m(u) / m(1)) are left; ties go to the left.

    The counts of all steps follow from their times alone, whatever the grid: rounding never adds up.
    """
    masked_BL = x_BL == process.mask
    share = process.mask_share(u)
    count_B = masked_BL.sum(-1) - jnp.floor(masks_B * share + 0.5).astype(jnp.int32)
    order_BL = jnp.argsort(jnp.where(masked_BL, confidence_BL, -jnp.inf), axis=-1, descending=True)
    return masked_BL & (jnp.argsort(order_BL, axis=-1) < count_B[:, None])


def _reveal(x_BL: jax.Array, chosen_BL: jax.Array, log_score_BLS: jax.Array, params: StepParameters) -> Transition:
    return Transition(x_BL, jnp.where(chosen_BL, -jnp.inf, 0.0), params.temper(log_score_BLS))


def _maskgit(
    choice_temperature: float, draw: Draw, masks_B: jax.Array, model: Diffusion, x_BL: jax.Array, step: Step
) -> tuple[jax.Array, jax.Array]:
    """Draws a token everywhere and keeps the likeliest (Chang et al. 2022, section 3.2).

    Confidence is the log-probability of the drawn token under the network, without temperature, plus Gumbel noise of the choice
    temperature times u: on equal steps MaskGIT's linear annealing.
    """
    (t, u, params), process = step, model.process
    log_score_BLS = params.scale(model.log_score(x_BL, t))
    drawn_BL = draw(_reveal(x_BL, x_BL == process.mask, log_score_BLS, params))
    token_BL1 = jnp.minimum(drawn_BL, process.vocab_size - 1)[..., None]
    log_prob_BL = jnp.take_along_axis(jax.nn.log_softmax(log_score_BLS), token_BL1, -1)[..., 0]
    gumbel_BL = -jnp.log(-jnp.log(draw.uniform(1)[0]))
    chosen_BL = _surest(log_prob_BL + choice_temperature * u * gumbel_BL, masks_B, process, x_BL, u)
    return jnp.where(chosen_BL, drawn_BL, x_BL), masks_B


def ordered(measure: Callable[[jax.Array], jax.Array]) -> Callable:
    """A step that chooses positions first, by a measure of the network's distribution there, and draws their tokens then."""

    def move(draw: Draw, masks_B: jax.Array, model: Diffusion, x_BL: jax.Array, step: Step):
        log_score_BLS = step.params.scale(model.log_score(x_BL, step.t))
        chosen_BL = _surest(measure(jax.nn.log_softmax(log_score_BLS)), masks_B, model.process, x_BL, step.u)
        return draw(_reveal(x_BL, chosen_BL, log_score_BLS, step.params)), masks_B

    return move


def ordered_nll(model: Diffusion, kernel: StagedKernel, schedule: Schedule, x0_BL: jax.Array) -> jax.Array:
    """The exact -log p(x0) (B,), nats, of `margin`, `entropy` or `blockwise` under a schedule.

    Their order is a function of the state: tokens and path determine each other, and nothing is left to average over.

    Raises:
        ValueError: a kernel that chooses positions at random.
    """
    if kernel.nll is None:
        raise InputError(f"kernel={kernel.name!r}: has no exact likelihood; only margin, entropy and blockwise have")

    def force(carry, transition):
        x_BL, nll_B = carry
        jump_BL = jnp.isneginf(transition.log_stay_BL)
        nll_B = nll_B - jnp.where(jump_BL, transition.destination_log_prob(x0_BL, jump_BL), 0.0).sum(-1)
        return jnp.where(jump_BL, x0_BL, x_BL), nll_B

    def body(carry, step):
        transition, _ = kernel.step(lambda transition: transition, masks_B, model, carry[0], step)
        return force(carry, transition), None

    x_BL = model.process.start(x0_BL)
    masks_B = (x_BL == model.process.mask).sum(-1)
    carry = x_BL, -model.process.prior_log_prob(x_BL)
    carry, _ = jax.lax.scan(body, carry, schedule.inner)
    return force(carry, denoise(model, carry[0], schedule.last))[1]


# The grid alone says how many positions are revealed: LSD's coefficient on the score changes nothing, on the log-score
# the temperature.
_kernel = functools.partial(
    StagedKernel,
    nfe=1,
    processes=("absorbing",),
    stand_in=ANCESTRAL,
    init=lambda process, x_BL: (x_BL == process.mask).sum(-1),
)


def maskgit(name: str, choice_temperature: float) -> StagedKernel:
    """MaskGIT; a large choice temperature chooses what is kept nearly at random, 0 keeps the likeliest."""
    return _kernel(
        name, paper="Chang et al. 2022, arXiv 2202.04200", step=functools.partial(_maskgit, choice_temperature)
    )


MASKGIT = maskgit("maskgit", 4.5)  # as published
MASKGIT_COOL = maskgit("maskgit_cool", 1.0)  # fewer steps may need less noise in the choice
MARGIN = _kernel("margin", paper="Kim et al. 2025, arXiv 2502.06768", step=ordered(margin), nll=ordered_nll)
ENTROPY = _kernel("entropy", paper="Ye et al. 2025, arXiv 2508.15487", step=ordered(negative_entropy), nll=ordered_nll)
BLOCKWISE = _kernel("blockwise", paper="Nie et al. 2025, arXiv 2502.09992", step=ordered(blockwise), nll=ordered_nll)
