"""Counts of discrete events per sequence: a distribution and all of its resamples are one sparse product."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lsd_jax.metrics.bootstrap import resample_weights, shifted_interval
from lsd_jax.metrics.metric import Metrics
from lsd_jax.metrics.ngram import NGrams, ngram_ids, without_pads

if TYPE_CHECKING:
    import scipy.sparse

_BLOCK = 20_000_000  # probabilities of resampled distributions that are held at a time

Statistic = Callable[[np.ndarray], np.ndarray]  # distributions (R, K) -> (R,)


class Events(NamedTuple):
    """Distinct events (K,), ascending, and how often each occurs in every sequence, a sparse (N, K)."""

    ids: np.ndarray
    counts: "scipy.sparse.csr_array"


def count_events(ids_NM: np.ndarray, counted_NM: np.ndarray | None = None) -> Events:
    """Counts the events, integers (N, M), of every sequence: all of them, or those where `counted_NM` is true."""
    import scipy.sparse  # a third of the time that `import lsd_jax` would take

    counted_NM = np.full(ids_NM.shape, True) if counted_NM is None else counted_NM
    ids, index = np.unique(ids_NM[counted_NM], return_inverse=True)
    entries = (np.ones(len(index)), (np.nonzero(counted_NM)[0], index))
    return Events(ids, scipy.sparse.csr_array(entries, shape=(len(ids_NM), len(ids))))


def count_intervals(
    events: Events, statistics: Mapping[str, Statistic], seed: int = 0, resamples: int = 200
) -> Metrics:
    """name -> (value, low, high) of statistics of the events' distribution.

    Sequences are resampled as in `bootstrap.bootstrap_interval` of the same seed.
    """
    weights = resample_weights(events.counts.shape[0], seed, resamples)
    weights = np.concatenate([np.ones((1, weights.shape[1])), weights])
    size = max(1, _BLOCK // len(events.ids))
    drawn = {name: [] for name in statistics}
    for start in range(0, len(weights), size):
        pooled = (events.counts.T @ weights[start : start + size].T).T
        probs = pooled / pooled.sum(1, keepdims=True)
        for name, statistic in statistics.items():
            drawn[name].append(statistic(probs))
    return {name: _interval(np.concatenate(parts)) for name, parts in drawn.items()}


def divergences(events: Events, reference: NGrams) -> dict[str, Statistic]:
    """ "tv" and "js" (in bits) from a reference: those of `ngram`, for many distributions of one sample at once."""
    place = np.minimum(np.searchsorted(reference.ids, events.ids), len(reference.ids) - 1)
    q = np.where(reference.ids[place] == events.ids, reference.probs[place], 0.0)[None]
    unseen = 1 - q.sum()  # the reference's mass on events that the sample never shows, in no resample either

    def half(p: np.ndarray, middle: np.ndarray) -> np.ndarray:
        return (p * np.log2(np.where(p > 0, p, 1) / np.where(p > 0, middle, 1))).sum(1)

    def jensen_shannon(p: np.ndarray) -> np.ndarray:
        middle = (p + q) / 2
        return (half(p, middle) + half(q + np.zeros_like(p), middle) + unseen) / 2

    return {"tv": lambda p: (np.abs(p - q).sum(1) + unseen) / 2, "js": jensen_shannon}


def ngram_divergences(
    tokens_NL: np.ndarray,
    references: Mapping[int, NGrams],
    vocab_size: int,
    seed: int,
    resamples: int,
    pad: int | None = None,
) -> Metrics:
    """`tv{n}` and `js{n}` of samples from the n-gram distribution of a reference, for every order n in `references`."""
    found: Metrics = {}
    for order, reference in references.items():
        ids_NM = ngram_ids(tokens_NL, order, vocab_size)
        counted = count_events(ids_NM, without_pads(ids_NM, vocab_size, pad))
        statistics = {f"{name}{order}": statistic for name, statistic in divergences(counted, reference).items()}
        found |= count_intervals(counted, statistics, seed, resamples)
    return found


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    return shifted_interval(float(values[0]), values[1:])
