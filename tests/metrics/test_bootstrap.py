import numpy as np
import pytest

from lsd_jax.metrics import bootstrap


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    trials = [bootstrap.bootstrap_interval(np.mean, rng.normal(size=80), seed, level=0.8) for seed in range(400)]
    covered = np.mean([low <= 0 <= high for _, low, high in trials])
    assert covered == pytest.approx(0.8, abs=0.06)  # three standard errors of 400 trials


def test_whole_sequences_are_resampled():
    # Tokens of a sequence are all equal: as 8 sequences the mean's error is 0.5 / sqrt(8), as 800 tokens a tenth of it.
    values = np.repeat([0.0, 1.0], 4)[:, None] * np.ones(100)
    _, low, high = bootstrap.bootstrap_interval(np.mean, values, resamples=2000)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.5 / np.sqrt(8), rel=0.15)


def test_seed_decides_and_level_widens():
    values = np.random.default_rng(1).normal(size=50)
    draw = lambda seed, level: bootstrap.bootstrap_interval(np.mean, values, seed, level=level)
    assert draw(0, 0.95) == draw(0, 0.95) != draw(1, 0.95)
    assert draw(0, 0.99)[1] < draw(0, 0.5)[1] < draw(0, 0.5)[2] < draw(0, 0.99)[2]


def test_constant_values_have_no_spread():
    assert bootstrap.mean_interval(np.full(7, 2.5)) == (2.5, 2.5, 2.5)


def test_the_interval_of_a_share_is_one():
    # Four of five: the percentiles' shift alone would end above one.
    for values in ([1, 1, 1, 0, 1], [0, 0, 0, 1, 0]):
        mean, low, high = bootstrap.mean_interval(np.array(values), resamples=20)
        assert 0 <= low < mean < high <= 1 and (low == 0 or high == 1)
    assert bootstrap.shifted_interval(0.9, [0.2, 1.0], least=0.0, most=1.0)[2] == 1.0
    assert bootstrap.shifted_interval(0.9, [0.2, 1.0])[2] > 1


def test_weights_draw_the_same_resamples():
    values = np.random.default_rng(2).normal(size=40)
    drawn = bootstrap.resample_weights(40, seed=3, resamples=60) @ values / 40
    wanted = bootstrap.bootstrap_interval(np.mean, values, seed=3, resamples=60)
    assert bootstrap.shifted_interval(values.mean(), drawn) == pytest.approx(wanted)
    assert bootstrap.shifted_interval(1.5, []) == (1.5, 1.5, 1.5)
