import numpy as np
import pytest
from scipy.integrate import quad

from lsd_jax.metrics import mauve


def test_frontier_area_of_two_coins_by_integration():
    p, q = np.array([0.9, 0.1]), np.array([0.2, 0.8])
    kl = lambda a, b: (a * np.log(a / b)).sum()
    mixture = lambda share: share * p + (1 - share) * q
    x = lambda share: np.exp(-5 * kl(q, mixture(share)))
    y = lambda share: np.exp(-5 * kl(p, mixture(share)))
    slope = lambda share: (x(share + 1e-5) - x(share - 1e-5)) / 2e-5
    area, _ = quad(lambda share: -y(share) * slope(share), 1e-4, 1 - 1e-4)
    # What is left and right of the curve's own ends, where it is joined to the axes.
    area += x(1) * (y(1) + 1) / 2
    found = mauve.frontier_area(p[None], q[None])[0]
    assert found == pytest.approx(area, abs=0.01)
    assert found == pytest.approx(mauve.frontier_area(q[None], p[None])[0])


def test_equal_distributions_score_one_and_disjoint_ones_next_to_nothing():
    laws = np.array([[0.3, 0.7, 0.0], [0.0, 0.0, 1.0]])
    assert mauve.frontier_area(laws, laws).tolist() == pytest.approx([1, 1])
    assert mauve.frontier_area(laws[:1], laws[1:])[0] < 0.05


def test_it_falls_with_the_distance_and_its_interval_covers_another_sample():
    rng = np.random.default_rng(0)
    draw = lambda shift: rng.normal(shift, 1, (200, 4))
    reference = draw(0.0)
    value, low, high = mauve.mauve_like(draw(0.0), reference)
    assert low < value < high and value > 0.8
    assert value > mauve.mauve_like(draw(0.7), reference)[0] > mauve.mauve_like(draw(2.0), reference)[0]
    again = [mauve.mauve_like(draw(0.7), reference, resamples=0)[0] for _ in range(12)]
    value, low, high = mauve.mauve_like(draw(0.7), reference)
    assert np.mean([low - (high - low) / 2 < other < high + (high - low) / 2 for other in again]) > 0.8
    with pytest.raises(ValueError, match="at least 20"):
        mauve.mauve_like(reference[:10], reference)


def test_the_seed_decides():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(60, 3)), rng.normal(0.3, 1, (50, 3))
    assert mauve.mauve_like(a, b) == mauve.mauve_like(a, b)
