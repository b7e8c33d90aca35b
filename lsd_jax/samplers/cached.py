"""Ancestral sampling that skips the network where nothing has changed (MDLM's cache)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.samplers.ancestral import ancestral
from lsd_jax.samplers.kernel import Draw, Kernel, Knobs, denoise


class Cache(NamedTuple):
    """The last log-score (B, L, S), whether a token has changed since (B,), and the evaluations made (B,)."""

    log_score_BLS: jax.Array
    stale_B: jax.Array
    calls_B: jax.Array


def empty_cache(process: Absorbing, x_BL: jax.Array) -> Cache:
    """Nothing evaluated yet."""
    batch = len(x_BL)
    scores = jnp.zeros((*x_BL.shape, process.vocab_size))
    return Cache(scores, jnp.ones(batch, bool), jnp.zeros(batch, jnp.int32))


def _refreshed(cache: Cache, log_score_fn: LogScoreFn, x_BL: jax.Array, t: jax.Array) -> Cache:
    """Evaluates the network where a token of any sequence has changed.

    All sequences of a batch are evaluated together and count alike; with the batch sharded over devices, each device
    decides for its own.
    """
    call = cache.stale_B.any()
    log_score_BLS = jax.lax.cond(call, lambda: log_score_fn(x_BL, t), lambda: cache.log_score_BLS)
    return Cache(log_score_BLS, jnp.zeros_like(cache.stale_B), cache.calls_B + call)


def _advance(
    draw: Draw, cache: Cache, process: Absorbing, log_score_fn: LogScoreFn, x_BL, t, u, knobs: Knobs
) -> tuple[jax.Array, Cache]:
    """`ancestral` with the cached score, whose time only moves it by a constant that the step takes out again."""
    cache = _refreshed(cache, log_score_fn, x_BL, t)
    next_BL = draw(ancestral(process, lambda x, t: cache.log_score_BLS, x_BL, t, u, knobs))
    return next_BL, cache._replace(stale_B=(next_BL != x_BL).any(-1))


def _finish(draw: Draw, cache: Cache, process, log_score_fn, x_BL, t, u, knobs) -> tuple[jax.Array, Cache]:
    del u
    cache = _refreshed(cache, log_score_fn, x_BL, t)
    return draw(denoise(process, lambda x, t: cache.log_score_BLS, x_BL, t, knobs)), cache


# Needs a network that is not told the time (experiment.check_time).
CACHED = Kernel(
    "cached",
    ancestral,
    1,
    ("absorbing",),
    "Sahoo et al. 2024, arXiv 2406.07524",
    _advance,
    empty_cache,
    _finish,
    lambda cache: cache.calls_B,
)
