import numpy as np
import pytest

from lsd_jax.metrics import bootstrap, chain, ngram
from lsd_jax.tasks.chain_laws import countdown, sample_chain


def test_ngram_distributions_by_hand():
    law = ngram.ngram_distribution(np.array([[0, 1, 0, 1], [1, 1, 1, 1]]), 2, 2)
    assert dict(zip(law.ids.tolist(), law.probs.tolist(), strict=True)) == pytest.approx({1: 2 / 6, 2: 1 / 6, 3: 3 / 6})
    other = ngram.ngram_distribution(np.array([[0, 0, 0, 0]]), 2, 2)
    assert ngram.total_variation(law, law) == 0 and ngram.total_variation(law, other) == pytest.approx(1)
    assert ngram.jensen_shannon(law, law) == 0 and ngram.jensen_shannon(law, other) == pytest.approx(1)
    half = ngram.ngram_distribution(np.array([[0, 0, 1]]), 1, 2)
    assert ngram.total_variation(half, ngram.ngram_distribution(np.array([[0, 1]]), 1, 2)) == pytest.approx(1 / 6)
    with pytest.raises(ValueError, match="at least 5"):
        ngram.ngram_distribution(np.zeros((1, 4), int), 5, 2)


def test_unigram_entropy_by_hand():
    entropy = ngram.unigram_entropy(np.array([[0, 1, 0, 1], [2, 2, 2, 2], [0, 1, 2, 3]]), 4)
    assert entropy.tolist() == pytest.approx([1.0, 0.0, 2.0])


def test_countdown_errors_by_hand():
    tokens = np.array([[3, 2, 1, 0, 5], [3, 2, 9, 0, 0]])  # wrong: 2->9, 9->0, 0->0
    errors = chain.countdown_errors(tokens)
    assert errors["wrong_per_transition"] == pytest.approx(3 / 8)
    assert errors["wrong_jys_count"] == pytest.approx(
        1 / 10
    )  # 2->9 is skipped, 0->0 allowed, both first tokens counted
    assert errors["sequences_with_violation"] == pytest.approx(1 / 2)


def test_exact_samples_score_at_the_floor():
    initial, transition = countdown(8, 0.02)
    exact = sample_chain(np.random.default_rng(0), initial, transition, 4000, 32)
    wrong = np.random.default_rng(1).integers(0, 8, exact.shape)
    assert chain.transition_kl(exact, transition) < 0.001 < 0.5 < chain.transition_kl(wrong, transition)
    assert (
        chain.transition_tv(exact, initial, transition) < 0.01 < 0.5 < chain.transition_tv(wrong, initial, transition)
    )
    by_hand = np.log(initial[3]) + np.log(transition[3, 2]) + np.log(transition[2, 7])
    assert chain.exact_log_prob(np.array([[3, 2, 7]]), initial, transition)[0] == pytest.approx(by_hand)


def test_bootstrap_interval_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(2.0, 3.0, 2000)
    mean, low, high = bootstrap.mean_interval(values)
    half = 1.96 * 3 / np.sqrt(2000)
    assert mean == pytest.approx(values.mean())
    assert low == pytest.approx(mean - half, abs=0.03) and high == pytest.approx(mean + half, abs=0.03)


def test_bootstrap_interval_holds_a_divergence_that_resampling_inflates():
    rng = np.random.default_rng(0)
    reference = ngram.ngram_distribution(rng.integers(0, 9, (2000, 16)), 3, 9)
    rows = rng.integers(0, 9, (60, 16))
    statistic = lambda drawn: ngram.total_variation(ngram.ngram_distribution(drawn, 3, 9), reference)
    value, low, high = bootstrap.bootstrap_interval(statistic, rows)
    assert low < value < high and value == statistic(rows)
