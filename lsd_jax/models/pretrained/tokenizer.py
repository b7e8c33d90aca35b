"""Byte-pair tokenizers, GPT-2's and its like: from tokenizer.json, or vocab.json and merges.txt, or the hub."""

import pathlib

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from lsd_jax.errors import InputError
from lsd_jax.models.pretrained import sources

_PADDING = 128  # rows that tables are padded to a multiple of, at most; a larger difference is another tokenizer's
END_OF_TEXT = "<|endoftext|>"


def load_tokenizer(source: str, vocab_size: int, field: str) -> Tokenizer:
    """The tokenizer at `source` (models/pretrained/sources.py), checked against the network's vocabulary.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: not a tokenizer, or one of more tokens than the network has; one line.
    """
    path = sources.find(source, ("tokenizer.json", "vocab.json"), field)
    try:
        tokenizer = (
            _byte_pairs(path, source, field) if path.name.endswith("vocab.json") else Tokenizer.from_file(str(path))
        )
    except FileNotFoundError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{field}={source!r}: {path.name} is not a tokenizer: {error}") from None
    size = tokenizer.get_vocab_size(with_added_tokens=False)
    if not vocab_size - _PADDING <= tokenizer.get_vocab_size() or size > vocab_size:
        raise InputError(
            f"{field}={source!r} has {tokenizer.get_vocab_size()} tokens, the network {vocab_size}: name the tokenizer that the network was trained with"
        )
    return tokenizer


def _byte_pairs(vocab: pathlib.Path, source: str, field: str) -> Tokenizer:
    merges = vocab.with_name(vocab.name.replace("vocab.json", "merges.txt"))
    if not merges.is_file():
        merges = sources.find(source, ("merges.txt",), field)
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True)])
    return tokenizer


def end_of_text(tokenizer: Tokenizer, field: str) -> int:
    """The index of <|endoftext|>.

    Raises:
        ValueError: the tokenizer has none.
    """
    index = tokenizer.token_to_id(END_OF_TEXT)
    if index is None:
        raise InputError(f"{field}: the tokenizer has no {END_OF_TEXT} token")
    return index
