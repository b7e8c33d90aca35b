import pytest

from lsd_jax.metrics.molecules import chemistry, properties


def test_aspirin():
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")
    found = properties.properties(chemistry.read("CC(=O)Oc1ccccc1C(=O)O"))
    assert dict(zip(properties.NAMES, found)) == pytest.approx(
        {"logp": 1.3101, "sa": 1.58004, "qed": 0.55012, "weight": 180.159}, rel=1e-4
    )
