"""How different the samples are from each other: a sampler that repeats one good sequence wins most other metrics."""

import numpy as np

from lsd_jax.metrics.metric import Column

COLUMNS = (
    Column("diversity", "distance between two samples, share of positions", short="diversity"),
    Column("distinct", "distinct samples, share", short="distinct", best=1.0),
)


def distance_to_others(tokens_NL: np.ndarray, vocab_size: int) -> np.ndarray:
    """The mean Hamming distance (N,) of every sequence from the others, as a share of its length; 0 of a lone one."""
    others, distance_N = max(len(tokens_NL) - 1, 1), np.zeros(len(tokens_NL))
    for column_N in tokens_NL.T:  # by position: all pairs of sequences would be N times as much
        same_N = np.bincount(column_N, minlength=vocab_size)[column_N] - 1
        distance_N += (len(tokens_NL) - 1 - same_N) / others
    return distance_N / tokens_NL.shape[1]


def first_of_its_kind(tokens_NL: np.ndarray) -> np.ndarray:
    """1.0 where a sequence is the first of its copies, 0.0 at the others, (N,); the mean is the share of distinct ones."""
    first_N = np.zeros(len(tokens_NL))
    first_N[np.unique(tokens_NL, axis=0, return_index=True)[1]] = 1.0
    return first_N
