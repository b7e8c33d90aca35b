import pytest

from lsd_jax.metrics.ranks import overall_rank, ranks


def test_rank_by_distance_from_the_best():
    row = lambda tv, entropy: {"tv": (tv, tv, tv), "entropy": (entropy, 0.0, 9.0)}
    rows = [row(0.1, 4.0), row(0.1, 5.0), row(0.3, 3.9)]
    assert ranks(rows, "tv", 0.0).tolist() == [1.5, 1.5, 3]
    assert overall_rank(rows, {"tv": 0.0, "entropy": 4.0}).tolist() == [1.25, 2.25, 2.5]
    with pytest.raises(ValueError, match="lack js"):
        overall_rank(rows, {"js": 0.0})
