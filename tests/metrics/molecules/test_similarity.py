"""Similarities of fingerprints written by hand, and of random ones in any blocks."""

import numpy as np
import pytest

from lsd_jax.metrics.molecules import similarity


def packed(*sets):
    bits = np.zeros((len(sets), 1024), np.uint8)
    for row, members in zip(bits, sets):
        row[list(members)] = 1
    return np.packbits(bits, axis=1)


A, B, C = {0, 1, 2}, {1, 2, 3}, {900, 1023}  # similarities: A B 2/4, A C and B C 0


def test_the_nearest_of_the_reference():
    assert similarity.nearest(packed(A, B, C), packed(A, C | {5})).tolist() == pytest.approx([1, 1 / 2, 2 / 3])


def test_internal_diversity_by_hand():
    """The root is taken of every molecule's mean: one root of all pairs' mean would give 0.37639."""
    first, second = similarity.internal_diversity(packed(A, B, C), np.ones((1, 3)))
    assert first[0] == pytest.approx(1 - (3 + 2 / 2) / 9, abs=1e-6)
    assert second[0] == pytest.approx(1 - (2 * np.sqrt(1.25 / 3) + np.sqrt(1 / 3)) / 3, abs=1e-6)  # 0.37722


def test_weights_are_copies():
    weighted = similarity.internal_diversity(packed(A, B, C), np.array([[2.0, 1, 0], [1, 1, 1]]))
    copied = similarity.internal_diversity(packed(A, A, B), np.ones((1, 3)))
    for found, wanted in zip(weighted, copied):
        assert found[0] == pytest.approx(wanted[0], abs=1e-6)


@pytest.mark.parametrize("rows, columns", [(1000, 1000), (4, 3), (1, 1)])
def test_blocks_change_nothing(monkeypatch, rows, columns):
    monkeypatch.setattr(similarity, "_ROWS", rows)
    monkeypatch.setattr(similarity, "_COLUMNS", columns)
    rng = np.random.default_rng(0)
    a, b = (rng.random((count, 1024)) < rng.random((count, 1)) for count in (7, 10))
    tanimoto = lambda x, y: (x[:, None] & y[None]).sum(-1) / (x[:, None] | y[None]).sum(-1)
    pack = lambda bits: np.packbits(bits, axis=1)
    np.testing.assert_allclose(similarity.nearest(pack(a), pack(b)), tanimoto(a, b).max(1), rtol=1e-6)
    first, second = similarity.internal_diversity(pack(a), np.ones((1, 7)))
    np.testing.assert_allclose(first, 1 - tanimoto(a, a).mean(), rtol=1e-5)
    np.testing.assert_allclose(second, 1 - np.sqrt((tanimoto(a, a) ** 2).mean(1)).mean(), rtol=1e-5)
