import jax
import numpy as np
import pytest

from lsd_jax.keys import sequence_keys
from lsd_jax.samplers import orders
from lsd_jax.samplers.coupling import Coupling

SETTINGS = {
    **{name: {} for name in orders.LINE},
    **{name: {"shape": (4, 6)} for name in orders.PLANE},
    "pattern": {"pattern": (0, 3, 1, 2)},
}


def coupling(name):
    return Coupling("low_discrepancy", name, **SETTINGS[name])


@pytest.mark.parametrize("name", orders.GENERATORS)
def test_every_single_threshold_is_uniform(name):
    thresholds = np.asarray(coupling(name).thresholds(sequence_keys(jax.random.key(3), 4000), 24))
    assert thresholds.min() > 0 and thresholds.max() < 1
    for position in (0, 7, 23):
        np.testing.assert_allclose(np.histogram(thresholds[:, position], 8, (0, 1))[0] / 4000, 1 / 8, atol=0.025)


@pytest.mark.parametrize("name", ["van_der_corput", "halton", "dither"])
def test_rank_tables_are_permutations(name):
    ranks = orders.rank_table(name, 24, (4, 6))
    assert sorted(ranks.ravel()) == list(range(ranks.size))


def test_van_der_corput_halves_the_gaps():
    ranks = orders.rank_table("van_der_corput", 16)[0]
    for count in (2, 4, 8):
        first = np.flatnonzero(ranks < count)
        np.testing.assert_array_equal(np.diff(first), 16 // count)


def test_dither_is_bayers_matrix():
    """The classical 2 x 2 and 4 x 4 matrices, up to a reflection: opposite corners first, then the quarters."""
    np.testing.assert_array_equal(orders.rank_table("dither", 4, (2, 2)), [[0, 2], [3, 1]])
    quarter = orders.rank_table("dither", 16, (4, 4)) < 4
    assert quarter[::2, ::2].all() or quarter[::2, ::2].sum() == 4


def test_a_sweep_reveals_one_class_a_step_and_spreads_images():
    thresholds = np.asarray(coupling("pattern").thresholds(sequence_keys(jax.random.key(0), 50), 24))
    classes = np.floor((1 - thresholds) * 4).astype(int)
    for row in classes:
        assert all(len(set(row[residue::4])) == 1 for residue in range(4)) and len(set(row[:4])) == 4
    # The first quarter of an image's positions: no two are neighbors in a row or column.
    image = Coupling("low_discrepancy", "dither", shape=(8, 8)).thresholds(sequence_keys(jax.random.key(1), 20), 64)
    first = (np.asarray(image) > 0.75).reshape(-1, 8, 8)
    assert not (first[:, 1:] & first[:, :-1]).any() and not (first[:, :, 1:] & first[:, :, :-1]).any()


def test_every_sequence_takes_one_of_several_patterns():
    rows = (0, 1, 2, 3), (0, 3, 2, 1)
    mixed = Coupling("low_discrepancy", "pattern", [list(row) for row in rows])  # as JSON has them
    assert mixed.pattern == rows and mixed.ranks(8) == 4
    thresholds = np.asarray(mixed.thresholds(sequence_keys(jax.random.key(0), 2000), 8))
    np.testing.assert_allclose(np.histogram(thresholds[:, 3], 4, (0, 1))[0] / 2000, 1 / 4, atol=0.05)
    step = np.diff(np.floor((1 - thresholds) * 4).astype(int), axis=1) % 4
    assert {tuple(row) for row in step} == {(1,) * 7, (3,) * 7}  # to the right or to the left, never both
    assert abs((step[:, 0] == 1).mean() - 1 / 2) < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": "sobol"}, "^coupling.generator='sobol': choose one of"),
        ({"generator": "pattern", "pattern": (0, 2)}, r"^coupling.pattern=\(0, 2\): .*needs a permutation"),
        ({"generator": "pattern"}, "^coupling.pattern="),
        ({"generator": "pattern", "pattern": ((0, 1), (0, 1, 2))}, "^coupling.pattern=.*several of one length"),
        ({"generator": "pattern", "pattern": ((0, 1), 2)}, "^coupling.pattern=.*several of one length"),
        ({"generator": "pattern", "pattern": ((0, 2), (1, 0))}, "^coupling.pattern=.*several of one length"),
        ({"generator": "r2"}, r"^coupling.shape=\(\): generator 'r2' needs .rows, columns."),
    ],
)
def test_impossible_orders_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        Coupling("low_discrepancy", **settings)


def test_a_shape_must_hold_the_length():
    with pytest.raises(ValueError, match=r"^coupling.shape=\(4, 6\): does not hold 25"):
        coupling("halton").thresholds(sequence_keys(jax.random.key(0), 2), 25)
