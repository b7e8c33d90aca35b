"""Four properties of a molecule."""

import functools
import importlib.util
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from lsd_jax.metrics.molecules.chemistry import rdkit

if TYPE_CHECKING:
    from rdkit.Chem import Mol

NAMES = ("logp", "sa", "qed", "weight")


def properties(molecule: "Mol") -> tuple[float, float, float, float]:
    """Crippen's logP, the synthetic accessibility (1 easy, 10 hard), the drug-likeness QED (0 to 1), and the weight in Da."""
    return (
        rdkit("Chem.Crippen").MolLogP(molecule),
        _accessibility()(molecule),
        rdkit("Chem.QED").qed(molecule),
        rdkit("Chem.Descriptors").MolWt(molecule),
    )


@functools.lru_cache(maxsize=1)
def _accessibility() -> Callable[["Mol"], float]:
    """RDKit's contributed score (Ertl and Schuffenhauer 2009), a file that comes with it but is no module of it."""
    path = pathlib.Path(rdkit("RDConfig").RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("sascorer", path)
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    return scorer.calculateScore
