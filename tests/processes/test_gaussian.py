"""The discretized Gaussian process against tauLDR's numbers, and its scores against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from lsd_jax.processes.gaussian import DiscretizedGaussian, base_rate, stationary_distribution
from lsd_jax.processes.noise import Exponential
from lsd_jax.processes.process import reverse_rate

CIFAR = np.load("tests/golden/tauldr_rate_s256.npz")
SMALL = np.load("tests/golden/tauldr_unet.npz")  # 16 states
PROCESS = DiscretizedGaussian(256, Exponential())


def test_base_rate_and_prior_golden():
    rate, rows = base_rate(256, 6.0, 512.0), CIFAR["in/rows"]
    np.testing.assert_allclose(rate[rows], CIFAR["out/base_rate_rows"], atol=2e-6)
    np.testing.assert_allclose(np.diag(rate), CIFAR["out/base_rate_diag"], atol=2e-6)
    np.testing.assert_allclose(rate.sum(0), CIFAR["out/base_rate_colsum"], atol=2e-6)
    assert (rate.astype(np.float32) != 0).sum() == CIFAR["out/base_rate_nonzero_count"]
    prior = np.exp(PROCESS.prior_log_prob(jnp.arange(256)[:, None]))
    np.testing.assert_allclose(prior, CIFAR["out/initial_dist_gaussian"], atol=2e-6)
    np.testing.assert_allclose(base_rate(16, 3.0, 16.0), SMALL["out/base_rate"], atol=2e-6)


def test_noise_golden():
    t = jnp.asarray(CIFAR["in/t"])
    np.testing.assert_allclose(PROCESS.noise.sigma(t), CIFAR["out/rate_scalar"], rtol=2e-6)
    np.testing.assert_allclose(PROCESS.noise.sigma_bar(t), CIFAR["out/integral_rate_scalar"], rtol=2e-6)


def test_transition_golden_at_256_states():
    transition = jax.jit(PROCESS.transition)
    for index, t in enumerate(CIFAR["in/t"]):
        found = np.asarray(transition(PROCESS.noise.sigma_bar(t)))
        truth = CIFAR["out/transition_rows_float64_truth"][index]
        np.testing.assert_allclose(found[CIFAR["in/rows"]], truth, atol=2e-6)
        # An eigendecomposition in float32 is off by its largest entry's rounding everywhere; this is not.
        likely = truth > 1e-9
        np.testing.assert_allclose(found[CIFAR["in/rows"]][likely], truth[likely], rtol=2e-5)
        assert found.min() >= 0
        np.testing.assert_allclose(found.sum(1), 1, atol=2e-6)


def test_transition_and_rate_golden_at_16_states():
    process = DiscretizedGaussian(16, Exponential(), 3.0, 16.0)
    t = jnp.asarray(SMALL["in/rate_t"])
    found = process.transition(process.noise.sigma_bar(t))  # a batch of durations
    np.testing.assert_allclose(found, SMALL["out/transition_float64_truth"], atol=2e-6)
    rate = process.noise.sigma(t)[:, None, None] * process.rate_matrix()[None]
    np.testing.assert_allclose(rate, SMALL["out/rate"], rtol=1e-5)


def test_tails_keep_their_digits_and_their_gradient():
    process = DiscretizedGaussian(12, Exponential(), 1.0, 6.0)
    truth = base_rate(12, 1.0, 6.0) * 1e-3
    # The corner takes many jumps, one entry of 1e-30: a sum of positive terms has it, float64's expm does not.
    chain, power, wanted = truth / -np.diag(truth).min() + np.eye(12), np.eye(12), 0.0
    for k in range(40):
        wanted = (
            wanted
            + np.exp(np.diag(truth).min())
            * (-np.diag(truth).min()) ** k
            / float(np.prod(np.arange(1.0, k + 1)))
            * power
        )
        power = power @ chain
    found = np.asarray(process.transition(jnp.float32(1e-3)))
    seen = wanted > 1e-36
    np.testing.assert_allclose(found[seen], wanted[seen], rtol=1e-4)
    for duration in (1e-3, 0.4, 5.0):
        slope = jax.jvp(process.transition, (jnp.float32(duration),), (jnp.float32(1.0),))[1]
        rate = base_rate(12, 1.0, 6.0)
        np.testing.assert_allclose(slope, rate @ expm(rate * duration), atol=2e-5)


def test_the_prior_is_stationary_for_an_odd_number_of_states_too():
    for states in (16, 17):
        law, rate = stationary_distribution(states, 4.0), base_rate(states, 3.0, 4.0)
        np.testing.assert_allclose(law @ rate, 0, atol=1e-12)


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9])
def test_score_is_the_ratio_of_marginals(t):
    S, L = 5, 2
    process = DiscretizedGaussian(S, Exponential(time_base=0.3), 1.5, 4.0)
    joint = np.random.default_rng(0).dirichlet(np.full(S**L, 0.5)).reshape((S,) * L)
    q = expm(base_rate(S, 1.5, 4.0) * float(process.noise.sigma_bar(jnp.float32(t))))
    p_t = np.einsum("ab,ai,bj->ij", joint, q, q)
    rate = float(process.noise.sigma(jnp.float32(t))) * base_rate(S, 1.5, 4.0)
    states = list(itertools.product(range(S), repeat=L))
    weight = np.stack([joint * q[:, x[0]][:, None] * q[:, x[1]][None] for x in states])
    weight /= weight.sum((1, 2), keepdims=True)
    log_post = jnp.log(jnp.asarray(np.stack([weight.sum(2), weight.sum(1)], 1), jnp.float32))

    @jax.jit
    def scores_and_rates(log_post, x, t):
        log_score = process.log_score(log_post, x, t)
        return jnp.exp(process.log_concrete_score(log_score, x, t)), reverse_rate(process, log_score, x, t)

    found, rates = scores_and_rates(log_post, jnp.array(states), jnp.float32(t))
    for x, found_LS, rates_LS in zip(states, np.asarray(found), np.asarray(rates)):
        for i, v in itertools.product(range(L), range(S)):
            neighbor = (*x[:i], v, *x[i + 1 :])
            ratio = p_t[neighbor] / p_t[x]
            np.testing.assert_allclose(found_LS[i, v], ratio, rtol=1e-4)
            np.testing.assert_allclose(rates_LS[i, v], (v != x[i]) * rate[v, x[i]] * ratio, rtol=1e-4)


@pytest.mark.parametrize("output", ["mean", "score"])
def test_networks_that_have_no_meaning_here_are_refused(output):
    convert = {"mean": PROCESS.log_score_of_mean, "score": PROCESS.log_score_of_sedd}[output]
    with pytest.raises(ValueError, match=f"^output='{output}': .*the gaussian process reads 'posterior'"):
        convert(jnp.zeros((1, 1, 256)), jnp.zeros((1, 1), jnp.int32), jnp.float32(0.5))


def test_quantile_is_monotone_and_ends_inside():
    x0 = jnp.full(5, 100)
    drawn = PROCESS.quantile(jnp.array([0, 1 << 30, 1 << 31, 15 << 28, 2**32 - 1], jnp.uint32), x0, jnp.float32(0.2))
    assert np.all(np.diff(drawn) >= 0) and drawn[0] >= 0 and drawn[-1] <= 255
    median = np.cumsum(np.asarray(PROCESS.marginal(jnp.int32(100), jnp.float32(0.2)))).searchsorted(0.5)
    assert drawn[2] == median
