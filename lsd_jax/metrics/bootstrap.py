"""Percentile bootstrap intervals over sequences (Efron and Tibshirani 1993, chapter 13)."""

from collections.abc import Callable, Sequence

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

    This calls `statistic` once per resample. Statistics of sums over rows take `resample_weights` instead: the same
    resamples as one matrix product.
    """
    rng = np.random.default_rng(seed)
    count = len(values)
    value = float(statistic(values))
    return shifted_interval(value, [statistic(values[rng.integers(0, count, count)]) for _ in range(resamples)], level)


def shifted_interval(
    value: float,
    drawn: Sequence[float],
    level: float = 0.95,
    least: float = -np.inf,
    most: float = np.inf,
) -> tuple[float, float, float]:
    """(value, low, high) from a statistic's value on the sample and on its resamples, by the shifted percentiles.

    The shift may lead out of the values that the statistic can take; `least` and `most` are their ends, and the interval's.
    """
    if len(drawn) == 0:
        return value, value, value
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - np.mean(drawn) + value
    # The value itself may lie past an end by a rounding.
    return value, min(max(float(low), least), value), max(min(float(high), most), value)


def resample_weights(count: int, seed: int | Sequence[int] = 0, resamples: int = 200) -> np.ndarray:
    """How often every row is drawn (resamples, count) in the resamples of `bootstrap_interval` of the same seed."""
    drawn = np.random.default_rng(seed).integers(0, count, (resamples, count))
    places = drawn + count * np.arange(resamples)[:, None]  # one row of counts per resample, counted all at once
    return np.bincount(places.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)


def mean_interval(values: np.ndarray, seed: int = 0, resamples: int = 1000) -> tuple[float, float, float]:
    """(mean, low, high) of the mean of `values` (n,) at 95 %, within their range: that of a share stays in [0, 1]."""
    values = np.asarray(values)
    value, count = float(np.mean(values)), len(values)
    # Differences from the mean are resampled, so that equal values have no spread at all, not even one of rounding.
    drawn = value + resample_weights(count, seed, resamples) @ (values.astype(np.float64) - value) / count
    return shifted_interval(value, drawn, least=float(values.min()), most=float(values.max()))
