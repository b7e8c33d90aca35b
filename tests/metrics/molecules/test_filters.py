"""MOSES' filters, one reason at a time."""

import importlib.metadata

import numpy as np
import pytest

from lsd_jax.metrics.molecules import chemistry, filters

pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")


def passes(found, smiles):
    return found(chemistry.read(smiles))


def test_atoms_charges_and_rings():
    found = filters.Filters(["[#8]-[#8]"])
    assert [passes(found, text) for text in ("CCO", "CCBr", "C1CCCCCC1", "[2H]C")] == [True] * 4
    assert [passes(found, text) for text in ("CCI", "C[Si](C)C", "C[NH3+]", "C1CCCCCCC1", "COOC")] == [False] * 5


def test_patterns_see_hydrogens():
    assert not passes(filters.Filters(["[H]C([H])([#6])[Cl]"]), "CCCl")
    assert passes(filters.Filters(["[H]C([H])([#6])[Cl]"]), "CC(C)Cl")


def installed():
    try:
        return filters.load()
    except FileNotFoundError:
        pytest.skip(f"MOSES' patterns are not installed: {filters.INSTALL}")


@pytest.mark.parametrize(
    "smiles, expected",
    [
        ("CC(=O)Oc1ccccc1C(=O)O", True),
        ("CC1C2CCC(C2)C1CN(CCO)C(=O)c1ccc(Cl)cc1", True),  # of MOSES
        ("C=CC#N", False),  # the first MCF pattern: the heading is not taken for one, nor the first row for a heading
        (
            "CN(C)c1ccc(Cc2ccc(N(C)C)cc2)cc1",
            False,
        ),  # the first PAINS pattern, which has no heading
        ("O=C1NC(=S)SC1=Cc1ccccc1", False),  # rhodanine
        ("O=C1C=CC(=O)C=C1", False),  # quinone
    ],
)
def test_moses_patterns(smiles, expected):
    found = installed()
    assert len(found._patterns) == 22 + 480
    assert passes(found, smiles) is expected


def test_the_screen_rejects_no_pattern_that_is_there():
    from rdkit import Chem

    found = installed()
    for smiles in ("O=C1NC(=S)SC1=Cc1ccccc1", "CN(C)c1ccc(Cc2ccc(N(C)C)cc2)cc1", "Oc1ccccc1N=Nc1ccccc1"):
        whole = Chem.AddHs(chemistry.read(smiles))
        tried = ~(found._bits & ~filters._pattern_bits(whole)[None]).any(1)
        there = np.array([whole.HasSubstructMatch(pattern) for pattern in found._patterns])
        assert there.any() and tried[there].all() and tried.mean() < 0.3


def test_bad_patterns_and_no_wheel(monkeypatch):
    with pytest.raises(ValueError, match="^filters=True: RDKit does not read the SMARTS 'C\\('"):
        filters.Filters(["C", "C("])

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(FileNotFoundError, match="^filters=True: .*run: pip install --no-deps molsets==0.3.1$"):
        filters.load.__wrapped__()
