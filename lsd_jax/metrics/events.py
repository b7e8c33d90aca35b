"""Counts of discrete events by sequence, so that a law and all of its resamples are one sparse product."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse

from lsd_jax.metrics.bootstrap import resample_weights, shifted_interval
from lsd_jax.metrics.ngram import NGrams

_BLOCK = 20_000_000  # numbers of resampled laws held at a time

Statistic = Callable[[np.ndarray], np.ndarray]  # laws (R, K) -> (R,)


class Events(NamedTuple):
    """Distinct events (K,), ascending, and how often each occurs in every sequence, a sparse (N, K)."""

    ids: np.ndarray
    counts: scipy.sparse.csr_array


def count_events(ids_NM: np.ndarray) -> Events:
    """Counts the events, integers (N, M), of every sequence."""
    ids, index = np.unique(ids_NM, return_inverse=True)
    rows = np.repeat(np.arange(len(ids_NM)), ids_NM.shape[1])
    entries = (np.ones(ids_NM.size), (rows, index.ravel()))
    return Events(ids, scipy.sparse.csr_array(entries, shape=(len(ids_NM), len(ids))))


def law_intervals(
    events: Events, statistics: dict[str, Statistic], seed: int = 0, resamples: int = 200
) -> dict[str, tuple[float, float, float]]:
    """name -> (value, low, high) of statistics of the law of the events, resampling sequences as `bootstrap_interval`."""
    weights = resample_weights(events.counts.shape[0], seed, resamples)
    weights = np.concatenate([np.ones((1, weights.shape[1])), weights])
    size = max(1, _BLOCK // len(events.ids))
    drawn = {name: [] for name in statistics}
    for start in range(0, len(weights), size):
        pooled = (events.counts.T @ weights[start : start + size].T).T
        laws = pooled / pooled.sum(1, keepdims=True)
        for name, statistic in statistics.items():
            drawn[name].append(statistic(laws))
    return {name: _interval(np.concatenate(parts)) for name, parts in drawn.items()}


def divergences(events: Events, reference: NGrams) -> dict[str, Statistic]:
    """ "tv" and "js" (in bits) from a reference law, those of `ngram` for many laws of one sample at once."""
    place = np.minimum(np.searchsorted(reference.ids, events.ids), len(reference.ids) - 1)
    q = np.where(reference.ids[place] == events.ids, reference.probs[place], 0.0)[None]
    unseen = 1 - q.sum()  # what the reference has and the sample has not, in any resample either

    def jensen_shannon(p: np.ndarray) -> np.ndarray:
        middle = (p + q) / 2
        half = lambda law: (law * np.log2(np.where(law > 0, law, 1) / np.where(law > 0, middle, 1))).sum(1)  # noqa: E731
        return (half(p) + half(q + np.zeros_like(p)) + unseen) / 2

    return {"tv": lambda p: (np.abs(p - q).sum(1) + unseen) / 2, "js": jensen_shannon}


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    return shifted_interval(float(values[0]), values[1:])
