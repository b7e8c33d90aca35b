"""What the metrics need of every molecule, by one reading of its string: 5 ms a molecule, 7 with the filters."""

import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics.molecules import chemistry
from lsd_jax.metrics.molecules import filters as moses
from lsd_jax.metrics.molecules.properties import NAMES, properties

_SHARE = 2_000  # molecules from which on a process of its own is worth its start


class Facts(NamedTuple):
    """N molecules.

    Attributes:
        smiles: canonical strings.
        fingerprints: (N, 128) bytes of 8 bits each.
        properties: (N, 4), in the order of `properties.NAMES`.
        fragments: BRICS fragments, joined by ".".
        scaffolds: the scaffold; empty without one that counts.
        passes: whether MOSES' filters let it pass, (N,); empty where that was not asked.
    """

    smiles: tuple[str, ...]
    fingerprints: np.ndarray
    properties: np.ndarray
    fragments: tuple[str, ...]
    scaffolds: tuple[str, ...]
    passes: np.ndarray

    def take(self, rows: Sequence[int]) -> "Facts":
        """The molecules at some rows, in their order."""
        return Facts(*(_at(part, rows) for part in self))


def describe(smiles: Sequence[str], filters: bool, processes: int = 0) -> Facts:
    """The facts of canonical strings; those that RDKit does not read are left out.

    Args:
        filters: whether to apply the filters.
        processes: that share the work; 0: one for every CPU where there are molecules enough. They are started anew, not
            forked: JAX has threads.

    Raises:
        FileNotFoundError, ValueError: RDKit or the filters' patterns are not installed; one line.
    """
    if filters:
        moses.load()
    processes = processes or max(1, min(_cpus(), len(smiles) // _SHARE))
    if processes == 1:
        return _describe(smiles, filters)
    parts = [smiles[start::processes] for start in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        found = list(pool.map(lambda part: _elsewhere(part, filters), parts))
    place = {text: row for row, text in enumerate(text for part in found for text in part.smiles)}
    return _joined(found).take([place[text] for text in smiles if text in place])


def save(facts: Facts, file: BinaryIO) -> None:
    """Writes the facts as an .npz without pickles."""
    np.savez(
        file, **{name: _bytes(part) if isinstance(part, tuple) else part for name, part in facts._asdict().items()}
    )


def load(path: pathlib.Path) -> Facts:
    """Reads what `save` has written.

    Raises:
        FileNotFoundError, ValueError: no such file, or it is damaged or another's.
    """
    try:
        with path.open("rb") as file, np.load(file) as saved:
            parts = {name: saved[name] for name in Facts._fields}
    except FileNotFoundError:
        raise
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"molecules: {str(path)!r} is damaged: {error}") from None
    count = len(parts["fingerprints"])
    texts = {name: _texts(parts[name], count) for name in ("smiles", "fragments", "scaffolds")}
    return Facts(**(parts | texts))


def _describe(smiles: Sequence[str], filters: bool) -> Facts:
    passes = moses.load() if filters else None
    rows = []
    with chemistry.rdkit("rdBase").BlockLogs():
        for text in smiles:
            if (molecule := chemistry.read(text)) is not None:
                pieces = chemistry.fragments(molecule), chemistry.scaffold(molecule)
                row = text, chemistry.fingerprint(molecule), properties(molecule), *pieces
                rows.append((*row, passes(molecule) if passes else False))
    texts, fingerprints, values, fragments, scaffolds, passed = zip(*rows) if rows else ((),) * len(Facts._fields)
    return Facts(
        tuple(texts),
        np.array(fingerprints, np.uint8).reshape(-1, chemistry.BITS // 8),
        np.array(values, np.float64).reshape(-1, len(NAMES)),
        fragments,
        scaffolds,
        np.array(passed if filters else (), bool),
    )


def _elsewhere(smiles: Sequence[str], filters: bool) -> Facts:
    """The facts by a process of its own, which shares no state with this one."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = pathlib.Path(folder, "smiles"), pathlib.Path(folder, "facts.npz")
        asked.write_text("\n".join(smiles), "utf-8")
        command = [sys.executable, "-m", __name__, str(asked), str(answer), "filters" if filters else ""]
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment = {**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"a process that reads molecules failed: {done.stderr[-2000:]}")
        return load(answer)


def _joined(parts: Sequence[Facts]) -> Facts:
    columns = zip(*parts)
    return Facts(*(sum(column, ()) if isinstance(column[0], tuple) else np.concatenate(column) for column in columns))


def _at(part: Any, rows: Sequence[int]) -> Any:
    if isinstance(part, tuple):
        return tuple(part[row] for row in rows)
    return part[list(rows)] if len(part) else part  # `passes` that was not asked has no rows


def _bytes(texts: tuple[str, ...]) -> np.ndarray:
    return np.frombuffer("\n".join(texts).encode(), np.uint8)


def _texts(raw: np.ndarray, count: int) -> tuple[str, ...]:
    found = tuple(raw.tobytes().decode().split("\n")) if count else ()
    if len(found) != count:
        raise InputError(f"molecules: {len(found)} strings for {count} molecules: the file is damaged")
    return found


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    with open(sys.argv[2], "wb") as output:
        save(_describe(pathlib.Path(sys.argv[1]).read_text("utf-8").split("\n"), sys.argv[3] == "filters"), output)
