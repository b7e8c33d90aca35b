"""The M-step ELBO and the continuous-time one: bounds of the sampler's own likelihood, and what they fall to."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.processes.noise import LogLinear
from lsd_jax.samplers.continuous import continuous_time_nats, continuous_time_nll
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.likelihood import elbo_nats, likelihood, m_step_nll
from lsd_jax.samplers.sampler import sampler
from tests.samplers.enumeration import draw, exact_law, frequencies, oracle

S, L = 3, 3
PROBS = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3))
ENTROPY = -(PROBS * np.log(PROBS)).sum()
MODEL, UNIFORM = (oracle(name, PROBS, S, L) for name in ("absorbing", "uniform"))
SEQUENCES = all_sequences(S, L)
elbo = jax.jit(m_step_nll)
continuous = jax.jit(continuous_time_nll, static_argnums=3)


def expected_nll(euler, law, draws=3000):
    """The mean ELBO over sequences of `law`, and for each sequence."""
    x0 = jnp.asarray(np.repeat(SEQUENCES, draws, 0))
    keys = sequence_keys(jax.random.key(0), len(x0))
    by_sequence = np.asarray(elbo(keys, MODEL, euler.bound_to(MODEL, L), x0)).reshape(S**L, draws).mean(1)
    return (law * by_sequence).sum(), by_sequence


@pytest.mark.parametrize("coupling", ["iid", "low_discrepancy"])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_it_bounds_the_likelihood_of_the_few_step_sampler(coupling, temperature):
    euler = sampler("euler", 2, temperature=temperature, coupling=Coupling(coupling))
    _, by_sequence = expected_nll(euler, PROBS)
    own = frequencies(draw(jax.random.key(1), MODEL, euler.bound_to(MODEL, L), 200_000).tokens, S)
    common = own > 0.01
    assert (by_sequence[common] > -np.log(own[common]) - 0.05).all()


def test_no_temperature_lowers_it_below_the_entropy():
    bounds = {T: expected_nll(sampler("euler", 3, temperature=T), PROBS, 1000)[0] for T in (0.5, 0.7, 1.0, 1.5)}
    assert min(bounds.values()) > ENTROPY - 0.02
    assert bounds[0.5] > bounds[1.0] and bounds[1.5] > bounds[1.0]


def test_many_steps_of_the_exact_denoiser_reach_the_entropy():
    assert expected_nll(sampler("euler", 64), PROBS, 500)[0] == pytest.approx(ENTROPY, abs=0.05)
    rng = np.random.default_rng(2)
    x0 = jnp.asarray(SEQUENCES[rng.choice(S**L, 4000, p=PROBS)])
    nll = continuous(sequence_keys(jax.random.key(3), 4000), x0, MODEL, 16)
    error = float(nll.std()) / np.sqrt(4000)
    assert float(nll.mean()) == pytest.approx(ENTROPY, abs=4 * error)


@pytest.mark.slow
def test_uniform_elbo_lies_above_the_sampler_and_falls_to_the_entropy():
    """The M-step ELBO is the D3PM bound of the few-step sampler: above its exact -log p, tight in the limit."""
    rng = np.random.default_rng(4)
    x0 = jnp.asarray(SEQUENCES[rng.choice(S**L, 20_000, p=PROBS)])
    keys, excess = sequence_keys(jax.random.key(3), len(x0)), {}
    tweedie = {steps: sampler("tweedie", steps).bound_to(UNIFORM, L) for steps in (2, 8, 64)}
    nll = {steps: np.asarray(elbo(keys, UNIFORM, tweedie[steps], x0)) for steps in tweedie}
    excess = {steps: float(nll[steps].mean()) - ENTROPY for steps in tweedie}
    assert excess[2] > excess[8] > excess[64] > -0.02 and excess[64] < 0.05
    many = continuous(keys, x0, UNIFORM, 8)
    assert float(many.mean()) == pytest.approx(ENTROPY, abs=0.1)
    own = exact_law(UNIFORM, tweedie[2].kernel, tweedie[2].schedule, L)
    index = np.asarray(x0) @ S ** np.arange(L)[::-1]
    by_sequence = np.bincount(index, nll[2], S**L) / np.maximum(np.bincount(index, minlength=S**L), 1)
    common = (own > 0.02) & (np.bincount(index, minlength=S**L) > 300)
    assert common.any() and (by_sequence[common] > -np.log(own[common]) - 0.1).all()


def test_the_limit_starts_from_masks_alone_also_where_the_process_does_not():
    """With eps = 0.1 a tenth of the tokens is unmasked at time 1, and a sampler still pays for all of them."""
    model = oracle("absorbing", PROBS, S, L)
    process = dataclasses.replace(model.process, noise=LogLinear(0.1))
    exact = Diffusion.from_function(enumerated_log_posterior(process, PROBS, L), process, "log_posterior")
    x0 = jnp.asarray(SEQUENCES[np.random.default_rng(2).choice(S**L, 8000, p=PROBS)])
    nll = continuous(sequence_keys(jax.random.key(3), 8000), x0, exact, 64)
    assert float(nll.mean()) == pytest.approx(ENTROPY, abs=4 * float(nll.std()) / np.sqrt(8000))


def test_uniform_elbo_needs_independent_draws():
    spread = sampler("euler", 2, coupling=Coupling("low_discrepancy")).bound_to(UNIFORM, L)
    with pytest.raises(ValueError, match="^coupling.name='low_discrepancy': .*needs 'iid'"):
        m_step_nll(sequence_keys(jax.random.key(0), 2), UNIFORM, spread, jnp.zeros((2, L), jnp.int32))


def test_the_verbs_add_nothing_but_batches():
    """`likelihood` and the study's functions give what the functions inside them give, whatever the batch size."""
    tokens, key, euler = SEQUENCES[:12], jax.random.key(7), sampler("euler", 4)
    wanted = elbo(sequence_keys(key, 12), MODEL, euler.bound_to(MODEL, L), jnp.asarray(tokens))
    for batch_size in (8, 64):
        found = likelihood(MODEL, euler, tokens, paths=1, key=key, batch_size=batch_size)
        assert found.shape == (12,)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_array_equal(
        likelihood(MODEL, euler, tokens, paths=1),
        elbo_nats(MODEL, euler.bound_to(MODEL, L), jax.random.key(0), tokens, 16),
    )
    many = continuous(sequence_keys(key, 12), jnp.asarray(tokens), MODEL, 64)
    np.testing.assert_allclose(continuous_time_nats(MODEL, key, tokens, 8), many, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": np.zeros((0, L), int)}, r"^tokens=int64 \(0, 3\): must be integers of shape \(n, L\)"),
        ({"tokens": np.zeros((2, L))}, "^tokens=float64"),
        ({"tokens": np.zeros(L, int)}, r"^tokens=int64 \(3,\)"),
        ({"tokens": np.full((2, L), S)}, r"^tokens=3: the model's are 0 \.\.\. 2"),
        ({"sampler": sampler("maskgit", 2)}, "^sampler='maskgit': has no likelihood"),
        ({"sampler": sampler("first_hitting", 2)}, "^sampler='first_hitting': has no likelihood"),
        ({"sampler": sampler("euler", 2, top_p=0.9)}, "^sampler='euler': has no likelihood"),
        ({"sampler": sampler("euler", 2).bound_to(MODEL, 4)}, "^length=3: .*distilled for 4"),
    ],
)
def test_what_has_no_likelihood_is_told(change, message):
    with pytest.raises(ValueError, match=message):
        likelihood(**{"model": MODEL, "sampler": sampler("euler", 2), "tokens": SEQUENCES} | change)
