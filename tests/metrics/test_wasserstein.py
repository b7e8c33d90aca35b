"""The Wasserstein-1 distance: by hand, as SciPy has it, and its interval."""

import numpy as np
import pytest
import scipy.stats

from lsd_jax.metrics.wasserstein import wasserstein, wasserstein_interval


def test_by_hand():
    values, reference = np.array([2.0, 0.0]), np.array([1.0, 3.0])
    found = wasserstein(values, reference, np.array([[1.0, 1], [2, 0], [0, 1]]))
    assert found.tolist() == pytest.approx([1, 1, 2])


def test_is_scipy_s():
    rng = np.random.default_rng(0)
    values, reference = rng.integers(0, 9, 40) / 4, rng.normal(size=300).round(1)  # with ties
    weights = rng.integers(0, 3, (5, 40)).astype(float)
    wanted = [scipy.stats.wasserstein_distance(reference, values, v_weights=row) for row in weights]
    np.testing.assert_allclose(wasserstein(values, reference, weights), wanted, rtol=1e-12)


def test_an_interval_holds_its_value_and_is_it_without_resamples():
    rng = np.random.default_rng(0)
    values, reference = rng.integers(10, 20, 50), rng.integers(12, 22, 400)
    value, low, high = wasserstein_interval(values, reference)
    assert low < value < high and value == pytest.approx(scipy.stats.wasserstein_distance(values, reference))
    assert wasserstein_interval(values, reference, resamples=0) == (value, value, value)
