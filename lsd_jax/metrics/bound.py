"""The M-step bound: how well a few-step sampler explains given sequences, a proper score of the sampler itself."""

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.score import Process
from lsd_jax.samplers.ancestral import ANCESTRAL
from lsd_jax.samplers.bridge import bridge_state, bridge_transition, transition_kl
from lsd_jax.samplers.coupling import Coupling, path_noise
from lsd_jax.samplers.kernel import Kernel, Knobs, denoise
from lsd_jax.samplers.simulate import Schedule, check_kernel
from lsd_jax.samplers.tweedie import TWEEDIE

_IID = Coupling("iid")
_FINE = 4096


def m_step_nll(
    key_B: jax.Array,
    process: Process,
    kernel: Kernel,
    log_score_fn: LogScoreFn,
    schedule: Schedule,
    coupling: Coupling,
    x0_BL: jax.Array,
) -> jax.Array:
    """An unbiased estimate (B,), nats a sequence, of the sampler's evidence bound at x0 (DESIGN 6).

    The sampler runs as it would, but every position that jumps is given x0's token and pays its -log probability. With
    that forced path as the variational law the probabilities of jumping cancel, whatever the score, the coefficients and
    the coupling: the mean is at or above -log p(x0) of the few-step sampler, and nothing can lower it below the truth.

    The uniform and the Gaussian process have the same bound in D3PM's form: at every step the divergence of the bridge's step from the
    sampler's, summed over outcomes, at a fresh bridge state. It is that of independent draws.

    Raises:
        ValueError: such a process whose draws are not independent.
    """
    check_kernel(kernel, process)
    if not isinstance(process, Absorbing):
        if coupling.name != "iid":
            raise ValueError(f"the bound of the {process.name} process needs coupling 'iid', not {coupling.name!r}")
        return _bridge_nll(key_B, process, kernel, log_score_fn, schedule, x0_BL)
    noise = path_noise(key_B, process, coupling, x0_BL.shape[1])

    def force(carry, transition, index):
        x_BL, log_survival_BL, nll_B = carry
        jump_BL = transition.jumps(noise.step(index, log_survival_BL)[0])
        nll_B = nll_B - jnp.where(jump_BL, transition.destination_log_prob(x0_BL, jump_BL), 0.0).sum(-1)
        return jnp.where(jump_BL, x0_BL, x_BL), log_survival_BL + transition.log_stay_BL, nll_B

    def body(carry, step):
        index, t, u, knobs = step
        return force(carry, kernel.step(process, log_score_fn, carry[0], t, u, knobs), index), None

    last, grid = schedule.steps - 1, schedule.time_grid
    x_BL = jnp.full(x0_BL.shape, process.mask, jnp.int32)
    carry = (x_BL, jnp.zeros(x0_BL.shape), jnp.zeros(x0_BL.shape[0]))
    steps = jax.tree.map(lambda leaf: leaf[:last], schedule.knobs)
    carry, _ = jax.lax.scan(body, carry, (jnp.arange(last), grid[:last], grid[1:-1], steps))
    last_knobs = jax.tree.map(lambda leaf: leaf[last], schedule.knobs)
    return force(carry, denoise(process, log_score_fn, carry[0], grid[last], last_knobs), last)[2]


def _bridge_nll(key_B, process, kernel, log_score_fn, schedule, x0_BL):
    last, grid = schedule.steps - 1, schedule.time_grid

    def state(index, t):
        key_index_B = jax.vmap(lambda key: jax.random.fold_in(key, index))(key_B)
        return bridge_state(key_index_B, process, _IID, x0_BL, t)

    def body(nll_B, step):
        index, t, u, knobs = step
        x_BL = state(index, t)
        own = kernel.step(process, log_score_fn, x_BL, t, u, knobs)
        return nll_B + transition_kl(bridge_transition(process, x_BL, x0_BL, t, u), own).sum(-1), None

    steps = jax.tree.map(lambda leaf: leaf[:last], schedule.knobs)
    nll_B = _prior_kl(process, x0_BL)
    nll_B, _ = jax.lax.scan(body, nll_B, (jnp.arange(last), grid[:last], grid[1:-1], steps))
    last_knobs = jax.tree.map(lambda leaf: leaf[last], schedule.knobs)
    x_BL, t = state(last, grid[last]), grid[last]
    own = denoise(process, log_score_fn, x_BL, t, last_knobs)
    return nll_B + transition_kl(bridge_transition(process, x_BL, x0_BL, t, jnp.zeros(())), own).sum(-1)


def _prior_kl(process, x0_BL) -> jax.Array:
    """KL (B,) in nats of the noised sequences at time 1 from the prior."""
    if isinstance(process, DiscretizedGaussian):
        law_SS = process.marginal(jnp.arange(process.vocab_size), jnp.ones(()))
        log_prior_S = process.prior_log_prob(jnp.arange(process.vocab_size)[:, None])
        kl_S = (law_SS * (jnp.log(law_SS) - log_prior_S[None])).sum(-1)
        return kl_S[x0_BL].sum(-1)
    law_S = process.marginal(jnp.zeros((), jnp.int32), jnp.ones(()))
    kl = (law_S * jnp.log(law_S * process.vocab_size)).sum()
    return jnp.full(x0_BL.shape[0], x0_BL.shape[1] * kl)


def many_step_nll(
    key_B: jax.Array,
    process: Process,
    log_score_fn: LogScoreFn,
    x0_BL: jax.Array,
    draws: int,
) -> jax.Array:
    """The limit of infinitely many iid steps (B,), nats a sequence, from `draws` stratified times.

    Absorbing: MDLM's continuous-time bound. Uniform: the bound of 4,096 analytic steps, of which `draws` are looked at.
    Gaussian: the same with ancestral steps, smaller and smaller toward time zero, and the last one always.
    """
    if isinstance(process, DiscretizedGaussian):
        return _many_ordinal_nll(key_B, process, log_score_fn, x0_BL, draws)
    if not isinstance(process, Absorbing):
        return _many_bridge_nll(key_B, process, log_score_fn, x0_BL, draws)

    def draw(total_B, index):
        key_time_B, key_mask_B = jnp.moveaxis(
            jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, index)))(key_B), 1, 0
        )
        m_B = process.mask_probability(jnp.ones(())) * (index + jax.vmap(jax.random.uniform)(key_time_B)) / draws
        masked_BL = jax.vmap(lambda key, m: jax.random.uniform(key, x0_BL.shape[1:]) < m)(key_mask_B, m_B)
        x_BL = jnp.where(masked_BL, process.mask, x0_BL)
        # A posterior network takes no time; a time-conditioned one gets every sequence's own.
        t_B = process.noise.inverse(-jnp.log1p(-m_B))
        log_score_BLS = jax.vmap(lambda x, t: log_score_fn(x[None], t)[0])(x_BL, t_B)
        log_prob_BL = jnp.take_along_axis(jax.nn.log_softmax(log_score_BLS), x0_BL[..., None], -1)[..., 0]
        return total_B - jnp.where(masked_BL, log_prob_BL, 0.0).sum(-1) / m_B / draws, None

    # With m uniform on (0, m(1)) the bound's integrand is nll / m times m(1), and m(1) is one but for eps.
    scale = process.mask_probability(jnp.ones(()))
    return scale * jax.lax.scan(draw, jnp.zeros(x0_BL.shape[0]), jnp.arange(draws))[0]


def _many_ordinal_nll(key_B, process, log_score_fn, x0_BL, draws):
    # Nearly all of the cost lies near time zero: midpoints of a time that gives every factor of the true one as long.
    time = lambda share: (0.01**share - 0.01) / 0.99  # noqa: E731
    neutral = Knobs(jnp.zeros(()), jnp.zeros(()))

    def state(index, t):
        key_index_B = jax.vmap(lambda key: jax.random.fold_in(key, index))(key_B)
        return bridge_state(key_index_B, process, _IID, x0_BL, t)

    def draw(total_B, index):
        share = (index + 0.5) / draws
        t, u = time(share), time(share + 1 / _FINE)
        x_BL = state(index, t)
        own = ANCESTRAL.step(process, log_score_fn, x_BL, t, u, neutral)
        return total_B + transition_kl(bridge_transition(process, x_BL, x0_BL, t, u), own).sum(-1) * _FINE / draws, None

    nll_B, _ = jax.lax.scan(draw, _prior_kl(process, x0_BL), jnp.arange(draws))
    t = jnp.float32(time(1 - 1 / _FINE))
    x_BL = state(draws, t)
    own = denoise(process, log_score_fn, x_BL, t, neutral)
    return nll_B + transition_kl(bridge_transition(process, x_BL, x0_BL, t, jnp.zeros(())), own).sum(-1)


def _many_bridge_nll(key_B, process, log_score_fn, x0_BL, draws):
    def draw(total_B, index):
        key_time_B, key_state_B = jnp.moveaxis(
            jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, index)))(key_B), 1, 0
        )
        step_B = jnp.floor(_FINE * (index + jax.vmap(jax.random.uniform)(key_time_B)) / draws)

        def one(key, x0_L, step):
            t, u, x0_1L = 1 - step / _FINE, jnp.maximum(1 - (step + 1) / _FINE, 0.0), x0_L[None]
            x_1L = bridge_state(key[None], process, _IID, x0_1L, t)
            own = TWEEDIE.step(process, log_score_fn, x_1L, t, u, Knobs(jnp.zeros(()), jnp.zeros(())))
            return transition_kl(bridge_transition(process, x_1L, x0_1L, t, u), own).sum()

        return total_B + jax.vmap(one)(key_state_B, x0_BL, step_B) * _FINE / draws, None

    start = _prior_kl(process, x0_BL)
    return jax.lax.scan(draw, start, jnp.arange(draws))[0]
