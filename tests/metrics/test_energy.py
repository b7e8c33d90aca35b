import numpy as np
import pytest

from lsd_jax.metrics import energy


def test_value_by_hand():
    d = energy.distances(np.array([[0.0], [1.0]]), np.array([[3.0], [5.0], [6.0]]))
    # Between: 3 5 6 2 4 5, mean 25/6; within: 1, and pairs 2 3 1, mean 2.
    assert energy.energy_distance(d) == pytest.approx(2 * 25 / 6 - 1 - 2)
    with pytest.raises(ValueError, match="at least 2"):
        energy.distances(np.zeros((1, 2)), np.zeros((5, 2)))


def test_it_is_unbiased_and_that_of_two_normals():
    # E|X - Y| of N(0, 1) and N(s, 1) in closed form; s = 0 gives 2 / sqrt(pi).
    from scipy.stats import norm

    shift, rng = 1.0, np.random.default_rng(0)
    gap = shift / np.sqrt(2)
    between = np.sqrt(2) * (2 * norm.pdf(gap) + gap * (2 * norm.cdf(gap) - 1))
    exact = 2 * between - 2 * 2 / np.sqrt(np.pi)
    for mean, wanted in ((0.0, 0.0), (shift, exact)):
        trials = [
            energy.energy_distance(energy.distances(rng.normal(size=(12, 1)), rng.normal(mean, 1, (9, 1))))
            for _ in range(3000)
        ]
        assert np.mean(trials) == pytest.approx(wanted, abs=4 * np.std(trials) / np.sqrt(3000))


def test_p_value_is_uniform_under_one_distribution_and_small_under_two():
    rng = np.random.default_rng(1)
    draw = lambda mean, seed: energy.energy_p_value(
        energy.distances(rng.normal(size=(25, 2)), rng.normal(mean, 1, (20, 2))), seed, 99
    )
    null = np.array([draw(0.0, seed) for seed in range(200)])
    assert np.mean(null <= 0.2) == pytest.approx(0.2, abs=0.09) and null.min() >= 0.01
    assert max(draw(1.5, seed) for seed in range(20)) <= 0.02


def test_interval_has_the_spread_of_fresh_samples():
    rng = np.random.default_rng(2)
    fresh = lambda: energy.distances(rng.normal(size=(80, 2)), rng.normal(0.8, 1, (80, 2)))
    spread = np.std([energy.energy_distance(fresh()) for _ in range(300)])
    widths = [np.subtract(*energy.energy_interval(fresh(), seed)[:0:-1]) for seed in range(20)]
    assert np.mean(widths) / (2 * 1.96) == pytest.approx(spread, rel=0.2)
