"""What RDKit says of molecules given as SMILES strings. RDKit is imported here alone, and only when it is asked for."""

import functools
import importlib
import importlib.util
from collections.abc import Collection, Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from lsd_jax.errors import InputError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

BITS = 1024  # of a fingerprint
_RADIUS = 2  # of its atoms' neighbourhoods
_LEAST_RINGS = 2  # of a scaffold that counts


def installed() -> bool:
    """Whether RDKit is there."""
    return importlib.util.find_spec("rdkit") is not None


def rdkit(module: str) -> ModuleType:
    """A module of RDKit, for example "Chem.QED".

    Raises:
        ValueError: RDKit is not installed; the message has the command.
    """
    try:
        return importlib.import_module(f"rdkit.{module}")
    except ImportError:
        raise InputError("molecules: RDKit is not installed; run: pip install rdkit") from None


def version() -> str:
    """RDKit's version: canonical strings, and with them most metrics, are comparable within one."""
    return rdkit("rdBase").rdkitVersion


def read(smiles: str) -> "Mol | None":
    """A sanitized molecule; None where RDKit does not parse or sanitize the string, or where it has no atom."""
    try:
        molecule = rdkit("Chem").MolFromSmiles(smiles)
    except (RuntimeError, UnicodeEncodeError):  # a check inside RDKit that failed; half a character
        return None
    return molecule if molecule is not None and molecule.GetNumAtoms() else None


def canonical(smiles: Iterable[str]) -> list[str | None]:
    """RDKit's canonical SMILES of every string; None where it is no molecule."""
    write = rdkit("Chem").MolToSmiles
    with rdkit("rdBase").BlockLogs():
        molecules = map(read, smiles)
        return [None if molecule is None else write(molecule) for molecule in molecules]


def picture(smiles: str, size: int = 160) -> np.ndarray:
    """A drawing (size, size, 3), uint8; a string that is no molecule is an empty red square."""
    with rdkit("rdBase").BlockLogs():
        molecule = read(smiles)
    if molecule is None:
        return np.full((size, size, 3), (255, 225, 225), np.uint8)
    drawn = rdkit("Chem.Draw").MolToImage(molecule, size=(size, size))
    return np.asarray(drawn.convert("RGB"), np.uint8)


def drawing(smiles: Sequence[str], across: int = 6, width: int = 170, height: int = 130) -> str:
    """An SVG element with a grid of drawings; a string that is no molecule is a red field, as in `picture`."""
    with rdkit("rdBase").BlockLogs():
        molecules = list(map(read, smiles))
        drawn = rdkit("Chem.Draw").MolsToGridImage(molecules, across, (width, height), useSVG=True)
    text = str(getattr(drawn, "data", drawn))  # a notebook that draws molecules by itself wraps the text
    fields = "".join(
        f"<rect x='{index % across * width}' y='{index // across * height}' width='{width - 4}' height='{height - 4}' fill='#FFE1E1'><title>no molecule</title></rect>"
        for index, molecule in enumerate(molecules)
        if molecule is None
    )
    return text[text.index("<svg") :].strip().removesuffix("</svg>") + fields + "</svg>"


def unique(smiles: Sequence[str], first: int) -> np.ndarray:
    """1.0 where one of the first canonical strings is the first of its copies, else 0.0; (min(n, first),).

    The mean is the share of distinct molecules, MOSES' unique@first.
    """
    smiles = np.array(smiles[:first], object)
    found = np.zeros(len(smiles))
    found[np.unique(smiles, return_index=True)[1]] = 1.0
    return found


def novel(smiles: Iterable[str], training: Collection[str]) -> np.ndarray:
    """1.0 for every distinct canonical string that is not in the training set, else 0.0; the mean is MOSES' novelty."""
    return np.array([float(text not in training) for text in dict.fromkeys(smiles)])


def fingerprint(molecule: "Mol") -> np.ndarray:
    """The Morgan fingerprint of radius 2, 1,024 bits in 128 bytes, uint8."""
    return np.packbits(_generator().GetFingerprintAsNumPy(molecule))


def fragments(molecule: "Mol") -> str:
    """The molecule cut at its BRICS bonds: SMILES of the pieces, joined by "."."""
    chem = rdkit("Chem")
    return chem.MolToSmiles(chem.FragmentOnBRICSBonds(molecule))


def scaffold(molecule: "Mol") -> str:
    """The SMILES of the Bemis-Murcko scaffold; empty where it has fewer than two rings."""
    try:
        found = rdkit("Chem.Scaffolds.MurckoScaffold").GetScaffoldForMol(molecule)
    except (ValueError, RuntimeError):
        return ""
    return rdkit("Chem").MolToSmiles(found) if found.GetRingInfo().NumRings() >= _LEAST_RINGS else ""


@functools.lru_cache(maxsize=1)
def _generator() -> Any:
    return rdkit("Chem.rdFingerprintGenerator").GetMorganGenerator(radius=_RADIUS, fpSize=BITS)
