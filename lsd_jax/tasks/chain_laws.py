"""Exactly known Markov chains: each as its first token's distribution (S,) and its transition matrix (S, S), float64.

All are mixed with a share of the uniform distribution, which keeps every transition positive.
"""

import functools

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.processes.process import token_dtype
from lsd_jax.tasks.alphabet import SYMBOLS
from lsd_jax.tasks.corpus import read_corpus, split_chunks

Chain = tuple[np.ndarray, np.ndarray]

TOY_LENGTH = 2
_TOY_SEED = 2502


def blend(probs: np.ndarray, mix: float) -> np.ndarray:
    """Distributions along the last axis, mixed with a share `mix` of the uniform one.

    Raises:
        ValueError: `mix` outside [0, 1].
    """
    if not 0 <= mix <= 1:
        raise InputError(f"mix={mix}: a share between 0 and 1 is needed")
    return (1 - mix) * probs + mix / probs.shape[-1]


def countdown(vocab_size: int, mix: float) -> Chain:
    """Countdown (JYS, Park et al. 2024), a synthetic language.

    The first token is uniform on 1..S-1; v > 0 is followed by v - 1 and 0 by a uniform draw on 1..S-1. Transitions are
    mixed with a share `mix` of the uniform distribution; the first token is mixed alike.

    Raises:
        ValueError: `mix` outside [0, 1] or fewer than two tokens.
    """
    if vocab_size < 2:
        raise InputError(f"vocab_size={vocab_size}: countdown needs at least 2 tokens")
    start = np.full(vocab_size, 1 / (vocab_size - 1))
    start[0] = 0
    transition = np.diag(np.ones(vocab_size - 1), -1)
    transition[0] = start
    return blend(start, mix), blend(transition, mix)


def bigram(mix: float, path: str = "", normalize: bool = False) -> Chain:
    """A chain of letters: the bigrams of the training text, an exactly known language with the skew of a real one.

    Transitions are the relative frequencies of the training split's bigrams, mixed with a share `mix` of the uniform
    distribution. The first token has the stationary distribution of the mixed chain: sequences begin anywhere in the text,
    and every position has the same distribution.

    Raises:
        ValueError, FileNotFoundError: `mix` outside (0, 1], or an unusable text.
    """
    if mix == 0:
        raise InputError("mix=0: bigram needs a positive share, some pairs of letters are never seen")
    counts = _bigram_counts(path, normalize)
    transition = blend(counts / np.maximum(counts.sum(1, keepdims=True), 1), mix)
    transition /= transition.sum(1, keepdims=True)  # a letter that never occurs has an empty row
    return stationary(transition), transition


def stationary(transition: np.ndarray) -> np.ndarray:
    """The distribution (S,) that a positive transition matrix (S, S) leaves as it is."""
    size = len(transition)
    equations = np.concatenate([transition.T - np.eye(size), np.ones((1, size))])
    probs = np.linalg.lstsq(equations, np.append(np.zeros(size), 1.0))[0]
    return probs / probs.sum()


@functools.cache
def _bigram_counts(path: str, normalize: bool) -> np.ndarray:
    chunks = split_chunks(read_corpus(path, normalize))["train"].astype(np.int64)
    size = len(SYMBOLS)
    pairs = chunks[:, :-1] * size + chunks[:, 1:]
    return np.bincount(pairs.ravel(), minlength=size**2).reshape(size, size)


def toy_joint(vocab_size: int, mix: float) -> np.ndarray:
    """A toy small enough to enumerate: the probabilities (S, S) of two tokens together, float64.

    After the 15-state toy of Ren et al. (arXiv 2502.00234), which has a single variable: two are the fewest with a
    dependence that a sampler can miss. The first token is log-normal noise around nothing; the second follows 2 * first + 1
    modulo S, with a bump of about three states around it and noise of its own, so that neither token nor their dependence
    is smooth.

    Raises:
        ValueError: `mix` outside [0, 1] or fewer than two states.
    """
    if vocab_size < 2:
        raise InputError(f"vocab_size={vocab_size}: toy needs at least 2 states")
    rng = np.random.default_rng(_TOY_SEED)
    states = np.arange(vocab_size)
    angle = 2 * np.pi * (states[None] - 2 * states[:, None] - 1) / vocab_size
    log_probs = rng.normal(size=(vocab_size, 1)) + 4 * np.cos(angle) + 0.5 * rng.normal(size=(vocab_size, vocab_size))
    probs = np.exp(log_probs)
    return blend((probs / probs.sum()).ravel(), mix).reshape(vocab_size, vocab_size)


def toy(vocab_size: int, mix: float) -> Chain:
    """`toy_joint` as a chain of two tokens."""
    joint = toy_joint(vocab_size, mix)
    initial = joint.sum(1)
    return initial, joint / initial[:, None]


def sample_chain(
    rng: np.random.Generator, initial: np.ndarray, transition: np.ndarray, count: int, length: int
) -> np.ndarray:
    """Draws `count` sequences (count, length) of a Markov chain by inverse CDF in float64."""
    cumulative = np.cumsum(transition, 1)
    tokens = np.empty((count, length), token_dtype(len(initial)))
    # Rounding may leave the last sum a little below one.
    first = np.searchsorted(np.cumsum(initial), rng.random(count), side="right")
    tokens[:, 0] = np.minimum(first, len(initial) - 1)
    for i in range(1, length):
        rows = cumulative[tokens[:, i - 1]]
        tokens[:, i] = np.minimum((rows <= rng.random(count)[:, None]).sum(1), len(initial) - 1)
    return tokens
