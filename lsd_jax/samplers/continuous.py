"""The limit of infinitely many independent steps: the continuous-time ELBO, which papers report for diffusion models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.keys import fold_each, sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.samplers.bridge import bridge_state
from lsd_jax.samplers.coupling import IID
from lsd_jax.samplers.kernel import Kernel, denoise
from lsd_jax.samplers.kernels.ancestral import ANCESTRAL
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.schedule import Step, neutral

_FINE = 4096  # steps that stand for infinitely many


@functools.partial(jax.jit, static_argnames=("draws", "mesh"))
def _continuous(draws, mesh, model, batch):
    return parallel.map_over_data(lambda model, batch: continuous_time_nll(*batch, model, draws), mesh)(model, batch)


def continuous_time_nats(
    model: Diffusion, key: jax.Array, tokens: np.ndarray, batch_size: int, draws: int = 64
) -> np.ndarray:
    """The continuous-time ELBO (n,), that of infinitely many iid steps, nats each, from `draws` times per sequence."""
    run = functools.partial(_continuous, draws, parallel.data_mesh(), model)
    keys, rows = sequence_keys(key, len(tokens)), tokens.astype(np.int32)
    return parallel.in_batches(lambda *batch: run(batch), batch_size, keys, rows)


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
    # A sampler starts from masks alone, also where the process leaves a share eps of the tokens unmasked at time 1.
    first, start_BL = process.mask_probability(jnp.ones(())), process.start(x0_BL)

    def draw(total_B, index):
        key_time_B, key_mask_B = _split_each(key_B, index)
        share_B = jnp.maximum((index + jax.vmap(jax.random.uniform)(key_time_B)) / draws, 1e-7)
        masked_BL = jax.vmap(lambda key, share: jax.random.uniform(key, x0_BL.shape[1:]) < share)(key_mask_B, share_B)
        # A network with a time input gets every sequence's own.
        time_B = process.time_of(first * share_B)
        masked_BL = masked_BL & (start_BL == process.mask)
        log_score_BLS = model.log_scores(jnp.where(masked_BL, process.mask, x0_BL), time_B)
        log_prob_BL = jnp.take_along_axis(jax.nn.log_softmax(log_score_BLS), x0_BL[..., None], -1)[..., 0]
        return total_B - jnp.where(masked_BL, log_prob_BL, 0.0).sum(-1) / share_B / draws, None

    return jax.lax.scan(draw, -process.prior_log_prob(start_BL), jnp.arange(draws))[0]


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
