"""How much a sequence repeats itself: gen-PPL falls with repetition without end, so these stand beside it."""

from collections.abc import Iterable

import numpy as np

from lsd_jax.metrics.metric import Column
from lsd_jax.metrics.ngram import ngram_ids

REPEATS = (4, 8)  # lengths of the n-grams


def repetition_columns(repeats: Iterable[int] = REPEATS) -> tuple[Column, ...]:
    """The columns of repetition rates, of which tables show that of 4-grams, and of the longest run."""
    rates = [Column(f"rep{n}", f"repeated {n}-grams", shown=n == REPEATS[0]) for n in repeats]
    return (*rates, Column("longest_run", "longest run"))


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
