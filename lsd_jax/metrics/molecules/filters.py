"""MOSES' filters: which molecules a medicinal chemist would not throw out at sight."""

import csv
import functools
import importlib.metadata
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics.molecules.chemistry import rdkit, read

if TYPE_CHECKING:
    from rdkit.Chem import Mol

INSTALL = "pip install --no-deps molsets==0.3.1"
_ATOMS = {"C", "N", "S", "O", "F", "Cl", "Br", "H"}
_LARGE_RING = 8
_FOLDER = "moses/metrics"


class Filters:
    """Whether molecules pass: atoms C N S O F Cl Br H, no charge, no ring of eight atoms or more, none of the patterns.

    A pattern is looked for only where the molecule has all bits of its pattern fingerprint, without which it cannot be
    there: a tenth of the time.
    """

    def __init__(self, smarts: Sequence[str]):
        chem = rdkit("Chem")
        self._patterns = [chem.MolFromSmarts(text) for text in smarts]
        if None in self._patterns:
            raise InputError(f"filters=True: RDKit does not read the SMARTS {smarts[self._patterns.index(None)]!r}")
        self._bits = np.stack([_pattern_bits(pattern) for pattern in self._patterns])

    def __call__(self, molecule: "Mol") -> bool:
        """Whether a sanitized molecule passes."""
        chem = rdkit("Chem")
        if any(len(ring) >= _LARGE_RING for ring in molecule.GetRingInfo().AtomRings()):
            return False
        if any(atom.GetFormalCharge() != 0 or atom.GetSymbol() not in _ATOMS for atom in molecule.GetAtoms()):
            return False
        whole = chem.AddHs(molecule)
        lacking = self._bits & ~_pattern_bits(whole)[None]
        if any(whole.HasSubstructMatch(self._patterns[index]) for index in np.flatnonzero(~lacking.any(1))):
            return False
        return read(chem.MolToSmiles(molecule, isomericSmiles=False)) is not None


@functools.lru_cache(maxsize=1)
def load() -> Filters:
    """The filters of the `molsets` wheel: its MCF and PAINS patterns, read as text.

    Raises:
        FileNotFoundError: the wheel is not installed; the message has the command.
    """
    # MCF has a heading and the pattern behind its name, PAINS has neither.
    mcf = [row[1] for row in _rows("mcf.csv")[1:]]
    return Filters([text.strip() for text in mcf + [row[0] for row in _rows("wehi_pains.csv")]])


def _rows(name: str) -> list[list[str]]:
    try:
        path = pathlib.Path(str(importlib.metadata.distribution("molsets").locate_file(f"{_FOLDER}/{name}")))
        with path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.reader(file) if row]
    except (importlib.metadata.PackageNotFoundError, FileNotFoundError):
        raise FileNotFoundError(f"filters=True: MOSES' patterns are not installed; run: {INSTALL}") from None


def _pattern_bits(molecule: "Mol") -> np.ndarray:
    """The pattern fingerprint (32,) of a molecule or a pattern, uint64."""
    found = rdkit("Chem").PatternFingerprint(molecule)
    return np.frombuffer(rdkit("DataStructs").BitVectToBinaryText(found), np.uint64)
