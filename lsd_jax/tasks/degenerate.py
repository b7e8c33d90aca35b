"""Degenerate baselines: they need no diffusion model and win single metrics all the same (after arXiv 2606.08417).

Each is `(rng, training_tokens, count, length) -> tokens (count, length)` of the training tokens' dtype, at no network evaluation. A set of metrics
that ranks one of them well is not to be trusted; neither is a single metric that one of them wins.
"""

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics.ngram import ngram_ids

_TOP = 12  # tokens, of 27
_PERIOD = 12  # tokens of a repeated snippet
_SNIPPETS = 64  # the most frequent ones, of which each sequence repeats one


def top_k_iid(rng: np.random.Generator, training_NL: np.ndarray, count: int, length: int) -> np.ndarray:
    """Independent draws of the twelve most frequent tokens: no repetition beyond chance, and no language."""
    frequency = np.bincount(training_NL.ravel())
    kept = np.argsort(-frequency, kind="stable")[:_TOP]
    probs = frequency[kept] / frequency[kept].sum()
    return kept[rng.choice(len(kept), (count, length), p=probs)].astype(training_NL.dtype)


def periodic(rng: np.random.Generator, training_NL: np.ndarray, count: int, length: int) -> np.ndarray:
    """One of the 64 most frequent training snippets of 12 tokens, repeated: a language model soon predicts it surely.

    Only snippets that join with themselves are taken: they begin with the most frequent token (of text, the space) and
    are followed by it.

    Raises:
        ValueError: too short training sequences, or none with such a snippet.
    """
    size = int(training_NL.max()) + 1
    period = min(_PERIOD, int(62 / np.log2(max(size, 2))) - 1)  # a snippet's number must fit an integer
    ids = ngram_ids(training_NL, period + 1, size)
    joint = np.bincount(training_NL.ravel()).argmax()
    row, start = np.nonzero((ids // size**period == joint) & (ids % size == joint))
    if not len(row):
        raise InputError(f"no training sequence has token {joint} twice, {period} places apart")
    _, first, counts = np.unique(ids[row, start], return_index=True, return_counts=True)
    often = first[np.argsort(-counts, kind="stable")[:_SNIPPETS]]
    chosen = often[rng.integers(0, len(often), count)]
    snippets = training_NL[row[chosen, None], start[chosen, None] + np.arange(period)]
    phase = rng.integers(0, period, (count, 1))
    return np.take_along_axis(snippets, (np.arange(length) + phase) % period, 1)


def mirror(rng: np.random.Generator, training_NL: np.ndarray, count: int, length: int) -> np.ndarray:
    """A training snippet followed by itself read backwards: the right letters, half of them in the wrong direction.

    Raises:
        ValueError: training sequences shorter than half of `length`.
    """
    half = (length + 1) // 2
    if training_NL.shape[1] < half:
        raise InputError(f"mirror needs training sequences of {half} tokens, not {training_NL.shape[1]}")
    row = rng.integers(0, len(training_NL), count)
    start = rng.integers(0, training_NL.shape[1] - half + 1, count)
    snippets = training_NL[row[:, None], start[:, None] + np.arange(half)]
    return np.concatenate([snippets, snippets[:, ::-1]], 1)[:, :length]


BASELINES = {"top-k iid": top_k_iid, "periodic text": periodic, "mirrored text": mirror}
