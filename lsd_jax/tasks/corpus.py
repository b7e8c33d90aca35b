"""Text in the 27-symbol alphabet: U.S. State of the Union addresses 1790-2021, or any text file of the user's."""

import hashlib
import lzma
import pathlib
from collections.abc import Iterable

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.models.weights import SHIPPED
from lsd_jax.tasks import alphabet

CORPUS = SHIPPED / "corpus" / "sotu.txt.xz"
CHUNK = 2048  # tokens per example: long enough to crop from, short enough to shuffle
_BLOCKS = 100  # the corpus is cut into this many contiguous blocks; see `split_of_block`


def corpus_file(path: str) -> pathlib.Path:
    """The shipped corpus, or the text file at `path`.

    Raises:
        FileNotFoundError: no file at `path`.
    """
    file = pathlib.Path(path).expanduser() if path else CORPUS
    if not file.is_file():
        raise FileNotFoundError(f"path={str(file)!r}: no such file")
    return file


def read_corpus(path: str = "", normalize: bool = False) -> np.ndarray:
    """Token ids (uint8) of the shipped corpus, or of the text file at `path`.

    Raises:
        FileNotFoundError: no file at `path`.
        ValueError: the text leaves the 27-symbol alphabet, or is too short to split.
    """
    file = corpus_file(path)
    raw = file.read_bytes()
    try:
        text = (lzma.decompress(raw) if file.suffix == ".xz" else raw).decode("utf-8")
    except (UnicodeDecodeError, lzma.LZMAError) as error:
        raise InputError(f"path={str(file)!r}: not readable text: {error}") from None
    try:
        tokens = alphabet.encode(alphabet.normalize(text) if normalize else text.strip())
    except ValueError as error:
        raise InputError(f"path={str(file)!r}: {error}") from None
    if len(tokens) < _BLOCKS * CHUNK:
        raise InputError(f"path={str(file)!r}: holds {len(tokens)} characters; at least {_BLOCKS * CHUNK} are needed")
    return tokens


def corpus_variant(path: str, normalize: bool) -> str:
    """What names a corpus in the cache: its file's name and digest.

    Raises:
        FileNotFoundError: no file at `path`.
    """
    file = corpus_file(path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return f"{file.name.split('.')[0]}_{digest}_{int(normalize)}"


def split_of_block(block: int) -> str:
    """Of every twenty contiguous blocks one is for validation and one for the test, so that both span all years."""
    return {9: "validation", 19: "test"}.get(block % 20, "train")


def split_blocks(tokens: np.ndarray) -> dict[str, list[np.ndarray]]:
    """The contiguous blocks of each split, in the corpus's order, whatever they are then cut into."""
    blocks: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    for index, block in enumerate(np.array_split(tokens, _BLOCKS)):
        blocks[split_of_block(index)].append(block)
    return blocks


def chunks_of(blocks: Iterable[np.ndarray], width: int) -> np.ndarray:
    """Examples (n, width) cut from blocks without overlap; none crosses a block, so no split sees another's text."""
    return np.concatenate([block[: len(block) // width * width].reshape(-1, width) for block in blocks])


def split_chunks(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Chunks (n, CHUNK) of each split."""
    return {split: chunks_of(blocks, CHUNK) for split, blocks in split_blocks(tokens).items()}
