"""How well a few-step sampler explains given sequences: the M-step ELBO, a proper score of the sampler itself.

The M-step ELBO is an upper bound on -log p(x) under the few-step sampler itself. No temperature can lower it below the truth.
Bounds of different kinds of order are not equally tight (docs/metrics.md).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.keys import fold_each, sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.progress import Progress
from lsd_jax.samplers.bridge import bridge_state
from lsd_jax.samplers.coupling import IID, path_noise
from lsd_jax.samplers.kernel import Kernel, check_kernel, denoise, transition_of
from lsd_jax.samplers.kernels.ancestral import ANCESTRAL
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.sampler import Sampler, bound_sampler
from lsd_jax.samplers.schedule import Step, neutral

_FINE = 4096  # steps that stand for infinitely many


def likelihood(
    model: Diffusion, sampler: Sampler, tokens: np.ndarray, *, key: jax.Array | None = None, batch_size: int = 64
) -> np.ndarray:
    """-log p(x) under the few-step sampler, (n,) in nats: its M-step ELBO, or the exact value where the kernel has one.

    The ELBO is estimated from one path per sequence; averages over many sequences are unbiased.

    Args:
        model: the diffusion model.
        sampler: any sampler with a likelihood (docs/samplers.md).
        tokens: integers (n, L).
        key: of the paths; by default that of seed 0.
        batch_size: sequences per compiled call; rounded up to a multiple of the devices.

    Raises:
        ValueError: the sampler has no likelihood, or does not fit the model or the tokens.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer) or not len(tokens):
        raise ValueError(f"tokens={tokens.dtype} {tokens.shape}: must be integers of shape (n, L)")
    if tokens.min() < 0 or tokens.max() >= model.process.vocab_size:
        wrong = tokens.min() if tokens.min() < 0 else tokens.max()
        raise ValueError(f"tokens={wrong}: the model's are 0 ... {model.process.vocab_size - 1}")
    bound = bound_sampler(model, sampler, tokens.shape[1])
    if not bound.has_likelihood(model.process):
        raise ValueError(f"sampler={sampler.kernel.name!r}: has no likelihood (docs/samplers.md)")
    devices = parallel.data_mesh().size
    batch_size = -(-min(batch_size, len(tokens)) // devices) * devices
    return elbo_nats(model, bound, jax.random.key(0) if key is None else key, tokens, batch_size, "likelihood")


@functools.partial(jax.jit, static_argnames="mesh")
def _elbo(mesh, model, sampler, batch):
    def local(replicated, batch):
        (model, sampler), (key_B, x0_BL) = replicated, batch
        if sampler.kernel.nll is not None:
            return sampler.kernel.nll(model, sampler.kernel, sampler.schedule, x0_BL)
        return m_step_nll(key_B, model, sampler, x0_BL)

    return parallel.map_over_data(local, mesh)((model, sampler), batch)


def elbo_nats(
    model: Diffusion, sampler: Sampler, key: jax.Array, tokens: np.ndarray, batch_size: int, progress: str = ""
) -> np.ndarray:
    """The M-step ELBO (n,) of given sequences, nats each; their exact -log p where the kernel has it.

    Raises:
        ValueError: the devices do not divide `batch_size`.
    """
    run = functools.partial(_elbo, parallel.data_mesh(), model, sampler)
    keys, rows = sequence_keys(key, len(tokens)), tokens.astype(np.int32)
    shown = Progress(progress, len(rows)) if progress and len(rows) > batch_size else None
    return parallel.in_batches(lambda *batch: run(batch), batch_size, keys, rows, progress=shown)


@functools.partial(jax.jit, static_argnames=("draws", "mesh"))
def _continuous(draws, mesh, model, batch):
    return parallel.map_over_data(lambda model, batch: continuous_time_nll(*batch, model, draws), mesh)(model, batch)


def continuous_time_nats(
    model: Diffusion, key: jax.Array, tokens: np.ndarray, batch_size: int, draws: int = 16
) -> np.ndarray:
    """The continuous-time ELBO (n,), that of infinitely many iid steps, nats each, from `draws` times per sequence.

    Raises:
        ValueError: the devices do not divide `batch_size`.
    """
    run = functools.partial(_continuous, draws, parallel.data_mesh(), model)
    keys, rows = sequence_keys(key, len(tokens)), tokens.astype(np.int32)
    return parallel.in_batches(lambda *batch: run(batch), batch_size, keys, rows)


def m_step_nll(key_B: jax.Array, model: Diffusion, sampler: Sampler, x0_BL: jax.Array) -> jax.Array:
    """An unbiased estimate (B,), nats per sequence, of the sampler's M-step ELBO at x0.

    The sampler runs as it would, but every position that jumps is given x0's token and pays its -log probability. With
    that forced path as the variational distribution the probabilities of jumping cancel, whatever the score, the coefficients
    and the coupling: the mean is at or above -log p(x0) of the few-step sampler, and nothing can lower it below the truth.

    Where positions jump many times it is the same bound in D3PM's form: at every step the divergence of the bridge's step from
    the sampler's, summed over outcomes, at a fresh bridge state. It is that of independent draws.

    Raises:
        ValueError: such a process whose draws are not independent.
    """
    check_kernel(sampler.kernel, model.process)
    if not model.process.jumps_once:
        if sampler.coupling.name != "iid":
            name = model.process.name
            raise ValueError(f"coupling.name={sampler.coupling.name!r}: the ELBO of the {name} process needs 'iid'")
        return _bridge_nll(key_B, model, sampler, x0_BL)
    noise = path_noise(key_B, model.process, sampler.coupling, x0_BL.shape[1])
    schedule = sampler.schedule

    def force(carry, index, step, last):
        x_BL, log_survival_BL, nll_B = carry
        transition = transition_of(sampler.kernel, model, x_BL, step, last)
        jump_BL = transition.jumps(noise.step(index, log_survival_BL)[0])
        nll_B = nll_B - jnp.where(jump_BL, transition.destination_log_prob(x0_BL, jump_BL), 0.0).sum(-1)
        return jnp.where(jump_BL, x0_BL, x_BL), log_survival_BL + transition.log_stay_BL, nll_B

    x_BL = jnp.full(x0_BL.shape, model.process.mask, jnp.int32)
    carry, last = (x_BL, jnp.zeros(x0_BL.shape), jnp.zeros(x0_BL.shape[0])), schedule.steps - 1
    body = lambda carry, inputs: (force(carry, *inputs, last=False), None)
    carry, _ = jax.lax.scan(body, carry, (jnp.arange(last), schedule.inner))
    return force(carry, last, schedule.last, last=True)[2]


def _bridge_nll(key_B: jax.Array, model: Diffusion, sampler: Sampler, x0_BL: jax.Array) -> jax.Array:
    def cost(index, step, last):
        x_BL = bridge_state(fold_each(key_B, index), model.process, IID, x0_BL, step.t)
        own = transition_of(sampler.kernel, model, x_BL, step, last)
        end = jnp.zeros(()) if last else step.u
        return own.kl_from(model.process.bridge(x_BL, x0_BL, step.t, end)).sum(-1)

    schedule, last = sampler.schedule, sampler.schedule.steps - 1
    body = lambda nll_B, inputs: (nll_B + cost(*inputs, last=False), None)
    nll_B, _ = jax.lax.scan(body, model.process.prior_kl(x0_BL), (jnp.arange(last), schedule.inner))
    return nll_B + cost(last, schedule.last, last=True)


def continuous_time_nll(key_B: jax.Array, x0_BL: jax.Array, model: Diffusion, draws: int) -> jax.Array:
    """The limit of infinitely many iid steps (B,), nats per sequence, from `draws` stratified times.

    Absorbing: MDLM's continuous-time ELBO. Uniform: the ELBO of 4,096 analytic steps, of which `draws` are evaluated.
    Gaussian: the same with ancestral steps, smaller and smaller toward time zero, and the last one always.
    """
    if model.process.jumps_once:
        return _masked_nll(key_B, x0_BL, model, draws)
    return (_ordinal_nll if model.process.ordered else _analytic_nll)(key_B, x0_BL, model, draws)


def _masked_nll(key_B: jax.Array, x0_BL: jax.Array, model: Diffusion, draws: int) -> jax.Array:
    process = model.process

    def draw(total_B, index):
        key_time_B, key_mask_B = _split_each(key_B, index)
        m_B = process.mask_probability(jnp.ones(())) * (index + jax.vmap(jax.random.uniform)(key_time_B)) / draws
        masked_BL = jax.vmap(lambda key, m: jax.random.uniform(key, x0_BL.shape[1:]) < m)(key_mask_B, m_B)
        # A network with a time input gets every sequence's own.
        log_score_BLS = model.log_scores(jnp.where(masked_BL, process.mask, x0_BL), process.time_of(m_B))
        log_prob_BL = jnp.take_along_axis(jax.nn.log_softmax(log_score_BLS), x0_BL[..., None], -1)[..., 0]
        return total_B - jnp.where(masked_BL, log_prob_BL, 0.0).sum(-1) / m_B / draws, None

    # With m uniform on (0, m(1)) the bound's integrand is nll / m times m(1), and m(1) is one but for eps.
    scale = process.mask_probability(jnp.ones(()))
    return scale * jax.lax.scan(draw, jnp.zeros(x0_BL.shape[0]), jnp.arange(draws))[0]


def _ordinal_nll(key_B: jax.Array, x0_BL: jax.Array, model: Diffusion, draws: int) -> jax.Array:
    # Nearly all of the cost lies near time zero: midpoints of a log-uniform time grid.
    time = lambda share: (0.01**share - 0.01) / 0.99
    process = model.process

    def cost(index, step, kernel: Kernel | None):
        x_BL = bridge_state(fold_each(key_B, index), process, IID, x0_BL, step.t)
        own = kernel.transition(model, x_BL, step) if kernel else denoise(model, x_BL, step)
        return own.kl_from(process.bridge(x_BL, x0_BL, step.t, step.u)).sum(-1)

    def draw(total_B, index):
        share = (index + 0.5) / draws
        step = Step(time(share), time(share + 1 / _FINE), neutral())
        return total_B + cost(index, step, ANCESTRAL) * _FINE / draws, None

    nll_B, _ = jax.lax.scan(draw, process.prior_kl(x0_BL), jnp.arange(draws))
    return nll_B + cost(draws, Step(jnp.float32(time(1 - 1 / _FINE)), jnp.zeros(()), neutral()), None)


def _analytic_nll(key_B: jax.Array, x0_BL: jax.Array, model: Diffusion, draws: int) -> jax.Array:
    process = model.process

    def draw(total_B, index):
        key_time_B, key_state_B = _split_each(key_B, index)
        step_B = jnp.floor(_FINE * (index + jax.vmap(jax.random.uniform)(key_time_B)) / draws)

        def one(key, x0_L, step):
            t, u, x0_1L = 1 - step / _FINE, jnp.maximum(1 - (step + 1) / _FINE, 0.0), x0_L[None]
            x_1L = bridge_state(key[None], process, IID, x0_1L, t)
            own = TWEEDIE.transition(model, x_1L, Step(t, u, neutral()))
            return own.kl_from(process.bridge(x_1L, x0_1L, t, u)).sum()

        return total_B + jax.vmap(one)(key_state_B, x0_BL, step_B) * _FINE / draws, None

    return jax.lax.scan(draw, process.prior_kl(x0_BL), jnp.arange(draws))[0]


def _split_each(key_B: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two keys (B,) of one of a sequence's draws."""
    split = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, index)))(key_B)
    return split[:, 0], split[:, 1]
