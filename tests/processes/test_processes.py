import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.noise import Cosine, Exponential, Geometric, LogLinear
from lsd_jax.processes.process import make_process, mean_tokens
from lsd_jax.processes.uniform import Uniform

S = 5
TOKENS = jnp.arange(S)
PROCESSES = (
    Absorbing(S, LogLinear()),
    Uniform(S, LogLinear()),
    Absorbing(S, Cosine()),
    Uniform(S, Geometric()),
    DiscretizedGaussian(S, Exponential(), rate_sigma=2.0, q_sigma=6.0),
    DiscretizedGaussian(S, LogLinear(), rate_sigma=1.0, q_sigma=2.0),
    Absorbing(S, LogLinear(), lengths=(0.1, 0.3, 0.6)),
)


@functools.partial(jax.jit, static_argnums=0)
def corrupt(process, key, x, t):
    return process.corrupt(key, x, t)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("t", [0.03, 0.5, 0.9])
def test_marginal_solves_the_forward_equation(process, t):
    rates = np.asarray(process.rate_matrix(), np.float64)
    np.testing.assert_allclose(rates.sum(1), 0, atol=1e-6)
    rates -= np.diag(rates.sum(1))  # float32's rounding, which a long duration multiplies
    wanted = expm(rates * float(process.noise.sigma_bar(jnp.asarray(t))))[:S]
    np.testing.assert_allclose(process.marginal(TOKENS, jnp.full(S, t)), wanted, atol=1e-6)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize("t", [0.2, 0.7])
def test_corrupt_draws_the_marginal(process, t):
    draws = 40_000
    x0 = jnp.broadcast_to(TOKENS[None], (draws, S))
    x = corrupt(process, jax.random.key(0), x0, jnp.asarray(t))
    found = jax.nn.one_hot(x, process.num_states).mean(0)
    wanted = np.asarray(process.marginal(TOKENS, jnp.full(S, t)))
    error = np.sqrt(wanted * (1 - wanted) / draws)
    assert x.dtype == jnp.int32
    assert np.all(np.abs(found - wanted) <= 4.5 * error)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_corrupt_takes_a_time_per_sequence(process):
    x0 = jnp.zeros((2, 4000), jnp.int32)
    x = corrupt(process, jax.random.key(1), x0, jnp.array([[1e-4], [1.0]]))
    changed = np.asarray(x != 0).mean(1)
    limit = 1 - float(process.marginal(jnp.int32(0), jnp.float32(1.0))[0])
    assert changed[0] < 0.01
    np.testing.assert_allclose(changed[1], limit, atol=0.03)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_base_rate_is_a_column_of_the_rate_matrix(process):
    x = jnp.arange(process.num_states)
    columns = np.asarray(process.rate_matrix()).T[:, :S]
    columns = np.where(np.eye(process.num_states)[:, :S] > 0, 0, columns)
    np.testing.assert_allclose(process.reverse_base_rate(x), columns, atol=1e-7)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_prior_log_prob_sums_to_one(process):
    states = jnp.stack(jnp.meshgrid(jnp.arange(process.num_states), jnp.arange(process.num_states)), -1).reshape(-1, 2)
    np.testing.assert_allclose(jnp.exp(process.prior_log_prob(states)).sum(), 1, rtol=1e-5)


def test_prior_samples():
    absorbing, uniform = PROCESSES[:2]
    assert np.all(absorbing.prior_sample(jax.random.key(0), (3, 4)) == S)
    draws = np.bincount(uniform.prior_sample(jax.random.key(0), (100, 100)).ravel(), minlength=S) / 1e4
    assert len(draws) == S
    np.testing.assert_allclose(draws, 1 / S, atol=0.02)


def test_make_process():
    assert make_process("uniform", S, LogLinear()) == Uniform(S, LogLinear())
    gaussian = make_process("gaussian", S, Exponential(), q_sigma=3.0)
    assert gaussian == DiscretizedGaussian(S, Exponential(), q_sigma=3.0)
    with pytest.raises(ValueError, match="^name='uniform': has no setting.*q_sigma"):
        make_process("uniform", S, LogLinear(), q_sigma=3.0)
    with pytest.raises(ValueError, match="^name='masked': choose one of"):
        make_process("masked", S, LogLinear())


def test_a_pad_is_no_token():
    rows = np.array([[0, 1, 4], [2, 4, 4]])
    assert mean_tokens(Absorbing(S, LogLinear(), lengths=(0.0, 0.2, 0.3, 0.5)), rows) == 1.5
    assert mean_tokens(Absorbing(S, LogLinear()), rows) == mean_tokens(Uniform(S, LogLinear()), rows) == 3
