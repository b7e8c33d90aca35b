"""A law on three tokens at three positions, its exact denoiser, and the law of samples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pytest

from lsd_jax.models.oracle import enumerated_log_posterior
from lsd_jax.models.score_fn import LogScoreFn, posterior_score_fn
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import Process, make_process

S = L = 3


class Toy(NamedTuple):
    """The enumerated toy under one process."""

    process: Process
    score_fn: LogScoreFn
    probs: np.ndarray  # (S^L,), the last position changing fastest

    def law(self, tokens: jax.Array) -> np.ndarray:
        return np.bincount(np.asarray(tokens) @ S ** np.arange(L)[::-1], minlength=S**L) / len(tokens)

    def error(self, tokens: jax.Array, probs: np.ndarray | None = None) -> float:
        """Total variation of samples from the exact law, about 0.009 for 40,000 exact samples."""
        return float(np.abs(self.law(tokens) - (self.probs if probs is None else probs)).sum() / 2)


@pytest.fixture(scope="session")
def toy() -> Callable[[str], Toy]:
    """The toy by the name of its process."""
    probs = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3))

    def make(name: str) -> Toy:
        process = make_process(name, S, make_noise("loglinear"))
        return Toy(process, posterior_score_fn(process, enumerated_log_posterior(process, probs, L)), probs)

    return make
