import numpy as np
import pytest
import scipy.stats

from lsd_jax.metrics.molecules import chemistry, properties


def test_aspirin():
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")
    found = properties.properties(chemistry.read("CC(=O)Oc1ccccc1C(=O)O"))
    assert dict(zip(properties.NAMES, found)) == pytest.approx(
        {"logp": 1.3101, "sa": 1.58004, "qed": 0.55012, "weight": 180.159}, rel=1e-4
    )


def test_distance_by_hand():
    values, reference = np.array([2.0, 0.0]), np.array([1.0, 3.0])
    found = properties.wasserstein(values, reference, np.array([[1.0, 1], [2, 0], [0, 1]]))
    assert found.tolist() == pytest.approx([1, 1, 2])


def test_distance_is_scipy_s():
    rng = np.random.default_rng(0)
    values, reference = rng.integers(0, 9, 40) / 4, rng.normal(size=300).round(1)  # with ties
    weights = rng.integers(0, 3, (5, 40)).astype(float)
    wanted = [scipy.stats.wasserstein_distance(reference, values, v_weights=row) for row in weights]
    np.testing.assert_allclose(properties.wasserstein(values, reference, weights), wanted, rtol=1e-12)
