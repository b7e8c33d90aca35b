"""Sequences of a published model's own vocabulary: a text or token file of the user's, or no data at all."""

import functools
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics import ngram
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.counts import ngram_divergences
from lsd_jax.metrics.gen_ppl import gen_ppl_column, perplexity_interval
from lsd_jax.metrics.metric import Metrics
from lsd_jax.metrics.scorer import Gpt2Scorer, Scorer, load_gpt2_scorer, load_scorer
from lsd_jax.models import weights
from lsd_jax.samplers.kernel import Condition
from lsd_jax.tasks.task import Data, Judge, Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ORDERS = (1, 2)


class Tokens(Task):
    """A published model's tokens: `entropy_bits`, with data `tv{n}` and `js{n}`, with a scorer `gen_ppl`.

    Of the sequences every second one is for the test; the others are "validation", what real data looks like beside samples.
    """

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        self.has_data = bool(data.path)
        self._scorer = _scorer_of(data, judge)
        divergences = ngram.ngram_columns(_ORDERS) if self.has_data else ()
        ppl = (gen_ppl_column(judge.scorer, judge.protocol),) if self._scorer else ()
        self.columns = (*divergences, ngram.ENTROPY, *ppl)
        self.primary = "gen_ppl" if self._scorer else "tv2" if self.has_data else "entropy_bits"

    def prepare(self) -> None:
        """Reads the tokenizer and the data.

        Raises:
            ValueError, FileNotFoundError: either cannot be used; one line.
        """
        if self.data.tokenizer:
            _load_tokenizer(self.data)
        self.split("test")

    @functools.cached_property
    def _tokenizer(self) -> "Tokenizer":
        return _load_tokenizer(self.data)

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        return read_tokens(self.data.path, self.data)

    def split(self, part: str) -> np.ndarray:
        """Sequences (n, L), int32, in the file's order; none without a file.

        Raises:
            ValueError, FileNotFoundError: "train", which a published model has not, or an unusable file.
        """
        if part == "train":
            raise InputError(f"name={self.name!r}: no training split; a teacher of samples needs none")
        if part not in ("validation", "test"):
            raise InputError(f"part={part!r}: choose one of ('validation', 'test')")
        return self._rows[0::2] if part == "test" else self._rows[1::2]

    def batches(self, batch_size: int, seed: int) -> Iterator[np.ndarray]:
        """Raises ValueError: there is no training split."""
        raise InputError(f"name={self.name!r}: no training split, so nothing is trained on it")

    @functools.cached_property
    def _reference(self) -> dict[int, ngram.NGrams]:
        rows = self.split("test")
        return {order: ngram.ngram_distribution(rows, order, self.vocab_size) for order in _ORDERS if len(rows)}

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        entropy = ngram.unigram_entropy(tokens_NL, self.vocab_size)
        found = {"entropy_bits": mean_interval(entropy, seed, resamples)}
        found |= ngram_divergences(tokens_NL, self._reference, self.vocab_size, seed, resamples)
        if self._scorer:
            found["gen_ppl"] = perplexity_interval(self._scorer(tokens_NL), seed, resamples)
        return found

    def _condition(self, prompt: str, count: int) -> Condition:
        """A prompt as the first tokens of `count` rows, by the network's tokenizer.

        Raises:
            ValueError: no tokenizer, tokens outside the vocabulary, or more of them than a sequence has.
        """
        if not self.data.tokenizer:
            raise InputError(f"prompt={prompt!r}: a prompt needs data.tokenizer")
        ids = np.asarray(self._tokenizer.encode(prompt).ids, np.int32)
        if not 0 < len(ids) <= self.length:
            raise InputError(f"prompt={prompt!r}: has {len(ids)} tokens, a sequence {self.length}")
        if ids.max() >= self.vocab_size:
            raise InputError(f"prompt={prompt!r}: token {ids.max()} is outside the vocabulary of {self.vocab_size}")
        row = np.pad(ids, (0, self.length - len(ids)))
        fixed = np.arange(self.length) < len(ids)
        return Condition(np.tile(row, (count, 1)), np.tile(fixed, (count, 1)))

    def _decode(self, tokens_L: np.ndarray) -> str:
        if not self.data.tokenizer:
            return super()._decode(tokens_L)
        return self._tokenizer.decode(tokens_L.tolist(), skip_special_tokens=False).replace("\n", "\\n")

    def facts(self) -> dict[str, Any]:
        return {"scorer": self._scorer.identity} if self._scorer else {}


def _scorer_of(data: Data, judge: Judge | None) -> Scorer | Gpt2Scorer | None:
    """What gives gen-PPL: a network of our own, or GPT-2 where the judge names a protocol."""
    if not judge or not judge.scorer:
        return None
    if not judge.protocol:
        return load_scorer(judge.scorer, judge.batch_size, data.vocab_size)
    return load_gpt2_scorer(
        judge.scorer, judge.protocol, judge.batch_size, data.vocab_size, data.sequence_length, data.tokenizer
    )


def read_tokens(path: str, data: Data) -> np.ndarray:
    """Sequences (n, data.sequence_length), int32, cut without overlap from a .npy array of tokens or a UTF-8 text.

    An empty path gives none. A text is encoded by data.tokenizer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unreadable, tokens outside the vocabulary, or shorter than one sequence; one line.
    """
    length = data.sequence_length
    if not path:
        return np.zeros((0, length), np.int32)
    file = weights.resolve(path)
    if not file.is_file():
        file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"path={path!r}: no such file")
    try:
        found = np.load(file) if file.suffix == ".npy" else file.read_text("utf-8")
    except (ValueError, EOFError, OSError) as error:  # numpy's own words name no file
        reason = str(error).splitlines()[0]
        raise InputError(f"path={path!r}: neither UTF-8 text nor a .npy array of integers: {reason}") from None
    tokens = _encode(found, data) if isinstance(found, str) else found
    if not np.issubdtype(tokens.dtype, np.integer) or tokens.ndim not in (1, 2):
        raise InputError(f"path={path!r}: holds {tokens.dtype} {tokens.shape}, not integers (n,) or (n, length)")
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < data.vocab_size:
        wrong = tokens.min() if tokens.min() < 0 else tokens.max()
        raise InputError(f"path={path!r}: holds token {wrong}; vocab_size={data.vocab_size}")
    if tokens.shape[-1] < length:
        raise InputError(f"path={path!r}: holds {tokens.shape[-1]} tokens in a row, sequence_length={length}")
    whole = tokens.shape[-1] // length * length
    return tokens[..., :whole].reshape(-1, length).astype(np.int32)


def _encode(text: str, data: Data) -> np.ndarray:
    if not data.tokenizer:
        raise InputError("tokenizer='': a text needs the network's tokenizer")
    return np.asarray(_load_tokenizer(data).encode(text).ids, np.int32)


def _load_tokenizer(data: Data) -> "Tokenizer":
    from lsd_jax.models.pretrained.tokenizer import load_tokenizer

    return load_tokenizer(data.tokenizer, data.vocab_size, "tokenizer")
