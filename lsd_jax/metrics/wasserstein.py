"""How far numbers are from a reference's: the Wasserstein-1 distance, which has their unit."""

import numpy as np

from lsd_jax.metrics.bootstrap import resample_weights, shifted_interval


def wasserstein(values_N: np.ndarray, reference_M: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """The Wasserstein-1 distance (R,) of weighted values from a reference, for every row of weights.

    As `scipy.stats.wasserstein_distance`, which would sort the reference again for every row.
    """
    order_N = np.argsort(values_N, kind="stable")
    places = np.sort(np.concatenate([values_N, reference_M]))
    below = np.searchsorted(values_N[order_N], places[:-1], "right")
    share = np.searchsorted(np.sort(reference_M), places[:-1], "right") / len(reference_M)
    steps, found = np.diff(places), []
    for weight_N in weights_RN:
        reached = np.concatenate([[0.0], np.cumsum(weight_N[order_N])])
        found.append(np.abs(reached[below] / reached[-1] - share) @ steps)
    return np.array(found)


def wasserstein_interval(
    values_N: np.ndarray, reference_M: np.ndarray, seed: int = 0, resamples: int = 200
) -> tuple[float, float, float]:
    """(distance, low, high) of values from a reference, with a 95 % bootstrap interval over the values."""
    weights = np.concatenate([np.ones((1, len(values_N))), resample_weights(len(values_N), seed, resamples)])
    value, *drawn = wasserstein(values_N, reference_M, weights).tolist()
    return shifted_interval(value, drawn)
