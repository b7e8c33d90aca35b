"""Metrics against an exactly known first-order Markov chain, and the three ways to count countdown errors."""

from collections.abc import Iterable

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics.metric import Column

COUNTDOWN_COLUMNS = (
    Column("wrong_per_transition", "token error", "{:.4f}"),
    Column("wrong_jys_count", "error (JYS count)", "{:.4f}", "JYS error"),
    Column("sequences_with_violation", "sequences wrong", short="seq. wrong"),
)
TRANSITION_KL = Column("transition_kl_nats", "transition KL, nats", "{:.4f}", "transition KL", 0.0)
CHAIN_NATS = Column("chain_nats", "cost under the chain, nats per token", short="chain nats")
EXACT_COLUMNS = (
    Column("exact_tv", "TV from the exact distribution", "{:.4f}", "exact TV", 0.0),
    Column("exact_kl_nats", "KL from the exact distribution, nats", "{:.4f}", "exact KL", 0.0),
)


def lag_columns(lags: Iterable[int]) -> tuple[Column, ...]:
    """The columns of TV distances of token pairs `lag` places apart."""
    return tuple(Column(f"lag{k}_tv", "bigram TV" if k == 1 else f"lag-{k} TV", "{:.4f}", best=0.0) for k in lags)


def countdown_errors(tokens_NL: np.ndarray) -> dict[str, float]:
    """Three error rates of countdown sequences: v > 0 must be followed by v - 1, and 0 by anything but 0.

    wrong_per_transition: wrong transitions over all transitions.
    wrong_jys_count: as the released code of JYS counts: a walk that skips the transition behind each one it checked at
        v > 0, lets anything follow 0 (in its data 0 may), and divides by the L tokens. In that data (32 tokens, length
        256) 5 % corrupted tokens read as 4.6 %, while 9.0 % of all transitions are wrong.
    sequences_with_violation: share of sequences with at least one wrong transition.
    """
    return {name: float(values_N.mean()) for name, values_N in countdown_errors_by_sequence(tokens_NL).items()}


def countdown_errors_by_sequence(tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
    """The error rates (N,) of every sequence, whose means are `countdown_errors`."""
    previous, following = tokens_NL[:, :-1].astype(int), tokens_NL[:, 1:].astype(int)
    wrong = np.where(previous > 0, following != previous - 1, following == 0)
    return {
        "wrong_per_transition": wrong.mean(1),
        "wrong_jys_count": (wrong & (previous > 0) & _walk(previous > 0)).sum(1) / tokens_NL.shape[1],
        "sequences_with_violation": wrong.any(1).astype(float),
    }


def exact_log_prob(tokens_NL: np.ndarray, initial: np.ndarray, transition: np.ndarray) -> np.ndarray:
    """log p (N,) in nats of sequences under the chain."""
    steps = np.log(transition)[tokens_NL[:, :-1], tokens_NL[:, 1:]]
    return np.log(initial)[tokens_NL[:, 0]] + steps.sum(1)


def transition_kl(tokens_NL: np.ndarray, transition: np.ndarray) -> float:
    """KL in nats of the samples' transitions from the true ones, rows weighted by the samples' own frequencies."""
    return float(transition_kls(_bigrams(tokens_NL, len(transition))[None], transition)[0])


def transition_kls(joints_RSS: np.ndarray, transition: np.ndarray) -> np.ndarray:
    """`transition_kl` (R,) of bigram distributions (R, S, S)."""
    rows = joints_RSS / np.maximum(joints_RSS.sum(2, keepdims=True), 1e-300)
    ratio = np.where(joints_RSS > 0, rows, 1) / np.where(joints_RSS > 0, transition[None], 1)
    return (joints_RSS * np.log(ratio)).sum((1, 2))


def transition_tv(tokens_NL: np.ndarray, initial: np.ndarray, transition: np.ndarray) -> float:
    """TV distance of the samples' bigrams from the chain's exact ones at the same sequence length."""
    return lag_tv(tokens_NL, initial, transition, 1)


def exact_lag_distribution(initial: np.ndarray, transition: np.ndarray, length: int, lag: int) -> np.ndarray:
    """The chain's joint distribution (S, S) of tokens `lag` places apart, averaged over all places of a sequence.

    Raises:
        ValueError: no two places are so far apart.
    """
    if not 0 < lag < length:
        raise InputError(f"sequences of {length} tokens have no two places {lag} apart")
    current, total = initial, np.zeros(len(initial))
    for _ in range(length - lag):
        total += current
        current = current @ transition
    return total[:, None] / (length - lag) * np.linalg.matrix_power(transition, lag)


def lag_pairs(tokens_NL: np.ndarray, lag: int, vocab_size: int) -> np.ndarray:
    """The pair of tokens `lag` places apart at every place, a number in base `vocab_size`, int64 (N, L - lag)."""
    return tokens_NL[:, :-lag].astype(np.int64) * vocab_size + tokens_NL[:, lag:]


def lag_tv(tokens_NL: np.ndarray, initial: np.ndarray, transition: np.ndarray, lag: int) -> float:
    """TV distance of the samples' token pairs `lag` places apart from the chain's exact ones."""
    size = len(initial)
    exact = exact_lag_distribution(initial, transition, tokens_NL.shape[1], lag)
    counts = np.bincount(lag_pairs(tokens_NL, lag, size).ravel(), minlength=size**2)
    return float(np.abs(counts.reshape(size, size) / counts.sum() - exact).sum() / 2)


def _bigrams(tokens_NL: np.ndarray, vocab_size: int) -> np.ndarray:
    counts = np.bincount(lag_pairs(tokens_NL, 1, vocab_size).ravel(), minlength=vocab_size**2)
    return counts.reshape(vocab_size, vocab_size) / counts.sum()


def _walk(counting: np.ndarray) -> np.ndarray:
    """Which transitions a walk looks at that goes on two places behind a counting token, one place behind a zero."""
    checked = np.ones_like(counting)
    for i in range(1, counting.shape[1]):
        checked[:, i] = ~(checked[:, i - 1] & counting[:, i - 1])
    return checked
