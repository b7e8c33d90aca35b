"""Molecules as SMILES strings (`smiles`), padded to the sequence's length by the last token of the vocabulary.

Masks never touch pads: a sampler draws the length first (`Absorbing.lengths`). Under uniform noise a pad is a token as any other, which
a reader leaves out wherever it stands.
"""

import functools
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from absl import logging

from lsd_jax.errors import InputError
from lsd_jax.metrics.metric import Metrics
from lsd_jax.metrics.molecules import chemistry, filters, properties, stored, table
from lsd_jax.metrics.molecules.reference import Reference
from lsd_jax.models import chemnet
from lsd_jax.processes.process import token_dtype
from lsd_jax.samplers.kernel import Condition
from lsd_jax.tasks.smiles import VOCABULARIES, cache_name, moses, read_splits, tokenize, unclosed, vocabulary_of
from lsd_jax.tasks.task import Data, Judge, Task

if TYPE_CHECKING:
    from lsd_jax.tasks.builder import Source

PAD = "<pad>"
NAMED = re.compile(r"(logp|qed)\s*=", re.IGNORECASE)  # a prompt that asks for a property, whatever the task
_BLOCK = 1024  # molecules per record
_FEW = 2000  # fewer references than this are told


class Molecules(Task):
    """SMILES strings; `Data.path` is "moses" (also what an empty one means), "qm9", or a file with one SMILES per line.

    The vocabulary of a file is its own tokens. `vocab_size` may also be that of QM9 or MOSES (31, 25): the file then has the tokens, in
    the order, of the network that ships for the set, and molecules with others are counted, named and left out. Salts, charges,
    isotopes and stereo stay as they are.

    The field's metrics (Polykovskiy et al. 2020, arXiv 1811.12823) against the test split, and against MOSES' split of unseen
    scaffolds: lsd_jax/metrics/molecules/table.py. FCD where its network is installed, Filters where MOSES is.

    Another writing of molecules is a subclass with `vocabularies`, `cut` and `_text` of its own.

    Attributes:
        vocabularies: the tokens of published sets.
        cut: SMILES -> tokens.
        label: the property that the labels are bins of, as a prompt names it.
    """

    vocabularies: ClassVar[Mapping[str, tuple[str, ...]]] = VOCABULARIES
    cut: ClassVar[Callable[[str], list[str]]] = staticmethod(tokenize)
    label: ClassVar[str] = ""

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        self._set = data.path or "moses"
        written = vocabulary_of(self._set, self.vocab_size, self.vocabularies, self.cut, len(self.labels) + 1)
        self.vocabulary = (*written, *self.labels, PAD)
        if self.vocab_size != len(self.vocabulary):
            raise InputError(
                f"vocab_size={self.vocab_size}: {self._set} has {len(self.vocabulary)} tokens, the pad included"
            )
        if judge and (judge.scorer or judge.protocol):
            raise InputError(f"scorer={judge.scorer!r}: molecules are judged by chemistry; leave it empty")
        self.has_fcd = judge is not None and _installed(chemnet.weights_file)
        self.has_filters = judge is not None and _installed(filters.load)
        self._index = {token: index for index, token in enumerate(self.vocabulary)}
        self.columns = table.columns(self.has_fcd, self.has_filters, self._set == "moses")
        self.primary = "fcd" if self.has_fcd else "valid"

    @classmethod
    def padded(cls, data: Data) -> bool:
        del data
        return True

    def source(self) -> "Source":
        from lsd_jax.tasks.builder import Source

        variant = f"{cache_name(self._set)}_{self.length}"
        if self._set not in VOCABULARIES:  # the same file may be read in its own tokens or in those of a published set
            variant += f"_{zlib.crc32(' '.join(self.vocabulary).encode()):08x}"
        return Source(self.name, variant, self.length, self.vocab_size, self._splits, _BLOCK)

    def _splits(self) -> dict[str, np.ndarray]:
        return {part: self.encode(smiles, f"{self._set}, {part}") for part, smiles in read_splits(self._set).items()}

    def encode(self, smiles: Iterable[str], named: str = "smiles") -> np.ndarray:
        """Tokens (n, L) of molecules given as SMILES, padded; what is too long or has unknown tokens is counted and left out.

        Raises:
            ValueError: none is left.
        """
        rows, long, unknown = [], 0, Counter()
        for tokens in map(self._tokens, smiles):
            if len(tokens) > self.length:
                long += 1
            elif wrong := [token for token in tokens or [""] if token not in self._index]:
                unknown[wrong[0] or "no such writing"] += 1
            else:
                row = np.full(self.length, self.vocab_size - 1, token_dtype(self.vocab_size))
                row[: len(tokens)] = [self._index[token] for token in tokens]
                rows.append(row)
        if long or unknown:
            first = ", ".join(f"{token} {count}" for token, count in unknown.most_common(5))
            logging.warning(
                "%s: left out are %d molecules of more than sequence_length=%d tokens, and %d that the vocabulary cannot write%s",
                *(named, long, self.length, unknown.total(), f": {first}" if first else ""),
            )
        if not rows:
            raise InputError(f"path={named!r}: no molecule fits sequence_length={self.length} and the vocabulary")
        return np.stack(rows)

    def _tokens(self, smiles: str) -> list[str]:
        """The tokens of a molecule's sequence; none where it cannot be written."""
        return self.cut(smiles)

    @functools.cached_property
    def lengths(self) -> tuple[float, ...]:
        """The shares of lengths 0, 1, ..., L in the training split."""
        return _lengths(type(self), self.data)

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        return table.measure(
            [self.decode(row) for row in tokens_NL],
            self.references,
            self.training,
            fcd=self.has_fcd,
            filters=self.has_filters,
            seed=seed,
            resamples=resamples,
        )

    @functools.cached_property
    def references(self) -> Mapping[str, Reference]:
        """What samples are held against: "test", and of MOSES "scaffolds".

        All molecules of MOSES have the statistics that come with it; others are worked out once and kept in the cache.
        """
        from lsd_jax.tasks.builder import cache_dir

        count = (self.judge or Judge()).references
        if self._set == "moses" and not count:
            return {"test": stored.reference("test"), "scaffolds": stored.reference("test_scaffolds")}
        sets = {"test": self._smiles("test")}
        if self._set == "moses":
            sets["scaffolds"] = moses("test_scaffolds")
        sets = {name: _some(smiles, count) for name, smiles in sets.items()}
        if few := [f"{name} of {len(smiles)}" for name, smiles in sets.items() if len(smiles) < _FEW]:
            logging.warning(
                "few molecules to hold samples against, %s: SNN, Frag, Scaf and FCD compare rows with each other, and with no published one",
                ", ".join(few),
            )
        folder = cache_dir() / "molecules"
        return {name: Reference.of(smiles, folder, self.has_fcd, self.has_filters) for name, smiles in sets.items()}

    def facts(self) -> dict[str, Any]:
        """Also "references", the number of molecules of each kind, where not all of the test split are."""
        count = (self.judge or Judge()).references
        return {**super().facts(), "references": count} if count else super().facts()

    @functools.cached_property
    def training(self) -> frozenset[str]:
        """The SMILES of the training split."""
        return frozenset(self._smiles("train"))

    def _smiles(self, part: str) -> list[str]:
        return [self.decode(row) for row in self.split(part)]

    def _condition(self, prompt: str, count: int) -> Condition:
        """A molecule's writing in which "_" is a free token; the molecules have as many tokens as it has, under uniform noise at most.

        Raises:
            ValueError: unknown tokens, more than a sequence has, nothing free, or what no molecule has.
        """
        if asked := NAMED.match(prompt):
            raise InputError(
                f"prompt={prompt!r}: {self.name} cannot be asked for {asked[1]}; molecules_logp and molecules_qed can be"
            )
        return self._given(tokenize(prompt), prompt, count)

    def _given(self, tokens: list[str], prompt: str, count: int, before: tuple[str, ...] = ()) -> Condition:
        """The condition that gives a writing, and tokens `before` it."""
        length, known = self.length - len(before), self.vocabulary[: self.vocab_size - 1 - len(self.labels)]
        if len(tokens) > length:
            raise InputError(f"prompt={prompt!r}: it has {len(tokens)} tokens, a sequence {length}")
        if wrong := sorted(set(tokens) - set(known) - {"_"}):
            hint = f", and a value before it, {self.label}=NUMBER" if self.labels else ""
            raise InputError(f"prompt={prompt!r}: {wrong[0]!r} is no token; it may hold {' '.join(known)} and _{hint}")
        if "_" not in tokens:
            raise InputError(f"prompt={prompt!r}: nothing is free; write _ for every token that is to be filled in")
        if wrong := self._unclosed(tokens):
            raise InputError(f"prompt={prompt!r}: {wrong}, whatever is filled in for _")
        tokens = [*before, *tokens]
        row = np.full(self.length, self.vocab_size - 1, np.int32)
        row[: len(tokens)] = [self._index.get(token, 0) for token in tokens]
        fixed = np.array([*(token != "_" for token in tokens), *[True] * (self.length - len(tokens))])
        return Condition(np.tile(row, (count, 1)), np.tile(fixed, (count, 1)))

    def _unclosed(self, tokens: list[str]) -> str:
        """Why no molecule has these tokens; empty where one may."""
        return unclosed(tokens)

    def remark(self, tokens_NL: np.ndarray) -> str:
        if not chemistry.installed():
            return ""
        valid = sum(map(bool, chemistry.canonical([self.decode(row) for row in tokens_NL])))
        return f"{valid} of {len(tokens_NL)} are valid molecules"

    def token_name(self, token: int) -> str:
        return self.vocabulary[token] if token < self.vocab_size - 1 else ""

    def images(self, tokens_NL: np.ndarray) -> np.ndarray | None:
        """Drawings (n, height, width, 3), uint8; None where RDKit is not installed."""
        if not chemistry.installed():
            return None
        return np.stack([chemistry.picture(self.decode(row)) for row in tokens_NL])

    def drawing(self, tokens_NL: np.ndarray) -> str:
        """A grid of drawings; empty where RDKit is not installed."""
        return chemistry.drawing([self.decode(row) for row in tokens_NL]) if chemistry.installed() else ""

    def properties(self, tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
        """logP, synthetic accessibility, QED and weight of the valid molecules; {} where RDKit is not installed or none is valid."""
        if not chemistry.installed():
            return {}
        return properties.of_strings([self.decode(row) for row in tokens_NL])

    def _decode(self, tokens_L: np.ndarray) -> str:
        names = (*self.vocabulary[:-1], "", "_")
        return self._text([names[token] for token in tokens_L])

    def _text(self, tokens: list[str]) -> str:
        """What a person reads, and a metric: SMILES."""
        return "".join(tokens)


def _installed(find: Callable[[], Any]) -> bool:
    """Whether what a metric needs is there; what gets it is logged where it is not."""
    try:
        find()
        return True
    except FileNotFoundError as error:
        logging.warning("a metric is left out: %s", error)
        return False


def _some(smiles: Sequence[str], count: int) -> Sequence[str]:
    """The first `count` of them in a fixed shuffled order; all of them where `count` is 0."""
    if not count or count >= len(smiles):
        return smiles
    return [smiles[index] for index in np.random.default_rng(0).permutation(len(smiles))[:count]]


@functools.lru_cache(maxsize=4)
def _lengths(kind: type[Molecules], data: Data) -> tuple[float, ...]:
    """Kept by data, so that a task that is made again does not read the split again."""
    task = kind(data)
    length_N = (task.split("train") != task.vocab_size - 1).sum(1)
    count = (
        np.bincount(length_N, minlength=task.length + 1) + 0.5
    )  # a length that training has not seen is not impossible
    count[: 2 if kind.labels else 1] = 0.0  # no sequence is a label alone
    return tuple((count / count.sum()).tolist())
