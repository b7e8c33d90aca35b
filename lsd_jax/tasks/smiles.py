"""SMILES strings, those of MOSES, of QM9 and of a user's file, and the tokens that they are cut into.

Both sets are read from wheels, of which no code is run.
"""

import csv
import functools
import gzip
import hashlib
import importlib.metadata
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from absl import logging

from lsd_jax.errors import InputError
from lsd_jax.metrics.molecules import chemistry

# The tokens of the two published sets, by their characters' codes; a file of the user's gives its own.
VOCABULARIES = {
    "moses": tuple("# ( ) - 1 2 3 4 5 6 = Br C Cl F N O S [H] [nH] c n o s".split()),
    "qm9": tuple(
        "# ( ) - 1 2 3 4 5 = C F N O [C-] [CH-] [N+] [N-] [NH+] [NH2+] [NH3+] [O-] [c-] [cH-] [n-] [nH+] [nH] c n o".split()
    ),
}
_TOKEN = re.compile(r"\[[^\]]+\]|Br|Cl|%\d\d|.")
COMMANDS = {"moses": "pip install --no-deps molsets==0.3.1", "qm9": "pip install --no-deps qm9pack==1.0.3"}
_FOLDERS = {"moses": ("molsets", "moses/dataset/data"), "qm9": ("qm9pack", "qm9pack/data")}
_VALIDATION = 4096  # molecules of MOSES' training split that training never sees, of QM9 and a file as many, or a tenth
_LEAST = 100  # molecules in a file


def tokenize(smiles: str) -> list[str]:
    """The tokens of a SMILES string: a bracket atom, Br, Cl and %nn are one each, all else a character."""
    return _TOKEN.findall(smiles)


def vocabulary_of(
    name: str, size: int, published: Mapping[str, tuple[str, ...]], cut: Callable[[str], list[str]]
) -> tuple[str, ...]:
    """The tokens of a set without the pad, sorted; those of a published set of so many where they hold all that a file has."""
    if name in published:
        return published[name]
    own = _tokens_of(name, cut)
    for known in published.values():
        if size == len(known) + 1 and own <= set(known):
            return known
    return tuple(sorted(own))


@functools.lru_cache(maxsize=4)
def _tokens_of(file: str, cut: Callable[[str], list[str]]) -> frozenset[str]:
    return frozenset().union(*map(cut, read_file(file)))


def cache_name(name: str) -> str:
    """What names a set in the cache: a file by its name and contents."""
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
        train, test = moses("train"), moses("test")
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
        raise FileNotFoundError(f"path={name!r}: not installed; run: {COMMANDS[name]}")
    return path


@functools.lru_cache(maxsize=3)
def moses(part: str) -> list[str]:
    """A split of MOSES as published: "train", "test" or "test_scaffolds".

    Raises:
        FileNotFoundError: it is not installed; the message has the command.
    """
    with gzip.open(_inside("moses", f"{part}.csv.gz"), "rt") as stream:
        return [line.split(",")[0].strip() for line in stream][1:]


def _qm9() -> Iterable[str]:
    csv.field_size_limit(1 << 30)  # a column holds arrays as text
    for part in (1, 2, 3):
        with _inside("qm9", f"qm9_part{part}.csv").open(newline="") as stream:
            yield from (row["SMILES"] for row in csv.DictReader(stream))
