"""Where samplers stand among each other, over many metrics."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

from lsd_jax.errors import InputError
from lsd_jax.metrics.metric import Metrics


def overall_rank(rows: Sequence[Metrics], best: Mapping[str, float]) -> np.ndarray:
    """Each row's mean rank (n,) over the metrics in `best`; 1 is the nearest to the best value, and ties share their rank.

    Raises:
        ValueError: a row lacks a metric.
    """
    missing = sorted({name for name in best for row in rows if name not in row})
    if missing:
        raise InputError(f"rows to rank lack {', '.join(missing)}")
    return np.mean([ranks(rows, name, value) for name, value in best.items()], 0)


def ranks(rows: Sequence[Metrics], name: str, best: float) -> np.ndarray:
    """Each row's rank (n,) by one metric; 1 is the nearest to `best`."""
    return scipy.stats.rankdata([abs(row[name][0] - best) for row in rows])
