"""JYS: time grids by the KLUB between one step and two, halved from the whole interval (Park et al. 2024, arXiv 2410.07761).

A point t2 is put into the step from t1 to t3 where the two-step sampler differs most from the one-step one: where the KL upper
bound between their paths, from t2 on, is largest (section 4, algorithms 1 and 2). It looks at rates at two times only; the
point is found by a golden-section search, which assumes one maximum. Grid "halving" halves alike but reads the cost table:
the exact path KL of all jumps to the teacher, at the fine grid's points, each split the best one. "optimal" does not halve at
all. All of them read noised versions of the teacher's tokens. JYS's clustering of grids by sequence is left out.
"""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import reverse_rate
from lsd_jax.samplers.bridge import bridge_state
from lsd_jax.samplers.coupling import Coupling

_GOLDEN = 1.618  # JYS's own digits
_TINY = 1e-8


def klub_per_token(rate_one_BLS: jax.Array, rate_two_BLS: jax.Array, width: jax.Array) -> jax.Array:
    """width sum_v R2 log(R2 / R1) (B, L), nats: what `width` of time at the rates R2 instead of R1 adds (eq. 8).

    As in the authors' code: 1e-8 in both logarithms, and without R1 - R2, the terms of how much jumps.
    """
    ratio_BLS = jnp.log(rate_two_BLS + _TINY) - jnp.log(rate_one_BLS + _TINY)
    return width * (rate_two_BLS * ratio_BLS).sum(-1)


def golden_section(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Where `function` is smallest between two ends, up to `tolerance`, if it falls and then rises.

    The longer side of the best point is probed at its golden section until the sides together are shorter than `tolerance`.
    """
    best = low + (high - low) / (1 + _GOLDEN)
    value = function(best)
    while high - low > tolerance:
        right = high - best > best - low
        probe = best + (high - best) / (1 + _GOLDEN) if right else best - (best - low) / (1 + _GOLDEN)
        found = function(probe)
        if found < value:
            best, value = probe, found
        elif right:
            high = probe
        else:
            low = probe
    return best


def halved_grids(
    score: Callable[[float, float, float], float], max_steps: int, tolerance: float
) -> dict[int, np.ndarray]:
    """Times (M + 1,) from 1 to 0 for every power of two M up to `max_steps`; a step's point maximizes score(t1, t2, t3).

    Args:
        tolerance: of a point, as a share of its step.
    """
    grids = {1: np.array([1.0, 0.0])}
    while 2 * max(grids) <= max_steps:
        coarse, points = grids[max(grids)], []
        for start, end in itertools.pairwise(coarse):
            objective = lambda t, start=start, end=end: -score(start, t, end)
            # Inside: at t1 nothing is added, and at t3 nothing is left.
            margin = 0.02 * (start - end)
            points.append(golden_section(objective, end + margin, start - margin, tolerance * (start - end)))
        grids[2 * max(grids)] = np.sort(np.concatenate([coarse, points]))[::-1]
    return grids


@functools.partial(jax.jit, static_argnames=("coupling", "mesh"))
def _rates(coupling, mesh, model, t, batch):
    """Reverse rates (P, L, S) at the states of time t."""

    def local(replicated, batch):
        (model, t), (tokens_BL, key_B) = replicated, batch
        x_BL = bridge_state(key_B, model.process, coupling, tokens_BL, t)
        return reverse_rate(model.process, model.log_score(x_BL, t), x_BL, t)

    return parallel.map_over_data(local, mesh)((model, t), batch)


@jax.jit
def _klub(rate_one_PLS, rate_two_PLS, width):
    return klub_per_token(rate_one_PLS, rate_two_PLS, width).mean()


def jys_grids(
    model: Diffusion, coupling: Coupling, tokens_PL: np.ndarray, key_P: jax.Array, max_steps: int
) -> dict[int, np.ndarray]:
    """JYS's grid (M + 1,) for every power of two M up to `max_steps`, on noised versions of `tokens_PL`.

    One network evaluation per probe, about ten probes per point, and one for its step.
    """
    mesh = parallel.data_mesh()
    batch = parallel.shard_global(tokens_PL.astype(np.int32), mesh), parallel.shard_global(key_P, mesh)

    def rates(t: float) -> jax.Array:
        return _rates(coupling, mesh, model, jnp.float32(t), batch)

    start = functools.lru_cache(maxsize=1)(rates)  # all probes of a step start at one time

    def score(t1: float, t2: float, t3: float) -> float:
        return float(_klub(start(t1), rates(t2), jnp.float32(t2) - jnp.float32(t3)))

    return halved_grids(score, max_steps, 0.01)
