import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.metrics.bound import m_step_nll, many_step_nll
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.models.score_fn import posterior_score_fn
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.simulate import simulate, uniform_schedule

S, L = 3, 3
PROBS = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3))
PROCESS = make_process("absorbing", S, make_noise("loglinear"))
SCORE = posterior_score_fn(PROCESS, enumerated_log_posterior(PROCESS, PROBS, L))
SEQUENCES = all_sequences(S, L)


def expected_nll(schedule, coupling, law, draws=3000):
    """The mean bound over sequences of `law`, and for each sequence."""
    x0 = jnp.asarray(np.repeat(SEQUENCES, draws, 0))
    keys = sequence_keys(jax.random.key(0), len(x0))
    args = (keys, PROCESS, get_kernel("euler"), SCORE, schedule, Coupling(coupling))
    by_sequence = np.asarray(m_step_nll(*args, x0)).reshape(S**L, draws).mean(1)
    return (law * by_sequence).sum(), by_sequence


@pytest.mark.parametrize("coupling", ["iid", "low_discrepancy"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_it_bounds_the_likelihood_of_the_few_step_sampler(coupling, temperature):
    schedule = uniform_schedule(2, temperature)
    _, by_sequence = expected_nll(schedule, coupling, PROBS)
    tokens = simulate(
        jax.random.key(1), PROCESS, get_kernel("euler"), SCORE, schedule, Coupling(coupling), 200_000, L
    ).tokens
    own = np.bincount(np.asarray(tokens) @ S ** np.arange(L)[::-1], minlength=S**L) / len(tokens)
    common = own > 0.01
    assert (by_sequence[common] > -np.log(own[common]) - 0.05).all()


def test_no_temperature_lowers_it_below_the_entropy():
    entropy = -(PROBS * np.log(PROBS)).sum()
    bounds = {T: expected_nll(uniform_schedule(3, T), "iid", PROBS, 1000)[0] for T in (0.5, 0.7, 1.0, 1.5)}
    assert min(bounds.values()) > entropy - 0.02
    assert bounds[0.5] > bounds[1.0] and bounds[1.5] > bounds[1.0]


def test_many_steps_of_the_exact_denoiser_reach_the_entropy():
    entropy = -(PROBS * np.log(PROBS)).sum()
    assert expected_nll(uniform_schedule(64), "iid", PROBS, 500)[0] == pytest.approx(entropy, abs=0.05)
    rng = np.random.default_rng(2)
    x0 = jnp.asarray(SEQUENCES[rng.choice(S**L, 4000, p=PROBS)])
    nll = many_step_nll(sequence_keys(jax.random.key(3), 4000), PROCESS, SCORE, x0, draws=16)
    error = float(nll.std()) / np.sqrt(4000)
    assert float(nll.mean()) == pytest.approx(entropy, abs=4 * error)


UNIFORM = make_process("uniform", S, make_noise("loglinear"))
UNIFORM_SCORE = posterior_score_fn(UNIFORM, enumerated_log_posterior(UNIFORM, PROBS, L))


def test_uniform_bound_lies_above_the_sampler_and_falls_to_the_entropy():
    """The M-step bound is the D3PM bound of the few-step sampler: above its exact -log p, tight in the limit."""
    entropy = -(PROBS * np.log(PROBS)).sum()
    rng = np.random.default_rng(4)
    x0 = jnp.asarray(SEQUENCES[rng.choice(S**L, 20_000, p=PROBS)])
    keys, excess = sequence_keys(jax.random.key(3), len(x0)), {}
    for steps in (2, 8, 64):
        args = (keys, UNIFORM, get_kernel("tweedie"), UNIFORM_SCORE, uniform_schedule(steps), Coupling("iid"), x0)
        excess[steps] = float(jnp.mean(m_step_nll(*args))) - entropy
    assert excess[2] > excess[8] > excess[64] > -0.02 and excess[64] < 0.05
    many = many_step_nll(keys, UNIFORM, UNIFORM_SCORE, x0, draws=8)
    assert float(many.mean()) == pytest.approx(entropy, abs=0.1)
    tokens = simulate(
        jax.random.key(1),
        UNIFORM,
        get_kernel("tweedie"),
        UNIFORM_SCORE,
        uniform_schedule(2),
        Coupling("iid"),
        200_000,
        L,
    ).tokens
    own = np.bincount(np.asarray(tokens) @ S ** np.arange(L)[::-1], minlength=S**L) / len(tokens)
    nll = m_step_nll(keys, UNIFORM, get_kernel("tweedie"), UNIFORM_SCORE, uniform_schedule(2), Coupling("iid"), x0)
    index = np.asarray(x0) @ S ** np.arange(L)[::-1]
    by_sequence = np.bincount(index, np.asarray(nll), S**L) / np.maximum(np.bincount(index, minlength=S**L), 1)
    common = (own > 0.02) & (np.bincount(index, minlength=S**L) > 300)
    assert common.any() and (by_sequence[common] > -np.log(own[common]) - 0.1).all()


def test_uniform_bound_needs_independent_draws():
    args = (UNIFORM, get_kernel("euler"), UNIFORM_SCORE, uniform_schedule(2), Coupling("low_discrepancy"))
    with pytest.raises(ValueError, match="iid"):
        m_step_nll(sequence_keys(jax.random.key(0), 2), *args, jnp.zeros((2, L), jnp.int32))
