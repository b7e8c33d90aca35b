"""Whether one sampler beats another, or chance does: permutation tests of per-sequence values, the smaller the better."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics.bootstrap import mean_interval, resample_weights, shifted_interval

_EXACT = 12  # pairs up to which all sign flips are tried


class Comparison(NamedTuple):
    """mean(a) - mean(b) with its 95 % interval, and the one-sided p value of "a is smaller"."""

    effect: float
    low: float
    high: float
    p: float


def compare(a: np.ndarray, b: np.ndarray, paired: bool, seed: int = 0, permutations: int = 9999) -> Comparison:
    """Tests "a is smaller than b" against "a and b are exchangeable".

    Args:
        a, b: values (n,) and (m,), one per sequence (or per seed).
        paired: value i of both belongs to the same sequence: signs of the differences are flipped, all of them where
            there are at most 12; otherwise labels are shuffled.

    Raises:
        ValueError: no values, or pairs of unequal number.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not len(a) or not len(b):
        raise InputError("a comparison needs values on both sides")
    if paired:
        if len(a) != len(b):
            raise InputError(f"paired values must be as many on both sides, not {len(a)} and {len(b)}")
        effect, low, high = mean_interval(a - b, seed)
        return Comparison(effect, low, high, _share_as_low(_flipped_means(a - b, seed, permutations), effect))
    drawn = [resample_weights(len(side), [seed, index], 1000) @ side / len(side) for index, side in enumerate((a, b))]
    effect, low, high = shifted_interval(float(a.mean() - b.mean()), drawn[0] - drawn[1])
    pooled = np.concatenate([a, b])
    shuffled = np.random.default_rng(seed).permuted(np.tile(pooled, (permutations, 1)), axis=1)
    effects = shuffled[:, : len(a)].mean(1) - shuffled[:, len(a) :].mean(1)
    return Comparison(effect, low, high, _share_as_low(np.append(effects, effect), effect))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p values (n,) of n tests, corrected (Holm 1979): at level a, some true hypothesis is rejected in at most a share a of all cases."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1)
    return corrected


def _flipped_means(differences: np.ndarray, seed: int, permutations: int) -> np.ndarray:
    count = len(differences)
    if count <= _EXACT:
        return np.array(list(itertools.product([1.0, -1.0], repeat=count))) @ differences / count
    signs = np.random.default_rng(seed).choice([1.0, -1.0], (permutations, count))
    return np.append(signs @ differences, differences.sum()) / count


def _share_as_low(effects: np.ndarray, effect: float) -> float:
    return float(np.mean(effects <= effect + 1e-12 * np.abs(effects).max()))
