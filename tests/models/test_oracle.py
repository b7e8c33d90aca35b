import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior, markov_log_posterior
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process
from lsd_jax.tasks.chain_laws import countdown

S, L = 4, 4
INITIAL, TRANSITION = countdown(S, 0.05)
SEQUENCES = all_sequences(S, L)
PROBS = INITIAL[SEQUENCES[:, 0]] * TRANSITION[SEQUENCES[:, :-1], SEQUENCES[:, 1:]].prod(1)


@pytest.mark.parametrize("name", ["absorbing", "uniform", "gaussian"])
def test_forward_backward_is_enumeration_is_bayes(name):
    process = make_process(name, S, make_noise("loglinear"))
    t = jnp.float32(0.6)
    x = process.corrupt(jax.random.key(0), jnp.asarray(SEQUENCES[::7]), t)
    likelihood = np.ones((len(x), S**L))
    marginal = np.asarray(process.marginal(jnp.arange(S), jnp.full(S, t)))
    for i in range(L):
        likelihood *= marginal[SEQUENCES[:, i]][:, np.asarray(x)[:, i]].T
    joint = likelihood * PROBS
    joint /= joint.sum(1, keepdims=True)
    bayes = np.stack([[joint[:, SEQUENCES[:, i] == v].sum(1) for v in range(S)] for i in range(L)])
    bayes = bayes.transpose(2, 0, 1)
    chain = jnp.exp(markov_log_posterior(process, INITIAL, TRANSITION)(x, t))
    np.testing.assert_allclose(chain, bayes, atol=2e-5)
    enumerated = jnp.exp(enumerated_log_posterior(process, PROBS, L)(x, t))
    np.testing.assert_allclose(enumerated, bayes, atol=2e-5)


def test_long_chains_stay_finite_where_contexts_contradict_themselves():
    initial, transition = countdown(32, 0.003)
    process = make_process("absorbing", 32, make_noise("loglinear"))
    x = jax.random.randint(jax.random.key(1), (3, 256), 0, 33)
    posterior = markov_log_posterior(process, initial, transition)(x, jnp.float32(0.5))
    masked = np.asarray(posterior)[np.asarray(x) == 32]
    assert np.isfinite(masked).all()
    np.testing.assert_allclose(np.exp(masked).sum(-1), 1, atol=1e-4)


def test_a_chain_with_zeros_is_refused():
    process = make_process("absorbing", 4, make_noise("loglinear"))
    with pytest.raises(ValueError, match="mix=0: must be positive"):
        markov_log_posterior(process, *countdown(4, 0.0))
    with pytest.raises(ValueError, match="shapes"):
        markov_log_posterior(process, *countdown(5, 0.1))
    with pytest.raises(ValueError, match="entries"):
        enumerated_log_posterior(process, np.ones(3) / 3, 2)
