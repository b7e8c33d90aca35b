"""The entropy bound under uniform noise: what is sure enough is accepted, and the rest is noise again."""

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.draws import inverse_cdf, share_of
from lsd_jax.samplers.events import common
from lsd_jax.samplers.events.adaptive import ENTROPIES, entropy_bound
from lsd_jax.samplers.kernel import Condition, EventSampler, Sample
from lsd_jax.samplers.schedule import StepParameters


def eb_uniform(
    key_B: jax.Array,
    model: Diffusion,
    length: int,
    budget: int,
    params: StepParameters,
    condition: Condition | None = None,
) -> Sample:
    """Every call draws all tokens anew, accepts those within the entropy bound, and renoises the others (Ben-Hamu et al. 2025).

    That is the rule of DiffusionGemma's samplers (diffusers' `EntropyBoundScheduler`): a token accepted by one call is drawn again
    by the next, and may be rejected. A sequence ends with the first call that accepts all of its tokens; the last call of the
    budget does. The network is told the time at which the share of tokens not accepted has been renoised. Where that stack
    anneals the temperature and measures entropies at it, the temperature here acts on the tokens only.
    """
    process, S = model.process, model.process.vocab_size
    x_BL, free_BL, open_B = common.start(key_B, process, length, condition)
    threshold = ENTROPIES.published if params.threshold is None else params.threshold
    noised = -jnp.expm1(-process.noise.sigma_bar(jnp.ones(())))

    def call(carry):
        x_BL, open_B, index, calls_B = carry
        active_B = open_B > 0
        t_B = process.noise.inverse(-jnp.log1p(-noised * jnp.maximum(open_B, 1) / length))
        log_score_BLS = params.scale(model.log_scores(x_BL, t_B))
        lost_BL = jnp.isnan(log_score_BLS.sum(-1))
        log_clean_BLS = process.log_clean(log_score_BLS, x_BL, t_B[:, None, None])
        bits_BUL = common.bits(key_B, index, 2, length)
        drawn_BL = jnp.where(lost_BL, -1, inverse_cdf(params.temper(log_clean_BLS), bits_BUL[:, 0]))
        noise_BL = share_of(bits_BUL[:, 1], S).astype(jnp.int32)
        accepted_BL = entropy_bound(jax.nn.log_softmax(log_clean_BLS), free_BL, threshold)
        accepted_BL |= (index == budget - 1) | (drawn_BL < 0)  # what is no number is kept, so that it is told
        moved_BL = free_BL & active_B[:, None] & (x_BL >= 0)
        x_BL = jnp.where(moved_BL, jnp.where(accepted_BL, drawn_BL, noise_BL), x_BL)
        open_B = (moved_BL & ~accepted_BL).sum(-1)
        return x_BL, open_B, index + 1, calls_B + active_B

    carry = x_BL, open_B, jnp.zeros((), jnp.int32), jnp.zeros(len(key_B), jnp.int32)
    x_BL, _, _, calls_B = jax.lax.while_loop(lambda carry: model.any(carry[1] > 0), call, carry)
    return Sample(x_BL, budget, None, calls_B)


EB_UNIFORM = EventSampler(
    "eb_uniform",
    eb_uniform,
    ("uniform",),
    "Ben-Hamu et al. 2025, arXiv 2505.24857; DiffusionGemma",
    False,
    threshold=ENTROPIES,
)
