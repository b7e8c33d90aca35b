"""A MAUVE-like divergence: MAUVE's frontier (Pillutla et al. 2021, 2023) on features of our own scorer, not of GPT-2.

Comparable inside one table only. It is noisy, and depends on the sample size: read it beside real text of equal size.
"""

import warnings

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics.bootstrap import resample_weights, shifted_interval
from lsd_jax.metrics.metric import Column

MAUVE_LIKE = Column("mauve_like", "MAUVE-like", best=1.0)
MIN_ROWS = 20  # features per side, below which there is no such number

_SCALE = 5.0  # MAUVE's c
_MIXTURES = np.linspace(0, 1, 27)[1:-1]
_KEPT_VARIANCE = 0.9
_QUANTIZATIONS = 5


def frontier_area(p_RK: np.ndarray, q_RK: np.ndarray) -> np.ndarray:
    """The area (R,) under the divergence frontier of discrete distributions p and q, in (0, 1]; 1 where they are equal.

    The frontier is (exp(-c KL(q | r)), exp(-c KL(p | r))) over all mixtures r of the two, with its two ends on the axes.
    """
    mixtures = _MIXTURES[:, None, None]
    r = mixtures * p_RK[None] + (1 - mixtures) * q_RK[None]
    x, y = np.exp(-_SCALE * _kl(q_RK, r)), np.exp(-_SCALE * _kl(p_RK, r))  # (mixtures, R); x falls along it, y rises
    end = np.zeros((1, x.shape[1]))
    x, y = np.concatenate([end + 1, x, end]), np.concatenate([end, y, end + 1])
    return np.abs(np.diff(x, axis=0) * (y[1:] + y[:-1]) / 2).sum(0)


def mauve_like(
    a_ND: np.ndarray, b_MD: np.ndarray, seed: int = 0, resamples: int = 200, clusters: int | None = None
) -> tuple[float, float, float]:
    """(value, low, high) of the MAUVE-like similarity of two sets of features; 1 is best.

    Both are quantized together by k-means on their unit-length principal components (90 % of the variance), a tenth of the
    smaller side as many clusters, and cluster counts are smoothed by one half (Pillutla et al. 2023, Krichevsky-Trofimov).
    The value is the mean over five k-means seeds, the interval one of resampled rows at fixed clusters.

    Raises:
        ValueError: fewer than MIN_ROWS rows per side.
    """
    smaller = min(len(a_ND), len(b_MD))
    if smaller < MIN_ROWS:
        raise InputError(f"a MAUVE-like divergence needs at least {MIN_ROWS} features per side, not {smaller}")
    from scipy.cluster import vq  # slow to import

    clusters = clusters or max(2, smaller // 10)
    points = _unit_components(np.concatenate([a_ND, b_MD]))
    weights = [np.ones((1, len(side))) for side in (a_ND, b_MD)]
    for index, side in enumerate(weights):
        weights[index] = np.concatenate([side, resample_weights(side.shape[1], [seed, index], resamples)])
    areas = []
    for start in range(_QUANTIZATIONS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty cluster holds no mass on either side
            _, labels = vq.kmeans2(points, clusters, minit="++", rng=np.random.default_rng([seed, start]))
        one_hot = np.eye(clusters)[labels]
        areas.append(frontier_area(*(_smooth(w @ part) for w, part in zip(weights, np.split(one_hot, [len(a_ND)])))))
    value, *drawn = np.mean(areas, 0)
    return shifted_interval(float(value), drawn)


def _unit_components(features: np.ndarray) -> np.ndarray:
    centered = features - features.mean(0)
    import scipy.linalg  # slow to import

    left, scale, _ = scipy.linalg.svd(centered, full_matrices=False)
    share = np.cumsum(scale**2) / np.maximum((scale**2).sum(), 1e-300)
    components = (left * scale)[:, : int(np.searchsorted(share, _KEPT_VARIANCE)) + 1]
    return components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-300)


def _smooth(counts_RK: np.ndarray) -> np.ndarray:
    smoothed = counts_RK + 0.5
    return smoothed / smoothed.sum(1, keepdims=True)


def _kl(p_RK: np.ndarray, r_MRK: np.ndarray) -> np.ndarray:
    seen = p_RK[None] > 0
    return (p_RK[None] * np.log(np.where(seen, p_RK[None], 1) / np.where(seen, r_MRK, 1))).sum(-1)
