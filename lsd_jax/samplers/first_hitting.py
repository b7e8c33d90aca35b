"""First-hitting sampling: exact for the absorbing process, one token an event, L network evaluations."""

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.samplers.kernel import EventSampler, Knobs
from lsd_jax.samplers.simulate import Condition, Sample
from lsd_jax.samplers.transition import Transition, fine_uniform


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
    x_BL = jnp.full((len(key_B), length), process.mask, jnp.int32)
    x_BL = x_BL if condition is None else condition.apply(x_BL)
    masks_B = (x_BL == process.mask).sum(-1)

    def event(carry, index):
        x_BL, m_B = carry
        uniform_BU = jax.vmap(lambda k: fine_uniform(jax.random.fold_in(k, index), (2 + length,)))(key_B)
        time_B, token_B, order_BL = uniform_BU[:, 0], uniform_BU[:, 1], uniform_BU[:, 2:]
        m_B = m_B * time_B ** (1 / jnp.maximum(masks_B - index, 1))
        t_B = process.noise.inverse(-jnp.log1p(-m_B))
        # Sequences reveal at different times; a network takes one time a call, a posterior network none.
        log_score_BLS = jax.vmap(lambda x, t: log_score_fn(x[None], t)[0])(x_BL, t_B)
        masked_BL = x_BL == process.mask
        chosen_BL = jnp.arange(length)[None] == jnp.argmax(jnp.where(masked_BL, order_BL, -1.0), -1)[:, None]
        log_stay_BL = jnp.where(chosen_BL & masked_BL, -jnp.inf, 0.0)
        token_uniform_BL = jnp.broadcast_to(token_B[:, None], x_BL.shape)
        transition = Transition(x_BL, log_stay_BL, knobs.temper(log_score_BLS))
        return (transition.sample(jnp.zeros_like(order_BL), token_uniform_BL), m_B), None

    start = (x_BL, jnp.full(len(key_B), process.mask_probability(jnp.ones(()))))
    (x_BL, _), _ = jax.lax.scan(event, start, jnp.arange(length))
    return Sample(x_BL, length, None, masks_B)


FIRST_HITTING = EventSampler(
    "first_hitting", first_hitting, ("absorbing",), "Zheng et al. 2024, arXiv 2409.02908", True
)
