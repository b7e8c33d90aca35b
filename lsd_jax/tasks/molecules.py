"""Molecules as SMILES strings: MOSES and QM9 from wheels that are only read, or a file of the user's.

A string is cut into atoms, bonds, brackets and digits; the last token of the vocabulary pads it to the sequence's length. Pads
are never noised: a sampler draws the length first (`Absorbing.lengths`).
"""

import csv
import functools
import gzip
import hashlib
import importlib.metadata
import pathlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import logging

from lsd_jax.errors import InputError
from lsd_jax.metrics.metric import Metrics
from lsd_jax.metrics.molecules import chemistry, filters, properties, stored, table
from lsd_jax.metrics.molecules.reference import Reference
from lsd_jax.models import chemnet
from lsd_jax.processes.process import token_dtype
from lsd_jax.samplers.kernel import Condition
from lsd_jax.tasks.task import Data, Judge, Task

if TYPE_CHECKING:
    from lsd_jax.tasks.builder import Source

PAD = "<pad>"
# The tokens of the two published sets, by their characters' codes; a file of the user's gives its own.
VOCABULARIES = {
    "moses": tuple("# ( ) - 1 2 3 4 5 6 = Br C Cl F N O S [H] [nH] c n o s".split()),
    "qm9": tuple(
        "# ( ) - 1 2 3 4 5 = C F N O [C-] [CH-] [N+] [N-] [NH+] [NH2+] [NH3+] [O-] [c-] [cH-] [n-] [nH+] [nH] c n o".split()
    ),
}
_TOKEN = re.compile(r"\[[^\]]+\]|Br|Cl|%\d\d|.")
_COMMANDS = {"moses": "pip install --no-deps molsets==0.3.1", "qm9": "pip install --no-deps qm9pack==1.0.3"}
_FOLDERS = {"moses": ("molsets", "moses/dataset/data"), "qm9": ("qm9pack", "qm9pack/data")}
_VALIDATION = 4096  # molecules of MOSES' training split that training never sees, of QM9 and a file as many, or a tenth
_LEAST = 100  # molecules in a file
_BLOCK = 1024  # molecules per record


def tokenize(smiles: str) -> list[str]:
    """The tokens of a SMILES string: a bracket atom, Br, Cl and %nn are one each, all else a character."""
    return _TOKEN.findall(smiles)


class Molecules(Task):
    """SMILES strings; `Data.path` is "moses" (also what an empty one means), "qm9", or a file with one SMILES per line.

    The vocabulary of a file is its own tokens. Where those are among QM9's or MOSES', `vocab_size` may also be that set's (31, 25):
    the file then has the tokens, in the order, of the network that ships for the set.

    The field's metrics (Polykovskiy et al. 2020, arXiv 1811.12823) against the test split, and against MOSES' split of unseen
    scaffolds: lsd_jax/metrics/molecules/table.py. FCD where its network is installed, Filters where MOSES is.
    """

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        self._set = data.path or "moses"
        self.vocabulary = (*_vocabulary(self._set, self.vocab_size), PAD)
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

        variant = f"{_named(self._set)}_{self.length}"
        return Source("molecules", variant, self.length, self.vocab_size, self._splits, _BLOCK)

    def _splits(self) -> dict[str, np.ndarray]:
        return {part: self.encode(smiles, self._set) for part, smiles in read_splits(self._set).items()}

    def encode(self, smiles: Iterable[str], named: str = "smiles") -> np.ndarray:
        """Tokens (n, L) of SMILES strings, padded; those that are too long or have unknown tokens are counted and left out.

        Raises:
            ValueError: none is left.
        """
        rows, long, unknown = [], 0, Counter()
        for tokens in map(tokenize, smiles):
            if len(tokens) > self.length:
                long += 1
            elif wrong := [token for token in tokens if token not in self._index]:
                unknown[wrong[0]] += 1
            else:
                row = np.full(self.length, self.vocab_size - 1, token_dtype(self.vocab_size))
                row[: len(tokens)] = [self._index[token] for token in tokens]
                rows.append(row)
        if long or unknown:
            logging.warning(
                "%s: left out are %d molecules of more than sequence_length=%d tokens, and %d with tokens that are not in the "
                "vocabulary %s",
                *(named, long, self.length, unknown.total(), dict(unknown.most_common(5))),
            )
        if not rows:
            raise InputError(f"path={named!r}: no molecule fits sequence_length={self.length} and the vocabulary")
        return np.stack(rows)

    @functools.cached_property
    def lengths(self) -> tuple[float, ...]:
        """The shares of lengths 0, 1, ..., L in the training split."""
        return _lengths(self.data)

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
            sets["scaffolds"] = _moses("test_scaffolds")
        folder = cache_dir() / "molecules"
        return {
            name: Reference.of(_some(smiles, count), folder, self.has_fcd, self.has_filters)
            for name, smiles in sets.items()
        }

    @functools.cached_property
    def training(self) -> frozenset[str]:
        """The SMILES of the training split."""
        return frozenset(self._smiles("train"))

    def _smiles(self, part: str) -> list[str]:
        return [self.decode(row) for row in self.split(part)]

    def _condition(self, prompt: str, count: int) -> Condition:
        """A SMILES string in which "_" is a free token; the molecules have as many tokens as it has.

        Raises:
            ValueError: unknown tokens, more than a sequence has, or nothing free.
        """
        tokens = tokenize(prompt)
        if len(tokens) > self.length:
            raise InputError(f"prompt={prompt!r}: it has {len(tokens)} tokens, a sequence {self.length}")
        if wrong := sorted(set(tokens) - set(self.vocabulary[:-1]) - {"_"}):
            raise InputError(
                f"prompt={prompt!r}: {wrong[0]!r} is no token; it may hold {' '.join(self.vocabulary[:-1])} and _"
            )
        if "_" not in tokens:
            raise InputError(f"prompt={prompt!r}: nothing is free; write _ for every token that is to be filled in")
        row = np.full(self.length, self.vocab_size - 1, np.int32)
        row[: len(tokens)] = [self._index.get(token, 0) for token in tokens]
        fixed = np.array([*(token != "_" for token in tokens), *[True] * (self.length - len(tokens))])
        return Condition(np.tile(row, (count, 1)), np.tile(fixed, (count, 1)))

    def images(self, tokens_NL: np.ndarray) -> np.ndarray | None:
        """Drawings (n, height, width, 3), uint8; None where RDKit is not installed."""
        if not chemistry.installed():
            return None
        return np.stack([chemistry.picture(self.decode(row)) for row in tokens_NL])

    def properties(self, tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
        """logP, synthetic accessibility, QED and weight of the valid molecules; {} where RDKit is not installed or none is valid."""
        if not chemistry.installed():
            return {}
        return properties.of_strings([self.decode(row) for row in tokens_NL])

    def _decode(self, tokens_L: np.ndarray) -> str:
        names = (*self.vocabulary[:-1], "", "_")
        return "".join(names[token] for token in tokens_L)


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
def _lengths(data: Data) -> tuple[float, ...]:
    task = Molecules(data)
    length_N = (task.split("train") != task.vocab_size - 1).sum(1)
    count = (
        np.bincount(length_N, minlength=task.length + 1) + 0.5
    )  # a length that training has not seen is not impossible
    count[0] = 0.0
    return tuple((count / count.sum()).tolist())


@functools.lru_cache(maxsize=4)
def _vocabulary(name: str, size: int) -> tuple[str, ...]:
    """The tokens of a set without the pad, sorted; those of a published set of so many where they hold all that a file has."""
    if name in VOCABULARIES:
        return VOCABULARIES[name]
    own = set().union(*(tokenize(smiles) for smiles in read_file(name)))
    for known in VOCABULARIES.values():
        if size == len(known) + 1 and own < set(known):
            return known
    return tuple(sorted(own))


def _named(name: str) -> str:
    """What names a set in the cache."""
    if name in VOCABULARIES:
        return name
    file = pathlib.Path(name).expanduser()
    return f"{file.name.split('.')[0]}_{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


def read_splits(name: str) -> dict[str, list[str]]:
    """SMILES strings of "train", "validation" and "test".

    MOSES: as published, but for the validation molecules, which are taken out of the training split. QM9: canonical, each once,
    shuffled. A file: canonical, each once, one tenth each for validation and test.

    Raises:
        FileNotFoundError: a wheel or the file is not there; the message has the command.
    """
    if name == "moses":
        train, test = _moses("train"), _moses("test")
    elif name == "qm9":
        train = sorted(set(filter(None, chemistry.canonical(_qm9()))))
    else:
        train = sorted(set(read_file(name)))
    order = np.random.default_rng(0).permutation(len(train))
    kept = min(_VALIDATION, len(train) // 10)
    parts = {"validation": order[:kept], "train": order[kept:]}
    if name != "moses":
        tested = min(10_000, len(train) // 10)
        parts |= {"test": order[kept : kept + tested], "train": order[kept + tested :]}
    found = {part: [train[index] for index in chosen] for part, chosen in parts.items()}
    return found if name != "moses" else {**found, "test": test}


def read_file(path: str) -> list[str]:
    """The canonical SMILES of a file with one per line (what follows a space or comma is left out); bad lines are counted.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not text, or too few molecules.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"path={path!r}: no such file; or name one of {tuple(VOCABULARIES)}")
    try:
        lines = [re.split(r"[\s,]", line.strip())[0] for line in file.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"path={path!r}: not readable text: {error}") from None
    lines = [line for line in lines if line and line.lower() != "smiles"]
    found = chemistry.canonical(lines)
    if bad := [line for line, smiles in zip(lines, found) if not smiles]:
        logging.warning(
            "%s: %d of %d lines are no molecules and are left out, the first %r", file, len(bad), len(lines), bad[0]
        )
    known = [smiles for smiles in found if smiles]
    if len(known) < _LEAST:
        raise InputError(f"path={path!r}: holds {len(known)} molecules; {_LEAST} are needed")
    return known


def _inside(name: str, file: str) -> pathlib.Path:
    """A file of an installed wheel, found without running any code of it.

    Raises:
        FileNotFoundError: it is not installed; the message has the command.
    """
    package, folder = _FOLDERS[name]
    try:
        path = pathlib.Path(str(importlib.metadata.distribution(package).locate_file(f"{folder}/{file}")))
    except importlib.metadata.PackageNotFoundError:
        path = pathlib.Path()
    if not path.is_file():
        raise FileNotFoundError(f"path={name!r}: not installed; run: {_COMMANDS[name]}")
    return path


@functools.lru_cache(maxsize=3)
def _moses(part: str) -> list[str]:
    with gzip.open(_inside("moses", f"{part}.csv.gz"), "rt") as stream:
        return [line.split(",")[0].strip() for line in stream][1:]


def _qm9() -> Iterable[str]:
    csv.field_size_limit(1 << 30)  # a column holds arrays as text
    for part in (1, 2, 3):
        with _inside("qm9", f"qm9_part{part}.csv").open(newline="") as stream:
            yield from (row["SMILES"] for row in csv.DictReader(stream))
