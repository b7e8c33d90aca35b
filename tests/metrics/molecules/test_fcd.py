import importlib.util

import numpy as np
import pytest

from lsd_jax.metrics import fid
from lsd_jax.metrics.molecules import fcd
from lsd_jax.models import chemnet


def test_distances_and_their_intervals():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4000, 2))
    references = {"own": fid.Gaussian(np.zeros(2), np.eye(2)), "far": fid.Gaussian(np.array([3.0, 4.0]), 4 * np.eye(2))}
    found = fcd.distances(features, references, 0, 100)
    assert found["own"][0] == fid.frechet_distance(references["own"], fid.fit(features))
    assert found["far"][0] == pytest.approx(25 + 2 * (2 - 1) ** 2, rel=0.02)
    for value, low, high in found.values():
        assert low < value < high
    value, low, high = fcd.distances(features, references, 0, 0)["far"]
    assert value == low == high


def test_features_keep_the_order_and_the_copies():
    if not any(map(importlib.util.find_spec, chemnet._WHEELS)):
        pytest.skip(f"ChemNet is not installed: {chemnet.INSTALL}")
    golden = np.load("tests/golden/chemnet.npz")
    rows = [3, 1, 3, 2, 1]
    found = fcd.features(golden["in/smiles"][rows].tolist())
    np.testing.assert_allclose(found, golden["out/features"][rows], atol=3e-5)
