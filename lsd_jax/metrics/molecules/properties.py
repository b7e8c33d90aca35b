"""Four properties of a molecule, and how far their distribution is from a reference's."""

import functools
import importlib.util
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

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


def wasserstein(values_N: np.ndarray, reference_M: np.ndarray, weights_RN: np.ndarray) -> np.ndarray:
    """The Wasserstein-1 distance (R,) of weighted values from a reference, for every row of weights.

    As `scipy.stats.wasserstein_distance`, which would sort the reference again for every row.
    """
    order_N = np.argsort(values_N, kind="stable")
    places = np.sort(np.concatenate([values_N, reference_M]))
    below = np.searchsorted(values_N[order_N], places[:-1], "right")
    share = np.searchsorted(np.sort(reference_M), places[:-1], "right") / len(reference_M)
    steps, found = np.diff(places), []
    for weight_N in weights_RN:
        reached = np.concatenate([[0.0], np.cumsum(weight_N[order_N])])
        found.append(np.abs(reached[below] / reached[-1] - share) @ steps)
    return np.array(found)


@functools.lru_cache(maxsize=1)
def _accessibility() -> Callable[["Mol"], float]:
    """RDKit's contributed score (Ertl and Schuffenhauer 2009), a file that comes with it but is no module of it."""
    path = pathlib.Path(rdkit("RDConfig").RDContribDir) / "SA_Score" / "sascorer.py"
    spec = importlib.util.spec_from_file_location("sascorer", path)
    scorer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scorer)
    return scorer.calculateScore
