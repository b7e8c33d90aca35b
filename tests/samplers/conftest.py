"""A distribution on three tokens at three positions, its exact model, and the distribution of samples."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import pytest

from lsd_jax.models.model import Diffusion
from tests.samplers.enumeration import frequencies, oracle, total_variation

S = L = 3


class Toy(NamedTuple):
    """The enumerated toy under one process."""

    model: Diffusion
    probs: np.ndarray  # (S^L,), the last position changing fastest

    def error(self, tokens: jax.Array, probs: np.ndarray | None = None) -> float:
        """Total variation of samples from the exact distribution, about 0.009 for 40,000 exact samples."""
        return total_variation(frequencies(tokens, S), self.probs if probs is None else probs)


@pytest.fixture(scope="session")
def toy() -> Callable[[str], Toy]:
    """The toy by the name of its process; its model is the same object every time."""
    probs = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3))
    return lambda name: Toy(oracle(name, probs, S, L), probs)
