"""Globally optimal schedules: a path-KL cost for every jump of the fine grid, then shortest paths for all M at once."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.errors import InputError
from lsd_jax.models.model import Diffusion
from lsd_jax.samplers.bridge import bridge_state, reveal_thresholds
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.kernel import Kernel, denoise
from lsd_jax.samplers.schedule import Step, neutral


def cost_table(
    model: Diffusion, kernel: Kernel, coupling: Coupling, tokens_PL: np.ndarray, key_P: jax.Array, times: np.ndarray
) -> np.ndarray:
    """C (N, N + 1), nats per sequence: the cost of one student step from times[i] to times[j], inf for j <= i.

    The score is frozen at the teacher's state at times[i] and must explain the way to times[j] (docs/design.md, path KL).
    Absorbing: -log p of the tokens revealed on the way, in the coupling's order; the reveal times add nothing where the
    network's scores are normalized. Uniform: KL of the bridge's step from the kernel's. The last column is denoising. A
    grid's sum of costs is the M-step ELBO of that sampler on `tokens_PL`, up to the prior's term. A row takes one network
    evaluation.

    Args:
        model: the diffusion model.
        kernel: the one-stage kernel that stands for the student's.
        coupling: gives the order.
        tokens_PL: the teacher's final tokens.
        key_P: one key per sequence; equal keys reveal in the teacher's own order.
        times: N + 1 falling times from 1 to 0.
    """
    mesh, own = parallel.data_mesh(), key_P
    if model.process.jumps_once:  # an array, so that all orders share one compilation
        own = np.asarray(reveal_thresholds(key_P, model.process, coupling, tokens_PL.shape[1]))
    batch = (parallel.shard_global(tokens_PL.astype(np.int32), mesh), parallel.shard_global(own, mesh))
    rows = cost_rows(kernel, mesh, model, jnp.asarray(times, jnp.float32), batch)
    return np.where(np.arange(len(times)) > np.arange(len(times) - 1)[:, None], np.asarray(rows, np.float64), np.inf)


@functools.partial(jax.jit, static_argnames=("kernel", "mesh"))
def cost_rows(kernel, mesh, model, times, batch):
    """`cost_table` on a mesh, before what cannot be is made infinite: (N, N + 1), in passes that fit the memory."""

    def local(replicated, batch):
        model, times = replicated
        row_bytes = 4 * model.process.vocab_size * batch[0].shape[1]
        rows = _reveal_rows if model.process.jumps_once else functools.partial(_bridge_rows, kernel)
        return parallel.in_passes(lambda part: rows(model, times, *part), batch, row_bytes).mean(0)

    return parallel.mean_over_data(local, mesh)((model, times), batch)


def _reveal_rows(model: Diffusion, times: jax.Array, x0_BL: jax.Array, threshold_BL: jax.Array) -> jax.Array:
    """Costs where a position jumps once: -log p of the tokens revealed on the way."""
    steps, process = len(times) - 1, model.process
    # Masked at times[i], revealed at times[i + 1].
    step_BL = jnp.searchsorted(-process.mask_share(times), -threshold_BL, side="left") - 1
    # What is not masked at the start, a pad, is revealed in no step.
    step_BL = jnp.where(process.start(x0_BL) == process.mask, jnp.clip(step_BL, 0, steps - 1), -1)

    def row(_, i):
        x_BL = jnp.where(step_BL >= i, process.mask, x0_BL)
        log_posterior_BLS = jax.nn.log_softmax(model.log_score(x_BL, times[i]))
        nll_BL = -jnp.take_along_axis(log_posterior_BLS, x0_BL[..., None], -1)[..., 0]
        nll_BL = jnp.where(step_BL >= i, nll_BL, 0.0)
        by_step_N = jax.ops.segment_sum(nll_BL.ravel(), step_BL.ravel(), steps)
        return None, jnp.concatenate([jnp.zeros(1), jnp.cumsum(by_step_N)]) / len(x0_BL)

    return jax.lax.scan(row, None, jnp.arange(steps))[1]


def _bridge_rows(kernel: Kernel, model: Diffusion, times: jax.Array, x0_BL: jax.Array, key_B: jax.Array) -> jax.Array:
    """Costs where positions jump many times: the divergence of the bridge's step from the kernel's."""
    steps, process = len(times) - 1, model.process

    def row(_, i):
        x_BL, t = bridge_state(key_B, process, IID, x0_BL, times[i]), times[i]
        frozen = model.frozen(model.log_score(x_BL, t))

        def cost(u, own):
            return own.kl_from(process.bridge(x_BL, x0_BL, t, u)).sum(-1).mean()

        def fill(j, costs):
            step = Step(t, times[j], neutral())
            return costs.at[j].set(cost(times[j], kernel.transition(frozen, x_BL, step)))

        costs = jax.lax.fori_loop(i + 1, steps, fill, jnp.zeros(steps + 1))
        end = jnp.zeros(())
        return None, costs.at[steps].set(cost(end, denoise(frozen, x_BL, Step(t, end, neutral()))))

    return jax.lax.scan(row, None, jnp.arange(steps))[1]


def shortest_paths(table: np.ndarray, max_steps: int) -> dict[int, np.ndarray]:
    """The cheapest grid of exactly M steps for every M up to `max_steps`, as fine-grid indices (M + 1,) from 0 to N.

    Raises:
        ValueError: more steps than the fine grid has.
    """
    fine = table.shape[0]
    if max_steps > fine:
        raise InputError(f"steps={max_steps}: is more than the {fine} candidate steps of the cost table")
    best = np.full((max_steps + 1, fine + 1), np.inf)
    previous = np.zeros((max_steps + 1, fine + 1), int)
    best[0, 0] = 0
    for m in range(1, max_steps + 1):
        total = best[m - 1, :fine, None] + table
        previous[m] = total.argmin(0)
        best[m] = total.min(0)
    grids = {}
    for m in range(1, max_steps + 1):
        grid = [fine]
        for k in range(m, 0, -1):
            grid.append(previous[k, grid[-1]])
        grids[m] = np.asarray(grid[::-1])
    return grids


def uniform_indices(fine: int, steps: int) -> np.ndarray:
    """The fine-grid indices nearest to `steps` equal steps."""
    return np.round(np.linspace(0, fine, steps + 1)).astype(int)


def path_cost(table: np.ndarray, indices: np.ndarray) -> float:
    """The summed cost of a grid, nats per sequence."""
    return float(table[indices[:-1], indices[1:]].sum())


def path_kl(table: np.ndarray, indices: np.ndarray) -> float:
    """KL(teacher path || student path) of a grid, nats per sequence, against a teacher that takes every step."""
    return path_cost(table, indices) - path_cost(table, np.arange(len(table) + 1))


def halving_paths(table: np.ndarray, max_steps: int) -> dict[int, np.ndarray]:
    """The grids of a hierarchical search (JYS, Park et al. 2024, arXiv 2410.07761): halve, never look back.

    Every halving puts one new point into each interval, where the two costs are smallest; M is a power of two. Where an
    interval has no point left inside, the interval that gains most by it gets one more.
    """

    def best_split(interval: tuple[int, int]) -> tuple[float, int]:
        start, end = interval
        if end - start < 2:
            return -np.inf, -1
        costs = table[start, start + 1 : end] + table[start + 1 : end, end]
        return float(table[start, end] - costs.min()), start + 1 + int(costs.argmin())

    grids = {1: np.array([0, table.shape[0]])}
    while 2 * max(grids) <= max_steps:
        steps, points = 2 * max(grids), set(grids[max(grids)].tolist())
        points |= {point for _, point in map(best_split, itertools.pairwise(sorted(points))) if point >= 0}
        while len(points) <= steps:
            points.add(max(map(best_split, itertools.pairwise(sorted(points))))[1])
        grids[steps] = np.array(sorted(points))
    return grids


def profile_indices(table: np.ndarray, revealed: np.ndarray, steps: int) -> np.ndarray:
    """The grid whose step sizes suit the information profile in the limit of many steps (Lavenant and Zanella 2025,
    arXiv 2510.25544): a step of size d loses d^2 |h'| / 2, so steps are as dense as the square root of |h'|.

    Args:
        table: a cost table of random-order reveals.
        revealed: tokens revealed in each fine step (N,).
    """
    own = table[np.arange(len(table)), np.arange(len(table)) + 1] / np.maximum(revealed, 1e-9)
    fine = np.linspace(0, 1, len(own))
    profile = np.polynomial.Polynomial.fit(fine, own, 5)  # a derivative of noise would be noise
    density = np.sqrt(np.maximum(-profile.deriv()(fine), 1e-6 * own.max()))
    cumulative = np.concatenate([[0.0], np.cumsum(density)])
    wanted = np.linspace(0, cumulative[-1], steps + 1)
    indices = np.round(np.interp(wanted, cumulative, np.arange(len(own) + 1))).astype(int)
    for k in range(1, steps + 1):  # distinct, also where many steps crowd
        indices[k] = max(indices[k], indices[k - 1] + 1)
    for k in range(steps, -1, -1):
        indices[k] = min(indices[k], len(own) - (steps - k))
    return indices


def zoom(times: np.ndarray, width: float, parts: int = 3) -> np.ndarray:
    """Candidate times around a grid: every inner time, and `parts` more on both sides of it within `width`."""
    around = {1.0, 0.0}
    for k in range(1, len(times) - 1):
        low, high = max(times[k] - width, times[k + 1]), min(times[k] + width, times[k - 1])
        for end in (low, high):
            around |= set(np.linspace(times[k], end, parts + 1).tolist())
    return np.array(sorted(around, reverse=True))
