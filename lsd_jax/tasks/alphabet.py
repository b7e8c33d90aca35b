"""The 27-symbol text8 alphabet: space and a-z."""

import re

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.samplers.kernel import Condition

SYMBOLS = " abcdefghijklmnopqrstuvwxyz"
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PRINTED = np.frombuffer((SYMBOLS + "_").encode(), np.uint8)
_CODE = np.full(256, 255, np.uint8)
_CODE[np.frombuffer(SYMBOLS.encode(), np.uint8)] = np.arange(len(SYMBOLS), dtype=np.uint8)


def normalize(text: str) -> str:
    """Reduces any text to the alphabet as text8 does: lower case, digits spelled, the rest one space."""
    text = re.sub(r"\d", lambda d: f" {_DIGITS[int(d.group(), 10)]} ", text.lower())
    return re.sub(r"[^a-z]+", " ", text).strip()


def encode(text: str) -> np.ndarray:
    """Token ids (uint8) of `text`.

    Raises:
        ValueError: a character is outside the alphabet; the message names it and its position.
    """
    raw = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    tokens = np.where(raw < 256, _CODE[np.minimum(raw, 255)], 255).astype(np.uint8)
    bad = np.flatnonzero(tokens == 255)
    if bad.size:
        raise InputError(
            f"character {text[bad[0]]!r} at position {bad[0]} is outside the alphabet {SYMBOLS!r} "
            f"({bad.size} such characters); set normalize=True to reduce the text to it"
        )
    return tokens


def decode(tokens: np.ndarray) -> str:
    """The text of token ids; a masked position (id 27) prints as '_'."""
    return _PRINTED[np.asarray(tokens, np.intp)].tobytes().decode()


def check_vocab_size(name: str, vocab_size: int) -> None:
    """Raises ValueError where a task of this alphabet is given another vocabulary."""
    if vocab_size != len(SYMBOLS):
        raise InputError(f"vocab_size={vocab_size}: {name} has {len(SYMBOLS)} symbols")


def check_prompt(prompt: str) -> None:
    """Raises ValueError where a prompt holds another symbol than the alphabet's and "_"."""
    if wrong := sorted(set(prompt) - set(SYMBOLS + "_")):
        raise InputError(
            f"prompt={prompt!r}: it holds {''.join(wrong)!r}; it may hold {SYMBOLS!r} and '_' for what is unknown"
        )


def prompt_condition(prompt: str, count: int, length: int) -> Condition:
    """`count` rows (n, L) that hold the prompt's characters where it is not "_".

    Raises:
        ValueError: a symbol outside the alphabet, or a prompt longer than the sequence.
    """
    if len(prompt) > length:
        raise InputError(f"prompt={prompt!r}: it has {len(prompt)} characters, a sequence {length}")
    check_prompt(prompt)
    padded = prompt.ljust(length, "_")
    fixed = np.array([symbol != "_" for symbol in padded])
    tokens = encode(padded.replace("_", " ")).astype(np.int32)
    return Condition(np.tile(tokens, (count, 1)), np.tile(fixed, (count, 1)))
