"""Any-order sampling: positions in a uniformly random order, without a time."""

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.draws import as_uniform
from lsd_jax.samplers.events import common
from lsd_jax.samplers.kernel import Condition, EventSampler, Sample
from lsd_jax.samplers.schedule import StepParameters


def any_order(
    key_B: jax.Array,
    model: Diffusion,
    length: int,
    budget: int,
    params: StepParameters,
    condition: Condition | None = None,
) -> Sample:
    """Reveals ceil(n / budget) of a sequence's n masks per call (RADD, Ou et al. 2024, arXiv 2406.03736, section 3).

    With a budget of n or more it is one position per call, which is exact for a network without a time input. With less it is not:
    tokens revealed together are independent. A network with a time input is told the time of the mask share that is left.
    """
    process = model.process
    x_BL, free_BL, masks_B = common.start(key_B, process, length, condition)
    own_B = (process.start(x_BL) == process.mask).sum(-1)  # a sequence's own length, pads left out
    block_B = -(-masks_B // budget)
    place_BL = common.rank(jnp.where(free_BL, as_uniform(common.bits(key_B, length, length)), 2.0))

    def call(x_BL, index):
        left_B = jnp.maximum(masks_B - index * block_B, 1)
        m_B = process.mask_probability(jnp.ones(())) * left_B / jnp.maximum(own_B, 1)
        log_score_BLS = model.log_scores(x_BL, process.time_of(m_B))
        chosen_BL = free_BL & (place_BL >= (index * block_B)[:, None]) & (place_BL < ((index + 1) * block_B)[:, None])
        bits_BL = common.bits(key_B, index, length)
        return common.jump_at(x_BL, chosen_BL, params.temper(params.scale(log_score_BLS)), bits_BL), None

    calls = min(budget, length)
    x_BL, _ = jax.lax.scan(call, x_BL, jnp.arange(calls))
    return Sample(x_BL, calls, None, -(-masks_B // jnp.maximum(block_B, 1)))


ANY_ORDER = EventSampler("any_order", any_order, ("absorbing",), "Ou et al. 2024, arXiv 2406.03736", False)
