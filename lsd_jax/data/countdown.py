"""Countdown (JYS, Park et al. 2024): a synthetic language whose law is an exactly known Markov chain."""

import numpy as np

from lsd_jax.data.mixing import blend


def transition_matrix(vocab_size: int, mix: float) -> tuple[np.ndarray, np.ndarray]:
    """The chain's initial law (S,) and transition matrix (S, S), float64.

    The first token is uniform on 1..S-1; v > 0 is followed by v - 1 and 0 by a uniform draw on 1..S-1. Transitions are
    mixed with a share `mix` of the uniform law; the first token is mixed alike.

    Raises:
        ValueError: `mix` outside [0, 1] or fewer than two tokens.
    """
    if vocab_size < 2:
        raise ValueError(f"config.data.vocab_size={vocab_size}: countdown needs at least 2 tokens")
    start = np.full(vocab_size, 1 / (vocab_size - 1))
    start[0] = 0
    transition = np.diag(np.ones(vocab_size - 1), -1)
    transition[0] = start
    return blend(start, mix), blend(transition, mix)
