"""Strings, copies, fingerprints, fragments and scaffolds of molecules whose answers are known."""

import sys

import numpy as np
import pytest

from lsd_jax.metrics.molecules import chemistry

NEEDS = "RDKit is not installed: pip install rdkit"


def molecule(smiles):
    pytest.importorskip("rdkit", reason=NEEDS)
    return chemistry.read(smiles)


def test_canonical_strings_and_what_is_no_molecule():
    pytest.importorskip("rdkit", reason=NEEDS)
    found = chemistry.canonical(["OCC", "C(C)O", "C1=CC=CC=C1", "C(", "N(C)(C)(C)C", "c1cccc1", "", " ", "\ud800"])
    assert found == ["CCO", "CCO", "c1ccccc1"] + [None] * 6  # syntax, valence, aromaticity, no atom, no text


def test_copies_and_novelty():
    smiles = ["CCO", "C", "CCO", "CC", "C", "CCC"]
    assert chemistry.unique(smiles, 10).tolist() == [1, 1, 0, 1, 0, 1]
    assert chemistry.unique(smiles, 3).mean() == pytest.approx(2 / 3)
    assert chemistry.novel(smiles, {"C", "CCC", "N"}).tolist() == [1, 0, 1, 0]  # of the four distinct ones


@pytest.mark.parametrize(
    "smiles, bits",
    [
        ("CCO", [33, 80, 222, 294, 386, 807]),
        (
            "CC(=O)Oc1ccccc1C(=O)O",
            [
                11,
                23,
                33,
                64,
                175,
                356,
                386,
                389,
                423,
                444,
                456,
                592,
                650,
                695,
                705,
                726,
                751,
                807,
                849,
                893,
                909,
                946,
                967,
                1017,
            ],
        ),
    ],
)
def test_fingerprints_are_moses(smiles, bits):
    """The bits that AllChem.GetMorganFingerprintAsBitVect(molecule, 2, nBits=1024), MOSES' call, sets."""
    packed = chemistry.fingerprint(molecule(smiles))
    assert packed.shape == (128,) and packed.dtype == np.uint8
    assert np.flatnonzero(np.unpackbits(packed)).tolist() == bits


def test_fragments_are_cut_at_brics_bonds():
    assert chemistry.fragments(molecule("CCO")) == "CCO"
    pieces = chemistry.fragments(molecule("CC(=O)Nc1ccccc1")).split(".")
    assert sorted(pieces, key=len) == ["[5*]N[5*]", "[1*]C(C)=O", "[16*]c1ccccc1"]


@pytest.mark.parametrize(
    "smiles, scaffold",
    [
        ("CCO", ""),
        ("Cc1ccccc1", ""),  # one ring is too few
        ("CCc1ccc(-c2ccc(O)cc2)cc1", "c1ccc(-c2ccccc2)cc1"),
        ("Oc1cccc2ccccc12", "c1ccc2ccccc2c1"),
    ],
)
def test_scaffolds_have_two_rings_or_more(smiles, scaffold):
    assert chemistry.scaffold(molecule(smiles)) == scaffold


def test_without_rdkit_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit.Chem", None)
    with pytest.raises(ValueError, match=r"^molecules: RDKit is not installed; run: pip install rdkit$"):
        chemistry.canonical(["C"])
