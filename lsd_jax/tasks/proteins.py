"""Protein sequences in the 20 amino acids: antibodies of one length that ship with the package, or a file of the user's.

A vocabulary of 20 is for sequences of one length, those of a file that have it. One of 21 has a pad, for sequences of any lengths up
to `sequence_length`: a sampler then draws the length first, from the training split's shares (`Absorbing.lengths`).
"""

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
from lsd_jax.metrics import cdr3, ngram, pseudo, spread
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.counts import count_events, count_intervals, divergences, ngram_divergences
from lsd_jax.metrics.gen_ppl import perplexity, perplexity_interval
from lsd_jax.metrics.metric import Column, Metrics
from lsd_jax.metrics.wasserstein import wasserstein_interval
from lsd_jax.models.weights import SHIPPED
from lsd_jax.samplers.kernel import Condition
from lsd_jax.tasks.task import Data, Judge, Task

if TYPE_CHECKING:
    from lsd_jax.tasks.builder import Source

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
PAD = len(LETTERS)  # of a vocabulary of 21
CORPUS = SHIPPED / "corpus" / "heavy_chains.txt.xz"
_ORDERS = (1, 2, 3)
_LEAST = 30  # sequences in all: ten in each split


class Proteins(Task):
    """Sequences of amino acids; a file is FASTA or has one sequence per line.

    `tv{n}`, `js{n}` (divergences of n-grams from the test split; n = 1 is the composition), `position_tv`, `position_js` (the
    same of amino acids by position), `entropy_bits`, `diversity`, `distinct`; of antibodies `cdr3`, `cdr3_length_w1`; of sequences of
    several lengths `length_w1`; with a scorer `pseudo_ppl`.
    """

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        if self.vocab_size not in (len(LETTERS), len(LETTERS) + 1):
            raise InputError(
                f"vocab_size={self.vocab_size}: {self.name} has 20 amino acids; 21 are they and a pad, for sequences of several lengths"
            )
        if judge and judge.protocol:
            raise InputError(f"protocol={judge.protocol!r}: GPT-2 does not read amino acids; leave it empty")
        self._pad = PAD if self.padded(data) else None
        self._scorer = None
        if judge and judge.scorer:
            self._scorer = pseudo.load_masked_scorer(judge.scorer, judge.batch_size, self.length, self.padded(data))
        self._orders = [n for n in _ORDERS if n <= self.length]
        own = (*_POSITION, *([_LENGTH] if self.padded(data) else ()), *cdr3.COLUMNS)
        judged = (pseudo.PSEUDO_PPL,) if self._scorer else ()
        self.columns = (*ngram.ngram_columns(self._orders), *own, *judged, *spread.COLUMNS, ngram.ENTROPY)
        self.primary = "position_js"

    @classmethod
    def padded(cls, data: Data) -> bool:
        return data.vocab_size == PAD + 1

    @functools.cached_property
    def lengths(self) -> tuple[float, ...]:
        """The shares of lengths 0, 1, ..., L in the training split, where there are several."""
        return _lengths(self.data) if self.padded(self.data) else ()

    @property
    def best(self) -> Mapping[str, float]:
        """0 of a divergence, and the test split's own value of the rest."""
        return {**super().best, **self._reference["best"]}

    def source(self) -> "Source":
        from lsd_jax.tasks.builder import Source

        path, length, padded = self.data.path, self.length, self.padded(self.data)
        digest = hashlib.sha256(_file(path).read_bytes()).hexdigest()[:12]
        variant = f"{_file(path).name.split('.')[0]}_{digest}_{length}{'_padded' * padded}"
        return Source(
            "proteins", variant, length, self.vocab_size, lambda: _splits(read_sequences(path, length, padded))
        )

    @functools.cached_property
    def _reference(self) -> dict[str, Any]:
        rows = self.split("test")
        found: dict[str, Any] = {n: ngram.ngram_distribution(rows, n, self.vocab_size, self._pad) for n in self._orders}
        found["position"] = ngram.ngram_distribution(self._by_position(rows), 1, self.vocab_size * self.length)
        found["length"], found["cdr3"] = self._length(rows), self._loops(rows)
        chosen = rows[: (self.judge or Judge()).references or None]
        found["best"] = {name: float(values.mean()) for name, values in self._properties(chosen).items()}
        found["best"] |= {name: own[0] for name, own in cdr3.measure(*[found["cdr3"]] * 2, 0, 0).items()}
        if self._scorer:
            found["best"]["pseudo_ppl"] = perplexity(self._scorer(chosen))
        return found

    def _by_position(self, tokens_NL: np.ndarray) -> np.ndarray:
        """Amino acids (N, L) as events that also say where they are; a pad is one too, so that they know the length."""
        return np.arange(self.length)[None] * self.vocab_size + tokens_NL

    def _length(self, tokens_NL: np.ndarray) -> np.ndarray:
        return (tokens_NL < PAD).sum(1)

    def _loops(self, tokens_NL: np.ndarray) -> np.ndarray:
        return cdr3.loop_lengths(map(self._decode, tokens_NL))

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        references = {n: self._reference[n] for n in self._orders}
        found = ngram_divergences(tokens_NL, references, self.vocab_size, seed, resamples, self._pad)
        counted = count_events(self._by_position(tokens_NL))
        statistics = divergences(counted, self._reference["position"])
        statistics = {f"position_{name}": statistic for name, statistic in statistics.items()}
        found |= count_intervals(counted, statistics, seed, resamples)
        found |= cdr3.measure(self._loops(tokens_NL), self._reference["cdr3"], seed, resamples)
        if self._pad is not None:
            length_N = self._length(tokens_NL)
            found["length_w1"] = wasserstein_interval(length_N, self._reference["length"], seed, resamples)
        if self._scorer:
            found["pseudo_ppl"] = perplexity_interval(self._scorer(tokens_NL), seed, resamples)
        for name, values in self._properties(tokens_NL).items():
            found[name] = mean_interval(values, seed, resamples)
        return found

    def _properties(self, tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
        """What has no best value but the data's own, one number per sequence."""
        return {
            "entropy_bits": ngram.unigram_entropy(tokens_NL, self.vocab_size, self._pad),
            "diversity": spread.distance_to_others(tokens_NL, self.vocab_size),
            "distinct": spread.first_of_its_kind(tokens_NL),
        }

    def _condition(self, prompt: str, count: int) -> Condition:
        """A prompt of letters, "_" where any amino acid may stand. Where sequences have several lengths, they have the prompt's.

        Raises:
            ValueError: another letter, more of them than a sequence has, or nothing free.
        """
        if len(prompt) > self.length:
            raise InputError(f"prompt={prompt!r}: it has {len(prompt)} letters, a sequence {self.length}")
        if wrong := sorted(set(prompt) - set(LETTERS + "_")):
            raise InputError(f"prompt={prompt!r}: it holds {''.join(wrong)!r}; it may hold {LETTERS} and '_'")
        whole = prompt if self.padded(self.data) else prompt.ljust(self.length, "_")
        if "_" not in whole:
            raise InputError(
                f"prompt={prompt!r}: nothing is free; write _ for every amino acid that is to be filled in"
            )
        tokens, fixed = np.full(self.length, PAD, np.int32), np.ones(self.length, bool)
        tokens[: len(whole)] = [max(LETTERS.find(letter), 0) for letter in whole]
        fixed[: len(whole)] = [letter != "_" for letter in whole]
        return Condition(np.tile(tokens, (count, 1)), np.tile(fixed, (count, 1)))

    def _decode(self, tokens_L: np.ndarray) -> str:
        names = (*LETTERS, *([""] if self.padded(self.data) else ()), "_")
        return "".join(names[token] for token in tokens_L)

    def facts(self) -> dict[str, Any]:
        return {"scorer": self._scorer.identity} if self._scorer else {}


_LENGTH = Column("length_w1", "length, Wasserstein-1, amino acids", "{:.2f}", "length W1", 0.0)
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


@functools.lru_cache(maxsize=4)
def _lengths(data: Data) -> tuple[float, ...]:
    length_N = (Proteins(data).split("train") < PAD).sum(1)
    # A length that training has not seen is not impossible: all of them together are as one more sequence.
    count = np.bincount(length_N, minlength=data.sequence_length + 1) + 1 / data.sequence_length
    count[0] = 0.0
    return tuple((count / count.sum()).tolist())


def read_sequences(path: str, length: int, padded: bool = False) -> np.ndarray:
    """The sequences (n, length), uint8, of a file that have this length, or at most this; others are counted and left out.

    Args:
        path: FASTA, or one sequence per line, UTF-8, plain or .xz; empty: the sequences that ship.
        length: amino acids.
        padded: whether shorter sequences are taken too; PAD follows them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not text, or too few such sequences.
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
    chosen = [sequence for sequence in known if len(sequence) == length or (padded and len(sequence) < length)]
    if len(chosen) < _LEAST:
        lengths = collections.Counter(map(len, known))
        common = ", ".join(f"{count} of {size}" for size, count in lengths.most_common(3)) or "none of any"
        raise InputError(
            f"path={str(file)!r}: holds {len(chosen)} sequences of {'at most ' * padded}sequence_length={length} amino acids, and "
            f"{_LEAST} are needed; it has {common}{'' if padded else '; vocab_size=21 takes shorter ones too'}"
        )
    if others := len(known) - len(chosen):
        more = "" if padded else "; vocab_size=21 takes the shorter ones too"
        logging.warning(
            "%s: %d sequences %s than %d are left out%s",
            file,
            others,
            "longer" if padded else "of other lengths",
            length,
            more,
        )
    rows = np.full((len(chosen), length), PAD, np.uint8)
    for row, sequence in zip(rows, chosen):
        row[: len(sequence)] = [LETTERS.index(letter) for letter in sequence]
    return rows


def _fasta(text: str) -> list[str]:
    """The sequences of a FASTA text, whose lines are joined."""
    return ["".join(entry.split("\n")[1:]) for entry in text.lstrip()[1:].split("\n>")]


def _splits(rows_NL: np.ndarray) -> dict[str, np.ndarray]:
    """Of every ten sequences eight are for training, one for validation and one for the test, in a fixed shuffled order."""
    place = np.random.default_rng(0).permutation(len(rows_NL)) % 10
    return {"train": rows_NL[place < 8], "validation": rows_NL[place == 8], "test": rows_NL[place == 9]}
