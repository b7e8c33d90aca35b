"""Pair potentials where a position jumps once: tokens revealed in one step need not be independent, at no further evaluation.

A step draws its tokens from left to right. A table of potentials, or two factors of one for large vocabularies, for the distance and the token of the nearest position
revealed in the same step tilts the network's marginals (the copula idea of Liu et al. 2024, arXiv 2410.01949, with a table
in place of a second model). Orders that gain by it reveal neighbors together while nothing else is known yet: the first
step shows pairs, the following steps sweep through what lies between them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from lsd_jax import parallel
from lsd_jax.distill.plan import class_plan
from lsd_jax.distill.potentials.fit import PRECISION, fit_table, split
from lsd_jax.distill.problem import Plan
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.potentials import Factors, nearest_left, potential
from lsd_jax.samplers.bridge import bridge_state

REACH = 4  # tokens farther apart are independent
MAX_TABLE = 256  # tokens of a table (REACH, S, S) per step; larger vocabularies get factors
RANK = 16
_FACTOR_PRECISION = 1.0  # of a Gaussian prior on what factors hold: a potential has a standard deviation of 4
_ROWS = 2048  # pairs per gradient of the factors


class Fit(NamedTuple):
    """Potentials (M, reach, S, S) or their factors, and nats per sequence on unseen sequences without and with them."""

    log_potential: np.ndarray | Factors
    independent_nats: float
    nats: float


def with_potentials(model: Diffusion, plan: Plan, tokens: np.ndarray, key_B: jax.Array) -> Plan:
    """The plan with potentials, or an order that reveals pairs first if that is cheaper on unseen sequences.

    Args:
        tokens: (P, L) sequences to fit on; the last quarter judges.
        key_B: their keys.
    """
    process, steps = model.process, len(plan.times) - 1
    pairs = class_plan(np.array([0, 0, *range(steps - 1, 0, -1)]), steps, process)
    candidates = [plan] if steps == 1 else [plan, Plan(*pairs, {})]
    fits = [fit(model, candidate, tokens, key_B) for candidate in candidates]
    best = min(range(len(fits)), key=lambda index: fits[index].nats)
    for candidate, found in zip(candidates, fits):
        logging.info(
            "M=%d: order %s, %.2f nats independent, %.2f with pair potentials", steps, candidate.coupling, *found[1:]
        )
    metrics = {"independent_nats": fits[0].independent_nats, "potential_nats": fits[best].nats}
    return candidates[best]._replace(metrics=candidates[best].metrics | metrics, log_potential=fits[best].log_potential)


def fit(
    model: Diffusion, plan: Plan, tokens: np.ndarray, key_B: jax.Array, reach: int = REACH, max_table: int = MAX_TABLE
) -> Fit:
    """The potentials of every step, up to `reach` positions, by maximum a posteriori; zeros where unseen sequences do not gain by them."""
    vocab, unseen_from = model.process.vocab_size, split(len(tokens))
    unseen_count = len(tokens) - unseen_from
    small = vocab <= max_table
    neutral, fit_pairs = (_zeros(reach, vocab), _fit_table) if small else (_no_factors(reach, vocab), _fit_factors)
    found = [neutral] * (len(plan.times) - 1)
    before = after = 0.0
    for k, (t, u) in enumerate(zip(plan.times[:-1], plan.times[1:])):
        revealed_PL = _revealed(model, plan, tokens, key_B, t, u)
        distance_PL, left_PL = (np.asarray(leaf) for leaf in nearest_left(jnp.asarray(revealed_PL)))
        near_PL = revealed_PL & (distance_PL > 0) & (distance_PL <= reach)
        unseen_PL = np.arange(len(tokens))[:, None] >= unseen_from
        # Where there is nothing to fit, the network is asked only for what judges.
        rows = slice(None) if near_PL.any() else slice(unseen_from, None)
        log_posterior_PLS = _log_posteriors(model, plan, tokens[rows], key_B[rows], t)
        left_PL = np.take_along_axis(tokens, left_PL, 1)
        arrays = (log_posterior_PLS, distance_PL[rows] - 1, left_PL[rows], tokens[rows])
        alone = _total(neutral, _chosen(arrays, (revealed_PL & ~near_PL & unseen_PL)[rows]))
        independent = improved = 0.0
        if near_PL.any():
            fitted_on, unseen = (_chosen(arrays, near_PL & part_PL) for part_PL in (~unseen_PL, unseen_PL))
            pairs = fit_pairs(neutral, *fitted_on) if len(fitted_on[0]) else neutral
            independent, improved = _total(neutral, unseen), _total(pairs, unseen)
            if improved < independent:
                found[k] = jax.tree.map(np.asarray, pairs)
        before += (alone + independent) / unseen_count
        after += (alone + min(independent, improved)) / unseen_count
    return Fit(jax.tree.map(lambda *steps: np.stack(steps), *found), before, after)


def _revealed(model, plan, tokens, key_B, t, u) -> np.ndarray:
    """Which positions (P, L) are masked at time t and revealed by time u."""
    mesh = parallel.data_mesh()
    call = functools.partial(_reveals, model.process, plan.coupling, mesh, jnp.asarray([t, u], jnp.float32))
    return parallel.in_batches(lambda *batch: call(batch), _per_pass() * mesh.size, key_B, tokens)


def _log_posteriors(model, plan, tokens, key_B, t) -> np.ndarray:
    """Destination log-probabilities (P, L, S) at the state of time t."""
    mesh = parallel.data_mesh()
    call = functools.partial(_forward, plan.coupling, mesh, model, jnp.float32(t))
    return parallel.in_batches(lambda *batch: call(batch), _per_pass() * mesh.size, key_B, tokens)


def _per_pass() -> int:
    """Sequences per device and pass: few suit a CPU's caches, many an accelerator that is slow to start a pass."""
    return 16 if jax.default_backend() == "cpu" else 256


@functools.partial(jax.jit, static_argnames=("process", "coupling", "mesh"))
def _reveals(process, coupling, mesh, times, batch):
    def local(times, batch):
        x_BL, later_BL = (bridge_state(batch[0], process, coupling, batch[1], time) for time in times)
        return (x_BL == process.mask) & (later_BL != process.mask)

    return parallel.map_over_data(local, mesh)(times, batch)


@functools.partial(jax.jit, static_argnames=("coupling", "mesh"))
def _forward(coupling, mesh, model, t, batch):
    def local(replicated, batch):
        model, t = replicated
        return jax.nn.log_softmax(model.log_score(bridge_state(batch[0], model.process, coupling, batch[1], t), t))

    return parallel.map_over_data(local, mesh)((model, t), batch)


def _chosen(arrays, where_PL: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weights (N,) and the rows chosen, with rows of weight zero up to a power of two: steps then share their programs."""
    count = int(where_PL.sum())
    if not count:
        return np.zeros(0, np.float32), *(array[where_PL] for array in arrays)
    rows = np.arange(1 << (count - 1).bit_length()) % count
    return np.float32(np.arange(len(rows)) < count), *(array[where_PL][rows] for array in arrays)


def _total(potentials: np.ndarray | Factors, rows: tuple[np.ndarray, ...]) -> float:
    return float(_nll(potentials, *rows)) if len(rows[0]) else 0.0


@jax.jit
def _nll(potentials, weight_N, log_posterior_NS, index_N, left_N, token_N) -> jax.Array:
    log_prob_NS = jax.nn.log_softmax(log_posterior_NS + potential(potentials, index_N + 1, left_N))
    return -(weight_N * jnp.take_along_axis(log_prob_NS, token_N[:, None], 1)[:, 0]).sum()


def _zeros(reach: int, vocab: int) -> np.ndarray:
    return np.zeros((reach, vocab, vocab), np.float32)


def _no_factors(reach: int, vocab: int) -> Factors:
    return Factors(np.zeros((reach, vocab, RANK), np.float32), np.zeros((reach, RANK, vocab), np.float32))


@jax.jit
def _fit_table(start, weight_N, *data) -> jax.Array:
    def loss(table_DSS, index):
        del index
        return _nll(table_DSS, weight_N, *data) + 0.5 * PRECISION * (table_DSS**2).sum()

    return fit_table(loss, jnp.asarray(start), 200, 0.1)


@jax.jit
def _fit_factors(start, weight_N, *data) -> Factors:
    """Factors by stochastic gradients: from small rows of what the left token says, and from no potential at all."""
    rows, count = min(len(weight_N), _ROWS), weight_N.sum()
    start_key, rows_key = jax.random.split(jax.random.key(0))

    def loss(factors, index):
        drawn_N = jax.random.uniform(jax.random.fold_in(rows_key, index), (rows,))
        chosen_N = jnp.minimum(drawn_N * count, count - 1).astype(jnp.int32)
        prior = 0.5 * _FACTOR_PRECISION * sum((leaf**2).sum() for leaf in factors)
        return _nll(factors, weight_N[chosen_N], *(leaf[chosen_N] for leaf in data)) + prior * rows / count

    left_DSR = 0.1 * jax.random.normal(start_key, start.left_DSR.shape)
    return fit_table(loss, Factors(left_DSR, jnp.asarray(start.own_DRS)), 300, 0.03)
