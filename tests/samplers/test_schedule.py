"""Fixed time grids, and what a schedule gives to a scan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.samplers.schedule import (
    FIXED_GRIDS,
    Schedule,
    StepParameters,
    fixed_grid,
    nearest_indices,
    neutral,
    uniform_schedule,
)


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
    with pytest.raises(ValueError, match="^grid='parabola': choose one of"):
        fixed_grid("parabola", 4)
    with pytest.raises(ValueError, match="^steps=5: grid_points=4 are fewer"):
        nearest_indices("uniform", 4, 5)


def test_inner_steps_and_the_last_make_the_whole():
    grid, tables = jnp.asarray([1.0, 0.7, 0.2, 0.0]), jnp.arange(12.0).reshape(3, 1, 2, 2)
    params = StepParameters(jnp.arange(3.0), -jnp.arange(3.0), "log_score", tables, 0.9)
    schedule = Schedule(grid, params)
    assert schedule.steps == 3
    for k in range(3):
        step = schedule.last if k == 2 else jax.tree.map(lambda leaf, k=k: leaf[k], schedule.inner)
        jax.tree.map(np.testing.assert_array_equal, step, schedule.step(k))
        assert step.t == grid[k] and step.u == grid[k + 1] and step.params.log_coefficient == k
        assert step.params.coefficient == "log_score" and step.params.top_p == 0.9
        np.testing.assert_array_equal(step.params.log_potential, tables[k])
    assert uniform_schedule(1).inner.t.shape == (0,)


def test_neutral_parameters_change_nothing():
    scores = jax.random.normal(jax.random.key(0), (2, 3, 5))
    for coefficient in ("score", "log_score"):
        params = StepParameters(jnp.zeros(()), jnp.zeros(()), coefficient)
        np.testing.assert_array_equal(params.scale(scores), scores)
        np.testing.assert_array_equal(params.temper(scores), scores)
    assert neutral().log_potential is None and neutral(4).log_temperature.shape == (4,)
    np.testing.assert_allclose(uniform_schedule(4, temperature=0.9).params.log_temperature, np.log(0.9), rtol=1e-6)
