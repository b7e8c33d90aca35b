"""Concrete scores against enumeration and the reference's numbers, and back."""

import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import Geometric, LogLinear
from lsd_jax.processes.process import reverse_rate
from lsd_jax.processes.uniform import Uniform

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "sedd_samplers.npz")
S, L = 4, 3


@pytest.fixture(scope="module")
def joint():
    """A distribution over all S^L sequences."""
    return np.random.default_rng(0).dirichlet(np.full(S**L, 0.5)).reshape((S,) * L)


def forward(process, t):
    return np.asarray(process.marginal(jnp.arange(S), jnp.full(S, t)), np.float64)


def noisy_joint(process, joint, t):
    """p_t of every state (num_states,)^L, float64."""
    q = forward(process, t)
    return np.einsum("abc,ai,bj,ck->ijk", joint, q, q, q)


def posterior(q, joint, x):
    """p(x_0 at i = v | x_t = x) by enumeration, (L, S)."""
    weight = np.einsum("abc,a,b,c->abc", joint, *(q[:, token] for token in x))
    weight /= weight.sum()
    return np.stack([weight.sum(tuple(j for j in range(L) if j != i)) for i in range(L)])


def ratios(p_t, x):
    """p_t(x with x_i := v) / p_t(x) for the data tokens v, (L, S)."""
    return np.array([[p_t[(*x[:i], v, *x[i + 1 :])] / p_t[x] for v in range(S)] for i in range(L)])


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
@pytest.mark.parametrize("t", [0.1, 0.6, 0.95])
def test_score_is_the_ratio_of_marginals(kind, t, joint):
    process = kind(S, LogLinear())
    p_t, q = noisy_joint(process, joint, t), forward(process, t)
    states = list(itertools.product(range(process.num_states), repeat=L))
    posteriors = np.array([posterior(q, joint, x) for x in states], np.float32)
    found = np.exp(jax.jit(process.log_score)(jnp.log(posteriors), jnp.array(states), jnp.asarray(t)))
    wanted = np.array([ratios(p_t, x) for x in states])
    read = np.array(states) == process.mask if kind is Absorbing else np.ones((len(states), L), bool)
    np.testing.assert_allclose(found[read], wanted[read], rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_score_from_the_distribution_given_the_other_positions(t, joint):
    process = Uniform(S, LogLinear())
    p_t, q = noisy_joint(process, joint, t), forward(process, t)
    states = list(itertools.product(range(S), repeat=L))
    # p(x_0 at i | x_t elsewhere) is the posterior without the factor q(x_t at i | x_0 at i).
    means = np.array([posterior(q, joint, x) / np.stack([q[:, token] for token in x]) for x in states])
    log_means = jnp.log(jnp.asarray(means / means.sum(-1, keepdims=True), jnp.float32))
    found = np.exp(jax.jit(process.log_score_of_mean)(log_means, jnp.array(states), jnp.asarray(t)))
    np.testing.assert_allclose(found, np.array([ratios(p_t, x) for x in states]), rtol=1e-4)


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
@pytest.mark.parametrize("noise", [LogLinear(), Geometric()], ids=["loglinear", "geometric"])
@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_round_trip(kind, noise, t):
    process = kind(S, noise)
    x = jnp.array([[0, 3, 1], [2, 2, 0]]) if kind is Uniform else jnp.full((2, 3), process.mask)
    log_post = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (2, 3, S)))
    log_score = process.log_score(log_post, x, jnp.asarray(t))
    back = jax.nn.log_softmax(process.log_clean(log_score, x, jnp.asarray(t)))
    np.testing.assert_allclose(jnp.exp(back), jnp.exp(log_post), atol=2e-4)


def test_current_token_has_log_score_zero():
    process, x = Uniform(S, LogLinear()), jnp.array([[0, 3, 1]])
    log_post = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (1, 3, S)))
    log_score = process.log_score(log_post, x, jnp.asarray(0.4))
    np.testing.assert_array_equal(np.take_along_axis(np.asarray(log_score), np.asarray(x)[..., None], -1), 0)


def test_impossible_scores_give_no_negative_probability():
    process, x = Uniform(S, LogLinear()), jnp.array([[0, 3, 1]])
    log_score = jnp.array([4.0, -8.0, 3.0, -9.0])[None, None] * jnp.ones((1, 3, 1))
    log_post = jax.nn.log_softmax(process.log_clean(log_score, x, jnp.asarray(0.9)))
    assert not np.any(np.isnan(log_post))
    np.testing.assert_allclose(jnp.exp(log_post).sum(-1), 1, rtol=1e-5)
    assert np.any(log_post < -20)  # next to nothing


@pytest.mark.parametrize("graph, kind", [("absorb", Absorbing), ("uniform", Uniform)])
def test_reverse_rate_golden(graph, kind):
    process = kind(11, LogLinear())
    x = jnp.asarray(GOLDEN[f"in/{graph}/x"])
    log_score = jnp.asarray(GOLDEN[f"in/{graph}/log_score"][..., :11])
    t = jnp.asarray(0.3)
    found = np.asarray(reverse_rate(process, log_score, x, t) / process.noise.sigma(t))
    wanted = GOLDEN[f"out/{graph}/reverse_rate_normalised"][..., :11]
    other = np.arange(11) != np.asarray(x)[..., None]  # the reference's diagonal is minus the sum; ours is 0
    np.testing.assert_allclose(found[other], wanted[other], rtol=1e-5)
    assert np.all(found[~other] == 0)


def test_uniform_step_golden():
    process = Uniform(11, LogLinear())
    delta = jnp.asarray(GOLDEN["in/dsigma_for_pieces"])
    x, log_score = jnp.asarray(GOLDEN["in/uniform/x"]), jnp.asarray(GOLDEN["in/uniform/log_score"])
    wanted = GOLDEN["out/uniform/staggered_score"] * GOLDEN["out/uniform/transp_transition"]
    for row in range(len(delta)):
        # Staggering reads the network's own value at the current token, which an exact network gives as log 1 = 0.
        current = np.arange(11) == np.asarray(x)[row][:, None]
        found = process.step_probs(log_score[row][None], x[row][None], delta[row, 0])[0]
        scale = np.maximum(wanted[row].max(), 1)
        given = np.asarray(log_score[row])[current]
        assert np.all(given == 0)
        assert np.max(np.abs(found - np.maximum(wanted[row], 0))) / scale < 5e-6


@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_what_sedd_returns(kind):
    """Absorbing: less log(expm1(sigma_bar)) and log S. Uniform: zero at the current token."""
    process, x = kind(S, LogLinear()), jnp.array([[0, 3, 1]])
    logits = jax.random.normal(jax.random.key(0), (1, 3, S))
    sigma_bar = process.noise.sigma_bar(jnp.float32(0.6))
    found = np.asarray(process.log_score_of_sedd(logits, x, sigma_bar))
    if kind is Absorbing:
        np.testing.assert_allclose(found, logits - np.log(np.expm1(float(sigma_bar))) - np.log(S), rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(found, np.where(np.eye(S)[np.asarray(x)] > 0, 0, logits))
