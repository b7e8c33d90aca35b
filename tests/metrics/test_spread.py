"""The spread of samples, against all pairs by brute force."""

import itertools

import numpy as np

from lsd_jax.metrics.spread import distance_to_others, first_of_its_kind


def test_the_distance_is_the_mean_over_all_other_sequences():
    rows = np.random.default_rng(0).integers(0, 4, (7, 5))
    found = distance_to_others(rows, 4)
    pairs = {(i, j): np.mean(rows[i] != rows[j]) for i, j in itertools.permutations(range(7), 2)}
    wanted = [np.mean([pairs[i, j] for j in range(7) if j != i]) for i in range(7)]
    np.testing.assert_allclose(found, wanted)
    assert distance_to_others(rows[:1], 4) == 0


def test_copies_count_once():
    rows = np.array([[1, 2], [3, 4], [1, 2], [1, 2], [4, 3]])
    np.testing.assert_array_equal(first_of_its_kind(rows), [1, 1, 0, 0, 1])
