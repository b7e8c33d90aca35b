"""The measured order of convergence of every kernel, in float64 and by enumeration."""

import functools

import jax
import numpy as np
import pytest

from lsd_jax.samplers.kernels.predictor_corrector import predictor_corrector
from lsd_jax.samplers.kernels.theta import theta_rk2, theta_trapezoidal
from lsd_jax.samplers.registry import get_kernel
from tests.samplers.enumeration import law_after, marginal_law, oracle, step_matrices, total_variation

END, STEPS = 0.05, (32, 64)
STRONG = np.random.default_rng(0).dirichlet(np.full(9, 0.3))  # 3 tokens at 2 positions
# 2 tokens at 3 positions that never halve each other's probability: the trapezoidal rate is not cut off.
WEAK = np.random.default_rng(3).uniform(0.8, 1.2, 8)


@functools.cache
def world(name, probs, size, noise):
    """The exact model, and the exact distributions at time 1 and at the end."""
    probs = np.asarray(probs) / np.sum(probs)
    model = oracle(name, probs, *size, noise)
    return model, [marginal_law(model.process, probs, size[1], t) for t in (1.0, END)]


def errors(kernel, name, probs, size, noise="loglinear") -> np.ndarray:
    """Total variation at a fixed end time, from the exact distribution at time 1: neither the prior nor denoising adds to it."""
    with jax.enable_x64(True):
        model, (start, end) = world(name, tuple(probs), size, noise)
        # One compilation: all grids end to end, and a step back that nobody reads between them.
        times = np.concatenate([np.linspace(1, END, steps + 1) for steps in STEPS])
        matrices = step_matrices(model, kernel, size[1], times)
        assert matrices.dtype == np.float64
        first = np.cumsum([0, *(steps + 1 for steps in STEPS)])
        laws = [law_after(start, matrices[k : k + steps]) for k, steps in zip(first, STEPS)]
        return np.array([total_variation(law, end) for law in laws])


def order(kernel, name, probs, size, **settings) -> float:
    coarse, fine = errors(kernel, name, probs, size, **settings)
    return float(np.log2(coarse / fine))


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
@pytest.mark.parametrize("kernel", ["euler", "tweedie", "ancestral", "tau_leaping", "binomial_leaping", "theta_rk2"])
def test_first_order(kernel, name):
    assert order(get_kernel(kernel), name, STRONG, (3, 2)) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("kernel", ["euler", "ancestral", "tau_leaping"])
def test_first_order_on_ordered_states(kernel):
    assert order(get_kernel(kernel), "gaussian", STRONG, (3, 2)) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("name", ["absorbing", "uniform", "gaussian"])
def test_a_corrector_keeps_the_order_and_the_marginal_distribution(name):
    kernel = predictor_corrector(multiplier=0.3)
    assert order(kernel, name, STRONG, (3, 2)) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_trapezoidal_is_second_order(name):
    assert order(get_kernel("theta_trapezoidal"), name, WEAK, (2, 3)) == pytest.approx(2, abs=0.3)


def test_trapezoidal_at_another_theta_and_noise():
    assert order(theta_trapezoidal(1 / 3), "absorbing", WEAK, (2, 3)) == pytest.approx(2, abs=0.3)
    assert order(theta_trapezoidal(0.4), "uniform", WEAK, (2, 3), noise="cosine") == pytest.approx(2, abs=0.3)


def test_trapezoidal_loses_an_order_where_its_rate_is_cut_off():
    """As the module says; its error stays well below Tweedie's at the same number of steps."""
    trapezoidal, tweedie = (
        errors(get_kernel(k), "absorbing", STRONG, (3, 2)) for k in ("theta_trapezoidal", "tweedie")
    )
    assert np.log2(trapezoidal[0] / trapezoidal[1]) == pytest.approx(1, abs=0.3)
    assert (trapezoidal < 0.5 * tweedie).all()


def test_bad_theta_and_corrector_are_told():
    for make in (theta_trapezoidal, theta_rk2):
        with pytest.raises(ValueError, match="^theta=0.0: "):
            make(0.0)
    with pytest.raises(ValueError, match="^correctors=0: "):
        predictor_corrector(correctors=0)
