"""Cost tables against direct sums, and the paths through them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax import parallel
from lsd_jax.distill.cost_table import (
    cost_rows,
    cost_table,
    halving_paths,
    path_kl,
    profile_indices,
    shortest_paths,
    uniform_indices,
    zoom,
)
from lsd_jax.distill.teacher import sample_teacher
from lsd_jax.samplers.coupling import IID
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from tests.distill.chain import PATHS, SPREAD, STEPS, L, S, network, oracle, teacher_paths


@pytest.fixture(scope="module")
def table():
    """That of the teacher's paths, at the teacher's own times."""
    return cost_table(oracle(), TWEEDIE, SPREAD, *teacher_paths().repeated(1), np.linspace(1, 0, STEPS + 1))


def test_cost_table_against_a_direct_sum(table):
    paths, (i, j) = teacher_paths(), (5, 17)
    x, t = jnp.asarray(paths.states[:, i], jnp.int32), jnp.float32(paths.time_grid[i])
    log_posterior = jax.nn.log_softmax(jax.jit(oracle().log_score)(x, t))
    revealed = (paths.states[:, i] == S) & (paths.states[:, j] != S)
    nll = -np.take_along_axis(np.asarray(log_posterior), paths.tokens[..., None].astype(int), -1)[..., 0]
    assert table[i, j] == pytest.approx(np.where(revealed, nll, 0).sum(-1).mean(), rel=1e-4)
    assert np.isinf(table[j, i]) and np.isinf(table[i, i])


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_passes_of_one_sequence_give_the_same_paths_and_table(monkeypatch, name):
    def both():
        cost_rows.clear_cache()
        own = sample_teacher(jax.random.key(0), network(name), TWEEDIE, IID, 6, PATHS, L)
        return own.states, cost_table(network(name), TWEEDIE, IID, *own.repeated(1), np.linspace(1, 0, 7))

    whole = both()
    monkeypatch.setattr(parallel, "PASS_BYTES", 1)
    parts = both()
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-5)


def random_table(steps):
    random = np.random.default_rng(0).random((steps, steps + 1))
    return np.where(np.arange(steps + 1)[None] > np.arange(steps)[:, None], random, np.inf)


def test_shortest_paths_are_the_best_of_all():
    table = 5 * random_table(8)
    grids = shortest_paths(table, 4)
    for steps in range(1, 5):
        every = [
            sum(table[a, b] for a, b in itertools.pairwise((0, *inner, 8)))
            for inner in itertools.combinations(range(1, 8), steps - 1)
        ]
        found = sum(table[a, b] for a, b in itertools.pairwise(grids[steps]))
        assert found == pytest.approx(min(every)) and len(grids[steps]) == steps + 1
    with pytest.raises(ValueError, match=r"^steps=9"):
        shortest_paths(table, 9)


def test_optimal_grid_is_no_worse_than_the_uniform_one(table):
    grids = shortest_paths(table, 6)
    for steps in (2, 3, 6):
        uniform = path_kl(table, uniform_indices(STEPS, steps))
        assert path_kl(table, grids[steps]) <= uniform + 1e-6
    assert path_kl(table, np.arange(STEPS + 1)) == pytest.approx(0, abs=1e-9)


def test_halving_goes_on_where_intervals_are_spent():
    grids = halving_paths(random_table(16), 16)
    assert all(len(grids[steps]) == steps + 1 for steps in (1, 2, 4, 8, 16))
    np.testing.assert_array_equal(grids[16], np.arange(17))
    assert set(grids[4]) <= set(grids[8])


def test_profile_steps_are_dense_where_information_is():
    """With the loss per squared step falling as exp(-8 x), steps crowd where it is large."""
    fine = np.linspace(0, 1, 101)
    profile = np.exp(-8 * fine)  # nats per token at share x revealed: |h'| is largest at the start
    table = np.full((100, 101), np.inf)
    table[np.arange(100), np.arange(1, 101)] = profile[:100]
    indices = profile_indices(table, np.ones(100), 5)
    assert indices[0] == 0 and indices[-1] == 100 and (np.diff(indices) > 0).all()
    assert indices[1] < 15 and np.diff(indices)[-1] > 30


def test_zoom_keeps_the_grid_and_stays_between_neighbors():
    times = np.array([1.0, 0.6, 0.5, 0.0])
    finer = zoom(times, 0.3)
    assert set(times) <= set(finer) and (np.diff(finer) < 0).all() and finer[0] == 1 and finer[-1] == 0
