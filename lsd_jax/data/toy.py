"""A toy small enough to enumerate: two tokens, 15 states each, so that the law of samples can be told from the exact one.

After the 15-state toy of Ren et al. (arXiv 2502.00234), which has a single variable: two are the fewest with a dependence
that a sampler can miss.
"""

import numpy as np

from lsd_jax.data.mixing import blend

LENGTH = 2
_SEED = 2502


def law(vocab_size: int, mix: float) -> np.ndarray:
    """The probabilities (S, S) of both tokens together, float64, mixed with a share `mix` of the uniform law.

    The first token is log-normal noise around nothing; the second follows 2 * first + 1 modulo S, with a bump of about
    three states around it and noise of its own, so that neither token nor their dependence is smooth.
    """
    if vocab_size < 2:
        raise ValueError(f"config.data.vocab_size={vocab_size}: toy needs at least 2 states")
    rng = np.random.default_rng(_SEED)
    states = np.arange(vocab_size)
    angle = 2 * np.pi * (states[None] - 2 * states[:, None] - 1) / vocab_size
    log_probs = rng.normal(size=(vocab_size, 1)) + 4 * np.cos(angle) + 0.5 * rng.normal(size=(vocab_size, vocab_size))
    probs = np.exp(log_probs)
    return blend((probs / probs.sum()).ravel(), mix).reshape(vocab_size, vocab_size)


def transition_matrix(vocab_size: int, mix: float) -> tuple[np.ndarray, np.ndarray]:
    """The same law as a chain of two tokens: the first's law (S,) and the second's given the first (S, S)."""
    joint = law(vocab_size, mix)
    initial = joint.sum(1)
    return initial, joint / initial[:, None]
