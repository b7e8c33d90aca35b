"""Fixed time grids."""

import numpy as np
import pytest

from lsd_jax.samplers.grids import FIXED_GRIDS, fixed_grid, nearest_indices


@pytest.mark.parametrize("name", FIXED_GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_grids_fall_from_one_to_zero(name, steps):
    times = fixed_grid(name, steps)
    assert times[0] == 1 and times[-1] == 0 and len(times) == steps + 1
    assert (np.diff(times) < 0).all()
    assert (np.diff(times.astype(np.float32)) < 0).all()


def test_known_values():
    np.testing.assert_allclose(fixed_grid("uniform", 4), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(fixed_grid("cosine", 3), [1, np.sqrt(3) / 2, 0.5, 0], atol=1e-15)
    np.testing.assert_allclose(fixed_grid("quadratic", 2), [1, 0.25, 0])
    np.testing.assert_allclose(fixed_grid("square", 2), [1, 0.75, 0])
    np.testing.assert_allclose(fixed_grid("sqrt", 4), [1, np.sqrt(0.75), np.sqrt(0.5), 0.5, 0])


@pytest.mark.parametrize("name", FIXED_GRIDS)
@pytest.mark.parametrize(("fine", "steps"), [(64, 5), (8, 7), (8, 8)])
def test_indices_are_distinct_and_near(name, fine, steps):
    index = nearest_indices(name, fine, steps)
    assert index[0] == 0 and index[-1] == fine and (np.diff(index) > 0).all()
    if fine == 64:
        assert np.abs(1 - index / fine - fixed_grid(name, steps)).max() <= 1 / fine


def test_errors():
    with pytest.raises(ValueError, match="config.student.grid"):
        fixed_grid("parabola", 4)
    with pytest.raises(ValueError, match="grid_points"):
        nearest_indices("uniform", 4, 5)
