"""The exact gradients of an enumerated toy, and what estimates of them are worth."""

import functools

import jax
import numpy as np
import pytest

from measurements import gradient_estimators as bench

SEQUENCES = 2**15


@functools.cache
def gradient_of(loss, **fixed):
    """Autodiff of an exact loss, compiled once for all cases."""
    return jax.jit(jax.grad(functools.partial(loss, **fixed), 1))


def exact_gradient(loss, case, **fixed):
    """The gradient (M,) of an exact loss at a case."""
    return np.asarray(gradient_of(loss, **fixed)(*case_of(case)), np.float64)


def case_of(case):
    seed, point = bench.CASES[case]
    return bench.random_distribution(seed), np.array(point, np.float32)


@functools.cache
def groups_of(name):
    """A function of key, distribution and point that gives estimates, compiled once per estimator."""
    return bench.group_means(bench.estimators()[name][0], SEQUENCES)


def measured(name, case=0):
    """Estimates (G, M) of a case."""
    return groups_of(name)(jax.random.key(1), *case_of(case))


@pytest.mark.parametrize("loss", [bench.exact_alignment, bench.exact_path_kl])
def test_exact_gradients_are_the_finite_differences(loss):
    numeric = bench.finite_differences(jax.jit(loss), *case_of(0))
    np.testing.assert_allclose(exact_gradient(loss, 0), numeric, atol=1e-3)


@pytest.mark.parametrize("name", ["score function, leave-one-out", "path KL"])
def test_unbiased_estimators(name):
    groups = measured(name)
    error = groups.std(0, ddof=1) / np.sqrt(len(groups))
    assert (np.abs(groups.mean(0) - exact_gradient(bench.estimators()[name][1], 0)) < 4 * error + 1e-6).all()


def test_the_detached_gradient_leaves_the_states_out():
    exact, groups = exact_gradient(bench.exact_alignment, 0), measured("detached (paper)")
    fixed = exact_gradient(bench.exact_alignment, 0, fixed_states=True)
    error = groups.std(0, ddof=1) / np.sqrt(len(groups))
    assert (np.abs(groups.mean(0) - fixed) < 4 * error + 1e-5).all()
    assert np.abs(groups.mean(0) - exact)[:2].min() > 0.08
    assert bench.cosine(groups.mean(0), exact) == pytest.approx(0.992, abs=0.003)


@pytest.mark.parametrize(("case", "whole", "through_states"), [(0, 0.994, 0.40), (2, 0.993, -0.44)])
def test_what_the_unrolled_gradient_is_worth(case, whole, through_states):
    """Not unbiased, though right for masks: the exact denoiser's answer to a half-revealed token is far from linear."""
    exact, mean = exact_gradient(bench.exact_alignment, case), measured("unrolled, sharpness 1", case).mean(0)
    fixed = exact_gradient(bench.exact_alignment, case, fixed_states=True)
    assert bench.cosine(mean, exact) == pytest.approx(whole, abs=0.004)
    assert bench.cosine(mean - fixed, exact - fixed) == pytest.approx(through_states, abs=0.15)
