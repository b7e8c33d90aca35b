import numpy as np
import pytest

from lsd_jax.metrics.molecules import pieces

JOINED = ("a.b.a", "a", "")


def test_counts_of_all_molecules():
    assert pieces.count(JOINED) == {"a": 3, "b": 1}


def test_cosine_by_hand():
    reference = {"a": 3, "c": 4}
    found = pieces.cosines(JOINED, reference, np.array([[1.0, 1, 1], [0, 2, 1], [0, 0, 3]]))
    # (3, 1, 0), (2, 0, 0) and (0, 0, 0) with (3, 0, 4)
    assert found.tolist() == pytest.approx([9 / (np.sqrt(10) * 5), 6 / (2 * 5), 0])


def test_nothing_to_compare():
    assert pieces.cosines(("", ""), {"a": 1}, np.ones((1, 2))) is None
    assert pieces.cosines(("a",), {}, np.ones((1, 1))) is None
    assert pieces.cosines(("a",), {"b": 2}, np.ones((1, 1))).tolist() == [0]
