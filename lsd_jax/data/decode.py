"""Sequences as a person reads them."""

from collections.abc import Callable

import ml_collections
import numpy as np

from lsd_jax.data import alphabet
from lsd_jax.data.tokenizer import load_tokenizer


def decoder(data: ml_collections.ConfigDict) -> Callable[[np.ndarray], str]:
    """A function from tokens (L,) to one line of text, or of numbers where the data has no text; a mask reads "_"."""
    if data.name in alphabet.DATASETS:
        return alphabet.decode
    if data.name == "tokens" and data.tokenizer:
        tokenizer = load_tokenizer(data.tokenizer, data.vocab_size, "config.data.tokenizer")
        return lambda tokens: tokenizer.decode(tokens.tolist(), skip_special_tokens=False).replace("\n", "\\n")
    return lambda tokens: " ".join("_" if token >= data.vocab_size else str(token) for token in tokens)
