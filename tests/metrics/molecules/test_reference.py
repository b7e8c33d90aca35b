"""Facts of molecules by one process or several, and a reference that is worked out once."""

import numpy as np
import pytest

from lsd_jax.metrics.molecules import chemistry, facts, reference
from lsd_jax.metrics.molecules.reference import Reference

pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")
SMILES = ["CCO", "c1ccc(-c2ccccc2)cc1", "CC(=O)Nc1ccccc1", "CCO", "c1ccc2ccccc2c1", "Oc1ccc(-c2ccccc2)cc1"]


def same(a, b):
    assert a._fields == b._fields
    for left, right in zip(a, b):
        np.testing.assert_array_equal(left, right)


def test_several_processes_give_the_same_facts():
    alone = facts.describe(SMILES, filters=False)
    assert alone.smiles == tuple(SMILES) and alone.passes.shape == (0,)
    assert alone.fingerprints.shape == (6, chemistry.BITS // 8) and alone.properties.shape == (6, 4)
    same(facts.describe([*SMILES, "C("], filters=False, processes=2), alone)  # what is not read is left out


def test_facts_are_kept_as_they_are(tmp_path):
    for smiles in (SMILES, ["CCO"], []):
        found = facts.describe(smiles, filters=False)
        with (tmp_path / "facts.npz").open("wb") as file:
            facts.save(found, file)
        same(facts.load(tmp_path / "facts.npz"), found)


def test_a_reference_is_worked_out_once(tmp_path, monkeypatch):
    first = Reference.of(SMILES, tmp_path / "new", fcd=False, filters=False)
    assert first.scaffolds == {"c1ccc(-c2ccccc2)cc1": 2, "c1ccc2ccccc2c1": 1}
    assert first.fragments["CCO"] == 2 and first.fragments["[16*]c1ccccc1"] == 4
    assert first.properties[:2, 3] == pytest.approx([46.069, 154.212]) and first.chemnet is first.filters is None
    with monkeypatch.context() as patch:
        patch.setattr(facts, "describe", None)
        same(Reference.of(SMILES, tmp_path / "new", fcd=False, filters=False), first)
    Reference.of(SMILES[:4], tmp_path / "new", fcd=False, filters=False)
    files = sorted((tmp_path / "new").iterdir())
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:100])
    files[1].write_bytes(b"")
    same(Reference.of(SMILES, tmp_path / "new", fcd=False, filters=False), first)


def test_another_rdkit_is_another_reference(tmp_path, monkeypatch):
    monkeypatch.setattr(reference.chemistry, "version", lambda: "another")
    Reference.of(SMILES, tmp_path, fcd=False, filters=False)
    monkeypatch.undo()
    Reference.of(SMILES, tmp_path, fcd=False, filters=False)
    assert len(list(tmp_path.iterdir())) == 2


def test_chemnet_s_statistics_are_kept_too(tmp_path, monkeypatch):
    features = np.random.default_rng(0).normal(size=(6, 3))
    monkeypatch.setattr(reference, "load", lambda: None)
    monkeypatch.setattr(reference.chemnet, "features", lambda smiles: features)
    first = Reference.of(SMILES, tmp_path, fcd=True, filters=False).chemnet
    np.testing.assert_allclose(first.covariance, np.cov(features.T))
    monkeypatch.setattr(reference.chemnet, "features", None)
    same(Reference.of(SMILES, tmp_path, fcd=True, filters=False).chemnet, first)


def test_no_molecules(tmp_path):
    with pytest.raises(ValueError, match="^molecules: a reference needs 2 molecules or more, not 1"):
        Reference.of(["C", "C("], tmp_path, fcd=False, filters=False)
