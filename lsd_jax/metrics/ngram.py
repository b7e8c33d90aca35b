"""n-gram distributions of samples, their divergence from a reference, and unigram entropy."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics.metric import Column

ENTROPY = Column("entropy_bits", "entropy, bits", short="entropy")


def ngram_columns(orders: Iterable[int]) -> tuple[Column, ...]:
    """The columns of `counts.ngram_divergences`: total variation, which tables show, and Jensen-Shannon."""
    found = []
    for n in orders:
        found += [
            Column(f"tv{n}", f"{n}-gram TV", best=0.0),
            Column(f"js{n}", f"{n}-gram JS, bits", best=0.0, shown=False),
        ]
    return tuple(found)


class NGrams(NamedTuple):
    """A sparse distribution: distinct n-grams as integers (k,), ascending, and their probabilities (k,)."""

    ids: np.ndarray
    probs: np.ndarray


def ngram_ids(tokens_NL: np.ndarray, n: int, vocab_size: int) -> np.ndarray:
    """The n-gram at every place of every sequence, a number in base `vocab_size`, int64 (N, L - n + 1).

    Raises:
        ValueError: sequences shorter than n, or a vocabulary whose n-grams do not fit 63 bits.
    """
    if tokens_NL.shape[1] < n:
        raise InputError(f"{n}-grams need sequences of at least {n} tokens, not {tokens_NL.shape[1]}")
    if n * np.log2(vocab_size) >= 63:
        raise InputError(f"{n}-grams over {vocab_size} tokens do not fit an integer")
    count = tokens_NL.shape[1] - n + 1
    ids = np.zeros((len(tokens_NL), count), np.int64)
    for offset in range(n):
        ids = ids * vocab_size + tokens_NL[:, offset : offset + count]
    return ids


def without_pads(ids_NM: np.ndarray, vocab_size: int, pad: int | None) -> np.ndarray:
    """Where an n-gram of `ngram_ids` lies inside its sequence, booleans (N, M): pads follow a sequence, so it ends in none."""
    return np.full(ids_NM.shape, True) if pad is None else ids_NM % vocab_size != pad


def ngram_distribution(tokens_NL: np.ndarray, n: int, vocab_size: int, pad: int | None = None) -> NGrams:
    """The distribution of the n-grams inside sequences (N, L), which end where their pads begin.

    Raises:
        ValueError: as `ngram_ids`.
    """
    ids = ngram_ids(tokens_NL, n, vocab_size)
    distinct, counts = np.unique(ids[without_pads(ids, vocab_size, pad)], return_counts=True)
    return NGrams(distinct, counts / counts.sum())


def total_variation(a: NGrams, b: NGrams) -> float:
    """Half the L1 distance of two distributions, in [0, 1]."""
    p, q = _align(a, b)
    return float(np.abs(p - q).sum() / 2)


def jensen_shannon(a: NGrams, b: NGrams) -> float:
    """Jensen-Shannon divergence of two distributions in bits, in [0, 1]."""
    p, q = _align(a, b)
    middle = (p + q) / 2

    def half(probs: np.ndarray) -> float:
        return np.sum(probs * np.log2(np.where(probs > 0, probs, 1) / middle)) / 2

    return float(half(p) + half(q))


def unigram_entropy(tokens_NL: np.ndarray, vocab_size: int, pad: int | None = None) -> np.ndarray:
    """Entropy (N,) in bits of every sequence's own unigram distribution, pads left out, as the field reports beside gen-PPL."""
    # Row by row: all rows at once would take N * L * vocab_size bytes, 50 GB for GPT-2's vocabulary.
    counts = np.stack([np.bincount(row, minlength=vocab_size) for row in tokens_NL])
    if pad is not None:
        counts[:, pad] = 0
    p = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(1)


def _align(a: NGrams, b: NGrams) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities of both over the n-grams that either has."""
    ids = np.union1d(a.ids, b.ids)
    dense = np.zeros((2, len(ids)))
    for row, sparse in zip(dense, (a, b)):
        row[np.searchsorted(ids, sparse.ids)] = sparse.probs
    return dense[0], dense[1]
