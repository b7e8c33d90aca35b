"""Any-order sampling: positions in a uniformly random order, without a time."""

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.samplers import events
from lsd_jax.samplers.kernel import EventSampler, Knobs
from lsd_jax.samplers.simulate import Condition, Sample


def any_order(
    key_B: jax.Array,
    process: Absorbing,
    log_score_fn: LogScoreFn,
    length: int,
    budget: int,
    knobs: Knobs,
    condition: Condition | None = None,
) -> Sample:
    """Reveals ceil(n / budget) of a sequence's n masks a call (RADD, Ou et al. 2024, arXiv 2406.03736, section 3).

    With a budget of n or more it is one position a call: exact for a network that is not told the time. With less it is not:
    tokens revealed together are independent. A time-conditioned network is told the time of the mask share that is left.
    """
    x_BL, free_BL, masks_B = events.start(key_B, process, length, condition)
    block_B = -(-masks_B // budget)
    place_BL = events.rank(jnp.where(free_BL, events.uniforms(key_B, length, length), 2.0))

    def call(x_BL, index):
        left_B = jnp.maximum(masks_B - index * block_B, 1)
        m_B = process.mask_probability(jnp.ones(())) * left_B / length
        log_score_BLS = events.scores_at(log_score_fn, x_BL, process.noise.inverse(-jnp.log1p(-m_B)))
        chosen_BL = free_BL & (place_BL >= (index * block_B)[:, None]) & (place_BL < ((index + 1) * block_B)[:, None])
        uniform_BL = events.uniforms(key_B, index, length)
        return events.jump_at(x_BL, chosen_BL, knobs.temper(knobs.scale(log_score_BLS)), uniform_BL), None

    calls = min(budget, length)
    x_BL, _ = jax.lax.scan(call, x_BL, jnp.arange(calls))
    return Sample(x_BL, calls, None, -(-masks_B // jnp.maximum(block_B, 1)))


ANY_ORDER = EventSampler("any_order", any_order, ("absorbing",), "Ou et al. 2024, arXiv 2406.03736", False)
