"""Four properties of a molecule."""

import functools
import importlib.util
import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np

from lsd_jax.metrics.molecules.chemistry import rdkit, read

if TYPE_CHECKING:
    from rdkit.Chem import Mol

NAMES = ("logp", "sa", "qed", "weight")
_HEADINGS = ("logP", "synthetic accessibility", "QED", "weight, Da")


def properties(molecule: "Mol") -> tuple[float, float, float, float]:
    """Crippen's logP, the synthetic accessibility (1 easy, 10 hard), the drug-likeness QED (0 to 1), and the weight in Da."""
    return (
        rdkit("Chem.Crippen").MolLogP(molecule),
        _accessibility()(molecule),
        rdkit("Chem.QED").qed(molecule),
        rdkit("Chem.Descriptors").MolWt(molecule),
    )


def of_strings(smiles: Iterable[str]) -> dict[str, np.ndarray]:
    """heading -> the property (n,) of the n strings that are molecules; {} where none is."""
    with rdkit("rdBase").BlockLogs():
        found = [properties(molecule) for text in smiles if (molecule := read(text)) is not None]
    return dict(zip(_HEADINGS, np.array(found, np.float64).T))


@functools.lru_cache(maxsize=1)
def _accessibility() -> Callable[["Mol"], float]:
    """RDKit's contributed score (Ertl and Schuffenhauer 2009), a file that comes with it but is no module of it."""
    path = pathlib.Path(rdkit("RDConfig").RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("sascorer", path)
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    return scorer.calculateScore
