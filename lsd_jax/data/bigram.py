"""A chain of letters: the bigram law of the training text, an exactly known language with the skew of a real one."""

import functools

import numpy as np

from lsd_jax.data.alphabet import SYMBOLS
from lsd_jax.data.mixing import blend
from lsd_jax.data.text import read_corpus, split_chunks


def transition_matrix(mix: float, path: str = "", normalize: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The chain's initial law (27,) and transition matrix (27, 27), float64.

    Transitions are the relative frequencies of the training split's bigrams, mixed with a share `mix` of the uniform law.
    The initial law is the stationary one of the mixed chain: sequences begin anywhere in the text, and every position
    has the same law.

    Raises:
        ValueError, FileNotFoundError: `mix` outside (0, 1], or an unusable text.
    """
    if mix == 0:
        raise ValueError("config.data.mix=0: bigram needs a positive share, some pairs of letters are never seen")
    counts = _bigram_counts(path, normalize)
    transition = blend(counts / np.maximum(counts.sum(1, keepdims=True), 1), mix)
    transition /= transition.sum(1, keepdims=True)  # a letter that never occurs has an empty row
    return stationary_law(transition), transition


def stationary_law(transition: np.ndarray) -> np.ndarray:
    """The law (S,) that a positive transition matrix (S, S) leaves as it is."""
    size = len(transition)
    equations = np.concatenate([transition.T - np.eye(size), np.ones((1, size))])
    law = np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0))[0]
    return law / law.sum()


@functools.cache
def _bigram_counts(path: str, normalize: bool) -> np.ndarray:
    chunks = split_chunks(read_corpus(path, normalize))["train"].astype(np.int64)
    size = len(SYMBOLS)
    pairs = chunks[:, :-1] * size + chunks[:, 1:]
    return np.bincount(pairs.ravel(), minlength=size**2).reshape(size, size)
