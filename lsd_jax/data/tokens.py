"""Sequences of a published model's own vocabulary: a text or token file of the user's, or no data at all."""

import pathlib

import ml_collections
import numpy as np

from lsd_jax.data.tokenizer import load_tokenizer
from lsd_jax.models import weights


def read_tokens(path: str, data: ml_collections.ConfigDict, field: str) -> np.ndarray:
    """Sequences (n, data.sequence_length), int32, cut without overlap from a .npy array of tokens or a UTF-8 text.

    An empty path gives none. A text is encoded by data.tokenizer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, tokens outside the vocabulary, or shorter than one sequence; one line.
    """
    if not path:
        return np.zeros((0, data.sequence_length), np.int32)
    file = weights.resolve(path)
    if not file.is_file():
        file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{field}={path!r}: no such file")
    try:
        tokens = np.load(file) if file.suffix == ".npy" else _encode(file.read_text("utf-8"), data)
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise ValueError(f"{field}={path!r} is neither UTF-8 text nor a .npy array: {error}") from None
    if not np.issubdtype(tokens.dtype, np.integer) or tokens.ndim not in (1, 2):
        raise ValueError(f"{field}={path!r} holds {tokens.dtype} {tokens.shape}, not integers (n,) or (n, length)")
    length = data.sequence_length
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < data.vocab_size:
        raise ValueError(
            f"{field}={path!r} holds tokens up to {tokens.max()}; config.data.vocab_size={data.vocab_size}"
        )
    if tokens.shape[-1] < length:
        raise ValueError(
            f"{field}={path!r} holds {tokens.shape[-1]} tokens in a row, config.data.sequence_length={length}"
        )
    whole = tokens.shape[-1] // length * length
    return tokens[..., :whole].reshape(-1, length).astype(np.int32)


def _encode(text: str, data: ml_collections.ConfigDict) -> np.ndarray:
    if not data.tokenizer:
        raise ValueError("config.data.tokenizer is empty: a text needs the network's tokenizer")
    tokenizer = load_tokenizer(data.tokenizer, data.vocab_size, "config.data.tokenizer")
    return np.asarray(tokenizer.encode(text).ids, np.int32)


def split_tokens(data: ml_collections.ConfigDict, split: str) -> np.ndarray:
    """Every second sequence is for the test, the others are "validation", what real data looks like beside samples.

    Raises:
        ValueError: a published model has no training split.
    """
    rows = read_tokens(data.path, data, "config.data.path")
    if split == "train":
        raise ValueError("config.data.name='tokens' has no training split: set config.teacher.source='samples'")
    return rows[0::2] if split == "test" else rows[1::2]
