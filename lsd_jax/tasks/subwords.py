"""Byte-pair tokens of a corpus in the 27 symbols: the character task's text and splits, in longer steps."""

import functools
import pathlib
import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics import words
from lsd_jax.models import weights
from lsd_jax.processes.process import token_dtype
from lsd_jax.samplers.kernel import Condition
from lsd_jax.tasks import alphabet, corpus
from lsd_jax.tasks.task import Data, Judge
from lsd_jax.tasks.text import Text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from lsd_jax.tasks.builder import Source

TOKENIZER = "subwords_1024.json"
# Tokens per example: long enough to crop from, and every block of a text that the character task can read holds as many.
CHUNK = 512


class Subwords(Text):
    """The character task's text in byte-pair tokens, by the tokenizer that ships or the file that `Data.tokenizer` names.

    `tv{n}` and `js{n}` of one and two tokens, `entropy_bits`, `rep4` and `longest_run` over tokens, `real_words`; with a
    scorer over the same tokens `gen_ppl`, `mauve_like`, `energy` and, with resamples, `energy_p`.
    """

    orders: ClassVar[tuple[int, ...]] = (1, 2)
    repeats: ClassVar[tuple[int, ...]] = (4,)  # eight tokens of 1,024 have no number that fits an integer
    units: ClassVar[str] = "tokens of subwords"

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        self.columns = (*self.columns, words.REAL_WORDS)

    def _check_vocab_size(self) -> None:
        size = 1 + max(self._tokenizer.get_vocab().values())
        if self.vocab_size != size:
            name = self.data.tokenizer or TOKENIZER
            raise InputError(
                f"vocab_size={self.vocab_size}: the tokenizer {name} has {size} tokens; set vocab_size={size}"
            )

    @functools.cached_property
    def _file(self) -> pathlib.Path:
        return tokenizer_file(self.data.tokenizer)

    @functools.cached_property
    def _tokenizer(self) -> "Tokenizer":
        return read_tokenizer(self._file)

    @functools.cached_property
    def _printed(self) -> list[str]:
        """What every token reads, and last a mask."""
        tokens = range(self.vocab_size)
        return [*(self._tokenizer.decode([token], skip_special_tokens=False) for token in tokens), "_"]

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        """The words of the training split."""
        blocks = corpus.split_blocks(corpus.read_corpus(self.data.path, self.data.normalize))
        return words.vocabulary(map(alphabet.decode, blocks["train"]))

    def source(self) -> "Source":
        from lsd_jax.tasks.builder import Source

        text = corpus.corpus_variant(self.data.path, self.data.normalize)
        return Source("subwords", f"{text}_{weights.sha256(self._file)[:12]}", CHUNK, self.vocab_size, self._splits)

    def _splits(self) -> dict[str, np.ndarray]:
        """The blocks of the character task, each in tokens and cut to examples, so that no split sees another's text.

        Raises:
            ValueError, FileNotFoundError: an unusable text, or a tokenizer that does not give it back; one line.
        """
        blocks = corpus.split_blocks(corpus.read_corpus(self.data.path, self.data.normalize))
        found = {split: corpus.chunks_of(map(self._in_tokens, parts), CHUNK) for split, parts in blocks.items()}
        for split, rows in found.items():
            if not len(rows):
                raise InputError(
                    f"path={self.data.path!r}: no block of the {split} split holds {CHUNK} tokens; give a longer text"
                )
        return found

    def _in_tokens(self, block: np.ndarray) -> np.ndarray:
        """A block of characters as tokens.

        Raises:
            ValueError: they do not read as the text.
        """
        text = alphabet.decode(block)
        tokens = self._encode(text)
        if self._decode(tokens) != text:
            raise InputError(
                f"tokenizer={self.data.tokenizer!r}: its tokens do not give the text back; name one that is exact on the 27 "
                "symbols, as tools/make_subwords.py makes them"
            )
        return tokens

    def _encode(self, text: str) -> np.ndarray:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return np.asarray(ids, token_dtype(self.vocab_size))

    def _decode(self, tokens_L: np.ndarray) -> str:
        return "".join(map(self._printed.__getitem__, tokens_L.tolist()))

    def _condition(self, prompt: str, count: int) -> Condition:
        """A prompt as given tokens: "_" is one that is unknown, and the text between is cut on its own.

        Raises:
            ValueError: a symbol outside the alphabet, or more tokens than a sequence has.
        """
        alphabet.check_prompt(prompt)
        unknown = np.array([self.vocab_size])
        parts = [unknown if part == "_" else self._encode(part) for part in re.split("(_)", prompt)]
        tokens = np.concatenate(parts).astype(np.int32)
        if len(tokens) > self.length:
            raise InputError(f"prompt={prompt!r}: it has {len(tokens)} tokens, a sequence {self.length}")
        row = np.pad(tokens, (0, self.length - len(tokens)), constant_values=self.vocab_size)
        fixed = row < self.vocab_size
        return Condition(np.tile(np.where(fixed, row, 0), (count, 1)), np.tile(fixed, (count, 1)))

    def _properties(self, tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
        texts = [self._decode(row) for row in tokens_NL]
        return {**super()._properties(tokens_NL), "real_words": words.real_words(texts, self._known)}

    def characters(self, tokens_NL: np.ndarray) -> np.ndarray:
        """The number (N,) of characters of each sequence: what bits per character divide by.

        Raises:
            ValueError: tokens outside the vocabulary (a mask left over).
        """
        if wrong := tokens_NL[(tokens_NL < 0) | (tokens_NL >= self.vocab_size)][:1].tolist():
            raise InputError(f"tokens={wrong[0]}: the data's are 0 ... {self.vocab_size - 1}")
        return np.array([len(text) for text in self._printed])[tokens_NL].sum(1)

    def facts(self) -> dict[str, Any]:
        """Also "characters_per_token" of the test split."""
        rows = self.split("test")
        return {**super().facts(), "characters_per_token": float(self.characters(rows).sum() / rows.size)}


def tokenizer_file(name: str) -> pathlib.Path:
    """The tokenizer that ships, or the JSON file of the name: a shipped one's or a path.

    Raises:
        FileNotFoundError: no such file.
    """
    file = weights.resolve(name or TOKENIZER)
    if not file.is_file():
        raise FileNotFoundError(f"tokenizer={name!r}: no such file; give a tokenizer's JSON file, or leave it empty")
    return file


def read_tokenizer(file: pathlib.Path) -> "Tokenizer":
    """The tokenizer of a file.

    Raises:
        ValueError: it holds none.
    """
    from tokenizers import Tokenizer  # slow to import

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        reason = str(error).splitlines()[0]
        raise InputError(f"tokenizer={str(file)!r}: not a tokenizer's JSON file: {reason}") from None
