"""Percentile bootstrap intervals over sequences (Efron and Tibshirani 1993, chapter 13)."""

from collections.abc import Callable

import numpy as np


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    values: np.ndarray,
    seed: int = 0,
    resamples: int = 200,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """(value, low, high) of `statistic` under resampling of the rows of `values` with replacement.

    The percentiles are shifted so that the resamples' mean lies on the value: a divergence from a reference grows when
    rows are drawn twice, and that bias is the bootstrap's, not the sample's. What remains is the spread at this sample
    size. Without resamples the interval is the value.
    """
    rng = np.random.default_rng(seed)
    count = len(values)
    value = float(statistic(values))
    if resamples == 0:
        return value, value, value
    drawn = np.array([statistic(values[rng.integers(0, count, count)]) for _ in range(resamples)])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - drawn.mean() + value
    return value, float(low), float(high)


def mean_interval(values: np.ndarray, seed: int = 0, resamples: int = 1000) -> tuple[float, float, float]:
    """(mean, low, high) of the mean of `values` (n,) at 95 %."""
    return bootstrap_interval(np.mean, np.asarray(values), seed, resamples)
