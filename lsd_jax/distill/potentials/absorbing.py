"""Pair potentials where a position jumps once: tokens revealed in one step need not be independent, at no further evaluation.

A step draws its tokens from left to right. A table of potentials for the distance and the token of the nearest position
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
from lsd_jax.distill.plan import Plan, class_plan
from lsd_jax.distill.potentials.fit import PRECISION, fit_table, split
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.potentials import nearest_left
from lsd_jax.samplers.bridge import bridge_state

REACH = 4  # tokens farther apart are independent
MAX_VOCAB = 256  # of a table (REACH, S, S) per step
_SEQUENCES = 16  # per device and pass


class Fit(NamedTuple):
    """Potentials (M, REACH, S, S), and nats per sequence on unseen sequences without and with them."""

    log_potential: np.ndarray
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


def fit(model: Diffusion, plan: Plan, tokens: np.ndarray, key_B: jax.Array) -> Fit:
    """The potentials of every step by maximum a posteriori; zeros where unseen sequences do not gain by them."""
    vocab, unseen_from = model.process.vocab_size, split(len(tokens))
    unseen_count = len(tokens) - unseen_from
    tables = np.zeros((len(plan.times) - 1, REACH, vocab, vocab), np.float32)
    before = after = 0.0
    for k, (t, u) in enumerate(zip(plan.times[:-1], plan.times[1:])):
        revealed_PL = _revealed(model, plan, tokens, key_B, t, u)
        distance_PL, left_PL = (np.asarray(leaf) for leaf in nearest_left(jnp.asarray(revealed_PL)))
        near_PL = revealed_PL & (distance_PL > 0) & (distance_PL <= REACH)
        unseen_PL = np.arange(len(tokens))[:, None] >= unseen_from
        # Where there is nothing to fit, the network is asked only for what judges.
        rows = slice(None) if near_PL.any() else slice(unseen_from, None)
        log_posterior_PLS = _log_posteriors(model, plan, tokens[rows], key_B[rows], t)
        left_PL = np.take_along_axis(tokens, left_PL, 1)
        arrays = (log_posterior_PLS, distance_PL[rows] - 1, left_PL[rows], tokens[rows])
        neutral = jnp.zeros((REACH, vocab, vocab))
        alone = float(_nll(neutral, *_chosen(arrays, (revealed_PL & ~near_PL & unseen_PL)[rows])))
        independent = improved = 0.0
        if near_PL.any():
            table, unseen = (
                _fit_table(vocab, *_chosen(arrays, near_PL & ~unseen_PL)),
                _chosen(arrays, near_PL & unseen_PL),
            )
            independent, improved = float(_nll(neutral, *unseen)), float(_nll(table, *unseen))
            if improved < independent:
                tables[k] = table
        before += (alone + independent) / unseen_count
        after += (alone + min(independent, improved)) / unseen_count
    return Fit(tables, before, after)


def _revealed(model, plan, tokens, key_B, t, u) -> np.ndarray:
    """Which positions (P, L) are masked at time t and revealed by time u."""
    mesh = parallel.data_mesh()
    call = functools.partial(_reveals, model.process, plan.coupling, mesh, jnp.asarray([t, u], jnp.float32))
    return parallel.in_batches(lambda *batch: call(batch), _SEQUENCES * mesh.size, key_B, tokens)


def _log_posteriors(model, plan, tokens, key_B, t) -> np.ndarray:
    """Destination log-probabilities (P, L, S) at the state of time t."""
    mesh = parallel.data_mesh()
    call = functools.partial(_forward, plan.coupling, mesh, model, jnp.float32(t))
    return parallel.in_batches(lambda *batch: call(batch), _SEQUENCES * mesh.size, key_B, tokens)


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


def _chosen(arrays, where_PL: np.ndarray) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(array[where_PL]) for array in arrays)


def _nll(table_DSS, log_posterior_NS, index_N, left_N, token_N) -> jax.Array:
    log_prob_NS = jax.nn.log_softmax(log_posterior_NS + table_DSS[index_N, left_N])
    return -jnp.take_along_axis(log_prob_NS, token_N[:, None], 1).sum()


@functools.partial(jax.jit, static_argnames="vocab")
def _fit_table(vocab, *data) -> jax.Array:
    def loss(table_DSS, index):
        del index
        return _nll(table_DSS, *data) + 0.5 * PRECISION * (table_DSS**2).sum()

    return fit_table(loss, jnp.zeros((REACH, vocab, vocab)), 200, 0.1)
