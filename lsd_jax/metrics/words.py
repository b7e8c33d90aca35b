"""Whether a sample's words are words: the share of them that the training text uses.

It does not see what the words say together: one word without end scores 1. It is to be read beside repetition and a divergence.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from lsd_jax.metrics.metric import Column

REAL_WORDS = Column("real_words", "words that the training text has, share", short="real words")


def whole_words(text: str) -> list[str]:
    """The words with a space on both sides: what the text begins and ends with may be cut."""
    return [word for word in text.split(" ")[1:-1] if word]


def vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """The distinct whole words of texts."""
    return frozenset(word for text in texts for word in whole_words(text))


def real_words(texts: Sequence[str], known: Collection[str]) -> np.ndarray:
    """The share (N,) of each text's whole words that are among the known ones; 0 of a text without a whole word."""
    words = [whole_words(text) for text in texts]
    return np.array([sum(word in known for word in row) / max(len(row), 1) for row in words], np.float64)
