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
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

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
    name: str, size: int, published: Mapping[str, tuple[str, ...]], cut: Callable[[str], list[str]], more: int = 1
) -> tuple[str, ...]:
    """The tokens of a set, sorted; of a file those of a published set where `size` is that set's, which may not write all of it.

    Args:
        size: the whole vocabulary's, with `more` tokens that no molecule has, the pad among them.

    Raises:
        ValueError: neither the file has so many, nor a published set that writes enough of it.
    """
    if name in published:
        return published[name]
    written = _tokens_of(tuple(read_file(name)), cut)
    own = frozenset().union(*written)
    sets = {known: tokens for known, tokens in published.items() if size == len(tokens) + more}
    for tokens in sets.values():
        if own <= set(tokens):
            return tokens
    if size == len(own) + more:
        return tuple(sorted(own))
    hint = ""
    for known, tokens in sets.items():
        foreign = own - set(tokens)
        count = sum(not molecule & foreign for molecule in written)
        if count >= _LEAST:
            return tokens
        shown = " ".join(sorted(foreign)[:5])
        hint = f"; with the {size} of {known} it has {count} molecules, and {_LEAST} are needed: those with {shown} cannot be written"
    raise InputError(f"vocab_size={size}: {name} has {len(own) + more} tokens, the pad included{hint}")


@functools.lru_cache(maxsize=4)
def _tokens_of(molecules: tuple[str, ...], cut: Callable[[str], list[str]]) -> tuple[frozenset[str], ...]:
    """The tokens of every molecule of a file."""
    return tuple(frozenset(cut(smiles)) for smiles in molecules)


def unclosed(tokens: Sequence[str]) -> str:
    """What no filling of the free tokens "_" can make whole, a parenthesis or a ring; empty where all may be closed."""
    least, most = 0, 0  # open parentheses, by what free tokens may turn out to be
    for token in tokens:
        least += {"(": 1, ")": -1, "_": -1}.get(token, 0)
        most += {"(": 1, ")": -1, "_": 1}.get(token, 0)
        if most < 0:
            return "a parenthesis is closed that none opens"
        least = max(least, 0)
    if least:
        return "a parenthesis stays open"
    rings = Counter(token for token in tokens if token.isdigit() or token[0] == "%")
    odd = [token for token, count in rings.items() if count % 2]
    return f"ring {odd[0]} stays open" if len(odd) > tokens.count("_") else ""


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
        train = read_file(name)
    order = np.random.default_rng(0).permutation(len(train))
    kept = min(_VALIDATION, len(train) // 10)
    parts = {"validation": order[:kept], "train": order[kept:]}
    if name != "moses":
        tested = min(10_000, len(train) // 10)
        parts |= {"test": order[kept : kept + tested], "train": order[kept + tested :]}
    found = {part: [train[index] for index in chosen] for part, chosen in parts.items()}
    return found if name != "moses" else {**found, "test": test}


def read_file(path: str) -> list[str]:
    """The canonical SMILES of a file with one per line, each once, sorted; what follows a space or comma is left out.

    Salts, charges, isotopes and stereo stay. Lines that are no molecules are counted, and the first of them named.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not text, or too few molecules.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        what = "a folder, not a file" if file.is_dir() else "no such file"
        raise FileNotFoundError(f"path={path!r}: {what}; name a file of SMILES, or one of {tuple(VOCABULARIES)}")
    return _read(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _read(file: pathlib.Path, changed: int) -> list[str]:
    """`read_file`, once until the file is changed."""
    del changed
    try:
        lines = [(number, line.strip()) for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)]
    except UnicodeDecodeError as error:
        raise InputError(f"path={str(file)!r}: not readable text: {error}") from None
    lines = [(number, line) for number, line in lines if line and _first(line).lower() != "smiles"]
    found = chemistry.canonical([_first(line) for _, line in lines])
    if bad := [f"{number} ({line[:40]})" for (number, line), smiles in zip(lines, found) if not smiles]:
        shown = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
        logging.warning(
            "%s: %d of %d lines are no molecules and are left out: line %s", file, len(bad), len(lines), shown
        )
    known = [smiles for smiles in found if smiles]
    once = sorted(set(known))
    if len(once) < len(known):
        logging.info("%s: %d lines repeat a molecule; each counts once", file, len(known) - len(once))
    if len(once) < _LEAST:
        raise InputError(f"path={str(file)!r}: holds {len(once)} molecules; {_LEAST} are needed")
    return once


def _first(line: str) -> str:
    return re.split(r"[\s,]", line)[0]


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
