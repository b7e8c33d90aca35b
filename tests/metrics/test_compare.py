import numpy as np
import pytest

from lsd_jax.metrics.compare import compare, holm


def test_pairs_by_all_sign_flips():
    # Of 2^3 sign patterns of (-1, -2, -3) only the observed one is as low; with +1 two more are: -1-2-3 and +1-2-3.
    zeros = np.zeros(3)
    assert compare(np.array([-1.0, -2, -3]), zeros, paired=True).p == pytest.approx(1 / 8)
    found = compare(np.array([1.0, -2, -3]), zeros, paired=True)
    assert found.p == pytest.approx(2 / 8)
    assert found.effect == pytest.approx(-4 / 3) and found.low <= found.effect <= found.high
    assert compare(zeros, zeros, paired=True).p == 1


@pytest.mark.parametrize("paired", [True, False])
def test_p_is_uniform_without_a_difference_and_small_with_one(paired):
    rng = np.random.default_rng(0)
    draw = lambda shift: compare(rng.normal(shift, 1, 30), rng.normal(size=30), paired, permutations=199).p
    null = np.array([draw(0.0) for _ in range(300)])
    assert np.mean(null <= 0.1) == pytest.approx(0.1, abs=0.055)
    assert np.mean([draw(-1.2) for _ in range(20)]) < 0.02
    assert np.mean([draw(1.2) for _ in range(20)]) > 0.98


def test_pairing_sees_through_what_both_share():
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 10, 100)
    a, b = shared + rng.normal(-0.5, 1, 100), shared + rng.normal(0, 1, 100)
    assert compare(a, b, paired=True).p < 0.01 < compare(a, b, paired=False).p
    paired, unpaired = compare(a, b, paired=True), compare(a, b, paired=False)
    assert paired.high < 0 < unpaired.high and paired.effect == pytest.approx(unpaired.effect)
    # The standard error of the unpaired difference: sqrt(2 * 101 / 100).
    assert (unpaired.high - unpaired.low) / (2 * 1.96) == pytest.approx(np.sqrt(2.02), rel=0.2)


def test_sides_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="as many"):
        compare(np.zeros(3), np.zeros(4), paired=True)
    with pytest.raises(ValueError, match="both sides"):
        compare(np.zeros(0), np.zeros(4), paired=False)


def test_holm_s_correction_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.6]), [1, 1])
    assert holm([]).shape == (0,)
