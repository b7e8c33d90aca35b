"""Protein sequences of one length in the 20 amino acids: antibodies that ship with the package, or a file of the user's."""

import collections
import functools
import hashlib
import lzma
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from lsd_jax.errors import InputError
from lsd_jax.metrics import ngram, pseudo, spread
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.counts import count_events, count_intervals, divergences, ngram_divergences
from lsd_jax.metrics.gen_ppl import perplexity, perplexity_interval
from lsd_jax.metrics.metric import Column, Metrics
from lsd_jax.models.weights import SHIPPED
from lsd_jax.samplers.kernel import Condition
from lsd_jax.tasks.task import Data, Judge, Task

if TYPE_CHECKING:
    from lsd_jax.tasks.builder import Source

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
CORPUS = SHIPPED / "corpus" / "heavy_chains.txt.xz"
_ORDERS = (1, 2, 3)
_LEAST = 30  # sequences in all: ten in each split


class Proteins(Task):
    """Sequences of amino acids; a file is FASTA or has one sequence per line.

    `tv{n}`, `js{n}` (divergences of n-grams from the test split; n = 1 is the composition), `position_tv`, `position_js` (the
    same of amino acids by position), `entropy_bits`, `diversity`, `distinct`; with a scorer `pseudo_ppl`.
    """

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        if self.vocab_size != len(LETTERS):
            raise InputError(f"vocab_size={self.vocab_size}: {self.name} has {len(LETTERS)} amino acids")
        if judge and judge.protocol:
            raise InputError(f"protocol={judge.protocol!r}: GPT-2 does not read amino acids; leave it empty")
        self._scorer = pseudo.load_masked_scorer(judge.scorer, judge.batch_size) if judge and judge.scorer else None
        self._orders = [n for n in _ORDERS if n <= self.length]
        judged = (pseudo.PSEUDO_PPL,) if self._scorer else ()
        self.columns = (*ngram.ngram_columns(self._orders), *_POSITION, *judged, *spread.COLUMNS, ngram.ENTROPY)
        self.primary = "position_js"

    @property
    def best(self) -> Mapping[str, float]:
        """0 of a divergence, and the test split's own value of the rest."""
        return {**super().best, **self._reference["best"]}

    def source(self) -> "Source":
        from lsd_jax.tasks.builder import Source

        path, length = self.data.path, self.length
        digest = hashlib.sha256(_file(path).read_bytes()).hexdigest()[:12]
        variant = f"{_file(path).name.split('.')[0]}_{digest}_{length}"
        return Source("proteins", variant, length, self.vocab_size, lambda: _splits(read_sequences(path, length)))

    @functools.cached_property
    def _reference(self) -> dict[str, Any]:
        rows = self.split("test")
        found: dict[str, Any] = {n: ngram.ngram_distribution(rows, n, self.vocab_size) for n in self._orders}
        found["position"] = ngram.ngram_distribution(self._by_position(rows), 1, self.vocab_size * self.length)
        chosen = rows[: (self.judge or Judge()).references or None]
        found["best"] = {name: float(values.mean()) for name, values in self._properties(chosen).items()}
        if self._scorer:
            found["best"]["pseudo_ppl"] = perplexity(self._scorer(chosen))
        return found

    def _by_position(self, tokens_NL: np.ndarray) -> np.ndarray:
        """Amino acids (N, L) as events that also say where they are."""
        return np.arange(self.length)[None] * self.vocab_size + tokens_NL

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        references = {n: self._reference[n] for n in self._orders}
        found = ngram_divergences(tokens_NL, references, self.vocab_size, seed, resamples)
        counted = count_events(self._by_position(tokens_NL))
        statistics = divergences(counted, self._reference["position"])
        statistics = {f"position_{name}": statistic for name, statistic in statistics.items()}
        found |= count_intervals(counted, statistics, seed, resamples)
        if self._scorer:
            found["pseudo_ppl"] = perplexity_interval(self._scorer(tokens_NL), seed, resamples)
        for name, values in self._properties(tokens_NL).items():
            found[name] = mean_interval(values, seed, resamples)
        return found

    def _properties(self, tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
        """What has no best value but the data's own, one number per sequence."""
        return {
            "entropy_bits": ngram.unigram_entropy(tokens_NL, self.vocab_size),
            "diversity": spread.distance_to_others(tokens_NL, self.vocab_size),
            "distinct": spread.first_of_its_kind(tokens_NL),
        }

    def _condition(self, prompt: str, count: int) -> Condition:
        """A prompt of letters, "_" where any amino acid may stand.

        Raises:
            ValueError: another letter, or more of them than a sequence has.
        """
        if len(prompt) > self.length:
            raise InputError(f"prompt={prompt!r}: it has {len(prompt)} letters, a sequence {self.length}")
        if wrong := sorted(set(prompt) - set(LETTERS + "_")):
            raise InputError(f"prompt={prompt!r}: it holds {''.join(wrong)!r}; it may hold {LETTERS} and '_'")
        padded = prompt.ljust(self.length, "_")
        fixed = np.array([letter != "_" for letter in padded])
        tokens = np.array([max(LETTERS.find(letter), 0) for letter in padded], np.int32)
        return Condition(np.tile(tokens, (count, 1)), np.tile(fixed, (count, 1)))

    def _decode(self, tokens_L: np.ndarray) -> str:
        return "".join((LETTERS + "_")[token] for token in tokens_L)

    def facts(self) -> dict[str, Any]:
        return {"scorer": self._scorer.identity} if self._scorer else {}


_POSITION = (
    Column("position_tv", "TV of amino acids by position", short="position TV", best=0.0),
    Column("position_js", "JS of amino acids by position, bits", short="position JS", best=0.0),
)


def _file(path: str) -> pathlib.Path:
    """The shipped sequences, or the user's file.

    Raises:
        FileNotFoundError: no such file.
    """
    file = pathlib.Path(path).expanduser() if path else CORPUS
    if not file.is_file():
        raise FileNotFoundError(f"path={str(file)!r}: no such file")
    return file


def read_sequences(path: str, length: int) -> np.ndarray:
    """The sequences (n, length), uint8, of a file that have this length; others are counted and left out.

    Args:
        path: FASTA, or one sequence per line, UTF-8, plain or .xz; empty: the sequences that ship.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not text, or too few sequences of this length.
    """
    file = _file(path)
    raw = file.read_bytes()
    try:
        text = (lzma.decompress(raw) if file.suffix == ".xz" else raw).decode("utf-8")
    except (UnicodeDecodeError, lzma.LZMAError) as error:
        raise InputError(f"path={str(file)!r}: not readable text: {error}") from None
    found = _fasta(text) if text.lstrip().startswith(">") else text.split("\n")
    found = [sequence.strip().upper() for sequence in found if sequence.strip()]
    known = [sequence for sequence in found if not set(sequence) - set(LETTERS)]
    if len(known) < len(found):
        bad = next(sequence for sequence in found if set(sequence) - set(LETTERS))
        wrong = "".join(sorted(set(bad) - set(LETTERS)))
        logging.warning(
            "%s: %d sequences with other letters than the 20 amino acids are left out, the first for %r",
            file,
            len(found) - len(known),
            wrong,
        )
    lengths = collections.Counter(map(len, known))
    if lengths[length] < _LEAST:
        common = ", ".join(f"{count} of {size}" for size, count in lengths.most_common(3)) or "none of any"
        raise InputError(
            f"path={str(file)!r}: holds {lengths[length]} sequences of sequence_length={length} amino acids, and {_LEAST} are "
            f"needed; it has {common}"
        )
    if others := len(known) - lengths[length]:
        logging.info("%s: %d sequences of other lengths than %d are left out", file, others, length)
    rows = [[LETTERS.index(letter) for letter in sequence] for sequence in known if len(sequence) == length]
    return np.asarray(rows, np.uint8)


def _fasta(text: str) -> list[str]:
    """The sequences of a FASTA text, whose lines are joined."""
    return ["".join(entry.split("\n")[1:]) for entry in text.lstrip()[1:].split("\n>")]


def _splits(rows_NL: np.ndarray) -> dict[str, np.ndarray]:
    """Of every ten sequences eight are for training, one for validation and one for the test, in a fixed shuffled order."""
    place = np.random.default_rng(0).permutation(len(rows_NL)) % 10
    return {"train": rows_NL[place < 8], "validation": rows_NL[place == 8], "test": rows_NL[place == 9]}
