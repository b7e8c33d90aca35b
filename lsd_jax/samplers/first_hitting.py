"""First-hitting sampling: exact for the absorbing process, one token an event, L network evaluations."""

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.samplers import events
from lsd_jax.samplers.kernel import EventSampler, Knobs
from lsd_jax.samplers.simulate import Condition, Sample


def first_hitting(
    key_B: jax.Array,
    process: Absorbing,
    log_score_fn: LogScoreFn,
    length: int,
    budget: int,
    knobs: Knobs,
    condition: Condition | None = None,
) -> Sample:
    """Draws exactly from the network's own law (Zheng et al. 2024, arXiv 2409.02908, algorithm 1).

    With n masks left, the mask probability at the next reveal is m times U^(1/n), its position uniform among the masked.
    One network evaluation a position that is not given, whatever the budget.

    Raises:
        ValueError: the process is not absorbing.
    """
    del budget
    if not isinstance(process, Absorbing):
        raise ValueError(f"first_hitting needs the absorbing process, not {process.name!r}")
    x_BL, _, masks_B = events.start(key_B, process, length, condition)

    def event(carry, index):
        x_BL, m_B = carry
        uniform_BU = events.uniforms(key_B, index, 2 + length)
        time_B, token_B, order_BL = uniform_BU[:, 0], uniform_BU[:, 1], uniform_BU[:, 2:]
        m_B = m_B * time_B ** (1 / jnp.maximum(masks_B - index, 1))
        log_score_BLS = events.scores_at(log_score_fn, x_BL, process.noise.inverse(-jnp.log1p(-m_B)))
        masked_BL = x_BL == process.mask
        chosen_BL = jnp.arange(length)[None] == jnp.argmax(jnp.where(masked_BL, order_BL, -1.0), -1)[:, None]
        token_uniform_BL = jnp.broadcast_to(token_B[:, None], x_BL.shape)
        return (events.jump_at(x_BL, chosen_BL & masked_BL, knobs.temper(log_score_BLS), token_uniform_BL), m_B), None

    start = (x_BL, jnp.full(len(key_B), process.mask_probability(jnp.ones(()))))
    (x_BL, _), _ = jax.lax.scan(event, start, jnp.arange(length))
    return Sample(x_BL, length, None, masks_B)


FIRST_HITTING = EventSampler(
    "first_hitting", first_hitting, ("absorbing",), "Zheng et al. 2024, arXiv 2409.02908", True
)
