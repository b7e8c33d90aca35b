"""Ancestral sampling that skips the network where nothing has changed (MDLM's cache)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.kernel import Draw, StagedKernel, denoise
from lsd_jax.samplers.kernels.ancestral import ANCESTRAL
from lsd_jax.samplers.schedule import Step


class Cache(NamedTuple):
    """The last log-score (B, L, S), whether a token has changed since (B,), and the evaluations made (B,)."""

    log_score_BLS: jax.Array
    stale_B: jax.Array
    calls_B: jax.Array


def empty_cache(process: Process, x_BL: jax.Array) -> Cache:
    """Nothing evaluated yet."""
    batch = len(x_BL)
    scores = jnp.zeros((*x_BL.shape, process.vocab_size))
    return Cache(scores, jnp.ones(batch, bool), jnp.zeros(batch, jnp.int32))


def _refreshed(cache: Cache, model: Diffusion, x_BL: jax.Array, t: jax.Array) -> Cache:
    """Evaluates the network where a token of any sequence has changed.

    All sequences of a batch are evaluated together and count alike; with the batch sharded over devices, each device
    decides for its own, or each group of devices that share the parameters.
    """
    call = model.any(cache.stale_B)
    log_score_BLS = jax.lax.cond(call, lambda: model.log_score(x_BL, t), lambda: cache.log_score_BLS)
    return Cache(log_score_BLS, jnp.zeros_like(cache.stale_B), cache.calls_B + call)


def _step(draw: Draw, cache: Cache, model: Diffusion, x_BL: jax.Array, step: Step) -> tuple[jax.Array, Cache]:
    """`ancestral` with the cached score, whose time only moves it by a constant that the step takes out again."""
    cache = _refreshed(cache, model, x_BL, step.t)
    next_BL = draw(ANCESTRAL.transition(model.frozen(cache.log_score_BLS), x_BL, step))
    return next_BL, cache._replace(stale_B=(next_BL != x_BL).any(-1))


def _finish(draw: Draw, cache: Cache, model: Diffusion, x_BL: jax.Array, step: Step) -> tuple[jax.Array, Cache]:
    cache = _refreshed(cache, model, x_BL, step.t)
    return draw(denoise(model.frozen(cache.log_score_BLS), x_BL, step)), cache


CACHED = StagedKernel(
    "cached",
    1,
    ("absorbing",),
    "Sahoo et al. 2024, arXiv 2406.07524",
    stand_in=ANCESTRAL,
    step=_step,
    init=empty_cache,
    finish=_finish,
    calls=lambda cache: cache.calls_B,
    reuses_scores=True,
)
