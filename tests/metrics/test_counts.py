import numpy as np
import pytest

from lsd_jax.metrics import bootstrap, counts, ngram

ROWS = np.random.default_rng(0).integers(0, 5, (30, 12))
REFERENCE = ngram.ngram_distribution(
    np.random.default_rng(1).integers(1, 6, (50, 12)), 2, 6
)  # neither holds all of the other


@pytest.mark.parametrize("block", [20_000_000, 100])
def test_it_is_the_bootstrap_of_the_divergences_themselves(monkeypatch, block):
    monkeypatch.setattr(counts, "_BLOCK", block)
    counted = counts.count_events(ngram.ngram_ids(ROWS, 2, 6))
    found = counts.count_intervals(counted, counts.divergences(counted, REFERENCE), seed=3, resamples=40)
    for name, divergence in (("tv", ngram.total_variation), ("js", ngram.jensen_shannon)):
        statistic = lambda rows, d=divergence: d(ngram.ngram_distribution(rows, 2, 6), REFERENCE)
        assert found[name] == pytest.approx(bootstrap.bootstrap_interval(statistic, ROWS, seed=3, resamples=40))


def test_counts_by_sequence():
    counted = counts.count_events(np.array([[7, 7, 2], [2, 9, 9]]))
    assert counted.ids.tolist() == [2, 7, 9]
    assert counted.counts.toarray().tolist() == [[1, 2, 0], [1, 0, 2]]
