"""Adaptive samplers of the absorbing process: what the network says decides how many positions a call reveals.

All go by one loop, and differ in the rule that chooses the positions of a call. A rule sees the network's own distributions,
without the temperature, so that, as everywhere, a temperature never changes how many tokens jump.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.events import common
from lsd_jax.samplers.kernel import Condition, EventSampler, Sample, Threshold
from lsd_jax.samplers.kernels.confidence import negative_entropy
from lsd_jax.samplers.schedule import Schedule, StepParameters

_STABLE = 0.01  # KLASS: the largest KL divergence from the call before, nats, of a distribution that is stable
_HISTORY = 2  # KLASS: for how many calls in a row


def entropy_bound(log_prob_BLS: jax.Array, open_BL: jax.Array, threshold: jax.Array) -> jax.Array:
    """The most positions (B, L) of least entropy whose entropies, less the largest of them, sum to at most the threshold, nats.

    The sum bounds the mutual information of the chosen tokens, which are drawn as if they were independent. The first position
    adds nothing to it: one is always chosen. Ties go to the left.
    """
    entropy_BL = jnp.where(open_BL, -negative_entropy(log_prob_BLS), jnp.inf)
    sorted_BL = jnp.sort(entropy_BL, -1)
    count_B = (jnp.cumsum(sorted_BL, -1) - sorted_BL <= threshold).sum(-1)
    return open_BL & (common.rank(entropy_BL) < count_B[:, None])


def confident(log_prob_BLS: jax.Array, open_BL: jax.Array, threshold: jax.Array) -> jax.Array:
    """The positions (B, L) whose likeliest token has at least the threshold's probability."""
    return open_BL & (jnp.exp(log_prob_BLS.max(-1)) >= threshold)


def surest(log_prob_BLS: jax.Array, open_BL: jax.Array) -> jax.Array:
    """The one position (B, L) with the likeliest token; ties go to the left."""
    top_BL = jnp.where(open_BL, log_prob_BLS.max(-1), -jnp.inf)
    return open_BL & (jnp.arange(open_BL.shape[1])[None] == jnp.argmax(top_BL, -1)[:, None])


def divergence(log_prob_BLS: jax.Array, log_other_BLS: jax.Array) -> jax.Array:
    """KL(p || other) (B, L), nats."""
    prob_BLS = jnp.exp(log_prob_BLS)
    return jnp.where(prob_BLS > 0, prob_BLS * (log_prob_BLS - log_other_BLS), 0.0).sum(-1)


def _eb(log_prob_BLS, masked_BL, threshold, memory):
    return entropy_bound(log_prob_BLS, masked_BL, threshold), memory


def _confidence(log_prob_BLS, masked_BL, threshold, memory):
    return confident(log_prob_BLS, masked_BL, threshold) | surest(log_prob_BLS, masked_BL), memory


def _klass(log_prob_BLS, masked_BL, threshold, memory):
    """Confident and stable; it remembers the last distributions, and for how many calls they have been stable.

    As in the authors' code: stable is a divergence KL(this call's || the last call's) of at most 0.01 nats in two calls in a
    row, so that at the earliest the third call reveals several. Where nothing is both, the surest one is revealed; the authors
    take as many as their number of steps needs, one where there is a step per token.
    """
    previous_BLS, stable_BL = memory
    stable_BL = jnp.where(divergence(log_prob_BLS, previous_BLS) <= _STABLE, stable_BL + 1, 0)
    ready_BL = confident(log_prob_BLS, masked_BL, threshold) & (stable_BL >= _HISTORY)
    chosen_BL = jnp.where(ready_BL.any(-1, keepdims=True), ready_BL, surest(log_prob_BLS, masked_BL))
    return chosen_BL, (log_prob_BLS, stable_BL)


def _distributions(shape: tuple[int, int, int]) -> tuple[jax.Array, jax.Array]:
    """Before the first call: distributions (B, L, S) that nothing is near to, and no call (B, L) in which they were stable."""
    return jnp.full(shape, -jnp.inf), jnp.zeros(shape[:2], jnp.int32)


class Rule(NamedTuple):
    """How a call chooses the positions that it reveals.

    Attributes:
        choose: (log_prob_BLS, masked_BL, threshold, memory) -> (the positions to reveal (B, L), memory).
        threshold: its range.
        init: the shape (B, L, S) -> what the first call remembers.
    """

    choose: Callable[[jax.Array, jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
    threshold: Threshold
    init: Callable[[tuple[int, int, int]], Any] = lambda shape: ()


def _run(
    rule: Rule,
    model: Diffusion,
    budget: int,
    params: StepParameters,
    x_BL: jax.Array,
    total_B: jax.Array,
    place: Callable[[Transition, jax.Array, jax.Array], tuple[jax.Array, jax.Array]],
) -> tuple[jax.Array, jax.Array]:
    """Calls the network until no sequence has a mask; the last call of the budget reveals all that is left.

    Args:
        place: (transition, chosen_BL, the call's number) -> the next tokens (B, L), and what is added to the totals (B,).

    Returns:
        The tokens (B, L) and the totals (B,).
    """
    process, length = model.process, x_BL.shape[1]
    threshold = rule.threshold.published if params.threshold is None else params.threshold
    own_B = jnp.maximum((process.start(x_BL) == process.mask).sum(-1), 1)  # a sequence's own length, pads left out
    last = min(budget, length) - 1  # a call reveals one position or more, unless the network's answers are not numbers

    def call(carry):
        x_BL, memory, index, total_B = carry
        masked_BL = x_BL == process.mask
        share_B = jnp.maximum(masked_BL.sum(-1), 1) / own_B
        t_B = process.time_of(process.mask_probability(jnp.ones(())) * share_B)
        log_score_BLS = params.scale(model.log_scores(x_BL, t_B))
        chosen_BL, memory = rule.choose(jax.nn.log_softmax(log_score_BLS), masked_BL, threshold, memory)
        chosen_BL = jnp.where(index == last, masked_BL, chosen_BL)
        transition = Transition(x_BL, jnp.where(chosen_BL, -jnp.inf, 0.0), params.temper(log_score_BLS))
        x_BL, added_B = place(transition, chosen_BL, index)
        return x_BL, memory, index + 1, total_B + added_B

    masks_left = lambda carry: model.any(carry[0] == process.mask)
    carry = x_BL, rule.init((*x_BL.shape, process.vocab_size)), jnp.zeros((), jnp.int32), total_B
    x_BL, _, _, total_B = jax.lax.while_loop(masks_left, call, carry)
    return x_BL, total_B


def _draw(
    rule: Rule,
    key_B: jax.Array,
    model: Diffusion,
    length: int,
    budget: int,
    params: StepParameters,
    condition: Condition | None = None,
) -> Sample:
    """Draws by a rule; a sequence's calls are those that reveal something in it."""
    x_BL, _, _ = common.start(key_B, model.process, length, condition)

    def place(transition, chosen_BL, index):
        bits_BL = common.bits(key_B, index, length)
        return transition.sample(jnp.zeros(bits_BL.shape), bits_BL), chosen_BL.any(-1).astype(jnp.int32)

    x_BL, calls_B = _run(rule, model, budget, params, x_BL, jnp.zeros(len(key_B), jnp.int32), place)
    return Sample(x_BL, min(budget, length), None, calls_B)


def _nll(rule: Rule, model: Diffusion, sampler: EventSampler, schedule: Schedule, x0_BL: jax.Array) -> jax.Array:
    """The exact -log p(x0) (B,), nats: which positions a call reveals is a function of the tokens revealed before it."""
    del sampler

    def place(transition, chosen_BL, index):
        cost_BL = jnp.where(chosen_BL, -transition.destination_log_prob(x0_BL, chosen_BL), 0.0)
        return jnp.where(chosen_BL, x0_BL, transition.x_BL), cost_BL.sum(-1)

    x_BL = model.process.start(x0_BL)
    nll_B = -model.process.prior_log_prob(x_BL)
    return _run(rule, model, schedule.steps, schedule.step(0).params, x_BL, nll_B, place)[1]


def _adaptive(name: str, rule: Rule, paper: str) -> EventSampler:
    draw, nll = functools.partial(_draw, rule), functools.partial(_nll, rule)
    return EventSampler(name, draw, ("absorbing",), paper, False, nll, rule.threshold)


ENTROPIES = Threshold(0.1, jnp.inf, 0.0)  # nats
_SHARE = Threshold(0.9, 0.0, 1.0)  # a probability

EB = _adaptive("eb", Rule(_eb, ENTROPIES), "Ben-Hamu et al. 2025, arXiv 2505.24857")
CONFIDENCE_THRESHOLD = _adaptive("confidence_threshold", Rule(_confidence, _SHARE), "Wu et al. 2025, arXiv 2505.22618")
KLASS = _adaptive("klass", Rule(_klass, _SHARE, _distributions), "Kim et al. 2025, arXiv 2511.05664")
