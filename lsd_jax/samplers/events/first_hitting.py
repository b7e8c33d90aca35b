"""First-hitting sampling: exact for the absorbing process, one token per event, L network evaluations."""

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.draws import as_uniform
from lsd_jax.samplers.events import common
from lsd_jax.samplers.kernel import Condition, EventSampler, Sample, check_kernel
from lsd_jax.samplers.schedule import StepParameters


def first_hitting(
    key_B: jax.Array,
    model: Diffusion,
    length: int,
    budget: int,
    params: StepParameters,
    condition: Condition | None = None,
) -> Sample:
    """Draws exactly from the network's own distribution (Zheng et al. 2024, arXiv 2409.02908, algorithm 1).

    With n masks left, the mask probability at the next reveal is m times U^(1/n), its position uniform among the masked.
    One network evaluation per position that is not given, whatever the budget.

    Raises:
        ValueError: the process is not absorbing.
    """
    del budget
    check_kernel(FIRST_HITTING, model.process)
    process = model.process
    x_BL, _, masks_B = common.start(key_B, process, length, condition)

    def event(carry, index):
        x_BL, m_B = carry
        bits_BU = common.bits(key_B, index, 2 + length)
        time_B, order_BL = as_uniform(bits_BU[:, 0]), as_uniform(bits_BU[:, 2:])
        m_B = m_B * time_B ** (1 / jnp.maximum(masks_B - index, 1))
        log_score_BLS = model.log_scores(x_BL, process.time_of(m_B))
        masked_BL = x_BL == process.mask
        chosen_BL = jnp.arange(length)[None] == jnp.argmax(jnp.where(masked_BL, order_BL, -1.0), -1)[:, None]
        token_bits_BL = jnp.broadcast_to(bits_BU[:, 1:2], x_BL.shape)
        return (common.jump_at(x_BL, chosen_BL & masked_BL, params.temper(log_score_BLS), token_bits_BL), m_B), None

    start = (x_BL, jnp.full(len(key_B), process.mask_probability(jnp.ones(()))))
    (x_BL, _), _ = jax.lax.scan(event, start, jnp.arange(length))
    return Sample(x_BL, length, None, masks_B)


FIRST_HITTING = EventSampler(
    "first_hitting", first_hitting, ("absorbing",), "Zheng et al. 2024, arXiv 2409.02908", True
)
