"""Energy distance of two sets of features (Szekely and Rizzo 2013).

Its mean is zero if and only if both sets come from one distribution.
"""

from typing import NamedTuple

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics.bootstrap import resample_weights, shifted_interval
from lsd_jax.metrics.metric import Column

ENERGY_COLUMNS = (
    Column("energy", "energy distance", "{:.4f}", "energy", 0.0),
    Column("energy_p", "p of the energy distance", "{:.4f}", "energy p", shown=False),
)


class Distances(NamedTuple):
    """Euclidean distances within and between two sets of n and m features."""

    within_a: np.ndarray  # (n, n)
    within_b: np.ndarray  # (m, m)
    between: np.ndarray  # (n, m)


def distances(a_ND: np.ndarray, b_MD: np.ndarray) -> Distances:
    """All distances of two sets of features, each at least two rows.

    Raises:
        ValueError: a set of fewer than two rows, which has no distance within.
    """
    if min(len(a_ND), len(b_MD)) < 2:
        raise InputError(f"an energy distance needs at least 2 features per side, not {len(a_ND)} and {len(b_MD)}")
    from scipy.spatial.distance import cdist  # scipy is slow to import

    return Distances(cdist(a_ND, a_ND), cdist(b_MD, b_MD), cdist(a_ND, b_MD))


def energy_distance(d: Distances) -> float:
    """2 E|A - B| - E|A - A'| - E|B - B'| as an unbiased U-statistic: it may fall below zero where the distributions are equal."""
    n, m = d.between.shape
    return float(_weighted(d, np.ones((1, n)), np.ones((1, m)))[0])


def energy_interval(d: Distances, seed: int = 0, resamples: int = 200) -> tuple[float, float, float]:
    """(value, low, high) under resampling of both sides; a row drawn twice is no pair with itself."""
    weights = [resample_weights(len(side), [seed, index], resamples) for index, side in enumerate(d[:2])]
    return shifted_interval(energy_distance(d), _weighted(d, *weights))


def energy_p_value(d: Distances, seed: int = 0, permutations: int = 500) -> float:
    """The chance of a distance this large or larger if both sides had one distribution: a permutation test."""
    n, m = d.between.shape
    joint = np.block([[d.within_a, d.between], [d.between.T, d.within_b]])
    labels = np.tile(np.repeat([1.0, 0.0], [n, m]), (permutations + 1, 1))
    labels[1:] = np.random.default_rng(seed).permuted(labels[1:], axis=1)
    sums = labels @ joint
    aa, ab = (sums * labels).sum(1), (sums * (1 - labels)).sum(1)
    bb = joint.sum() - aa - 2 * ab
    values = 2 * ab / (n * m) - aa / (n * (n - 1)) - bb / (m * (m - 1))
    # The tolerance is that of rounding: another order of summation of the same distances is no smaller distance.
    return float(np.mean(values >= values[0] - 1e-9 * np.abs(joint).max()))


def _weighted(d: Distances, a_RN: np.ndarray, b_RM: np.ndarray) -> np.ndarray:
    between = ((a_RN @ d.between) * b_RM).sum(1) / (a_RN.sum(1) * b_RM.sum(1))
    return 2 * between - _pairs(a_RN, d.within_a) - _pairs(b_RM, d.within_b)


def _pairs(weights_RN: np.ndarray, within: np.ndarray) -> np.ndarray:
    count = weights_RN.sum(1) ** 2 - (weights_RN**2).sum(1)
    return ((weights_RN @ within) * weights_RN).sum(1) / count
