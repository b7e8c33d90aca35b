"""How much a sequence repeats itself: what gen-PPL rewards without end, so what has to stand beside it."""

import numpy as np

from lsd_jax.metrics.ngram import ngram_ids


def repetition_rate(tokens_NL: np.ndarray, n: int, vocab_size: int) -> np.ndarray:
    """The share (N,) of a sequence's n-grams that occurred earlier in the same sequence (Welleck et al. 2020, seq-rep-n).

    Raises:
        ValueError: sequences shorter than n, or n-grams that do not fit 63 bits.
    """
    ids = np.sort(ngram_ids(tokens_NL, n, vocab_size), 1)
    return (ids[:, 1:] == ids[:, :-1]).sum(1) / ids.shape[1]


def longest_run(tokens_NL: np.ndarray) -> np.ndarray:
    """The longest run of one token as a share (N,) of the sequence."""
    run = longest = np.ones(len(tokens_NL), int)
    for i in range(1, tokens_NL.shape[1]):
        run = np.where(tokens_NL[:, i] == tokens_NL[:, i - 1], run + 1, 1)
        longest = np.maximum(longest, run)
    return longest / tokens_NL.shape[1]
