"""Tau-leaping and the corrector against closed forms and the reference's numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences
from lsd_jax.processes.draws import as_uniform, random_bits
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process, reverse_rate
from lsd_jax.samplers.kernels.predictor_corrector import corrector, predictor_corrector
from lsd_jax.samplers.kernels.tau_leaping import ordinal_leap
from lsd_jax.samplers.kernels.theta import clock, time_at
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import Step, StepParameters, neutral, uniform_schedule
from lsd_jax.samplers.simulate import simulate
from tests.samplers import enumeration

GOLDEN = np.load("tests/golden/lsd_samplers.npz")


def with_scores(name, size, log_score_BLS):
    """A model that always answers with these log-scores."""
    process = make_process(name, size, make_noise("loglinear"))
    return Diffusion(process, lambda params, x, t: jnp.broadcast_to(log_score_BLS, (*x.shape, size)))


def random_model(name, seed=0):
    model = with_scores(name, 4, jax.random.normal(jax.random.key(seed), (2, 5, 4)))
    return model, jax.random.randint(jax.random.key(seed + 1), (2, 5), 0, model.process.num_states)


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_poisson_leaping_against_counts(name):
    """Counts drawn for every token, positions with two jumps rejected."""
    model, x = random_model(name)
    t, u = jnp.float32(0.8), jnp.float32(0.6)
    mean = (t - u) * np.asarray(reverse_rate(model.process, model.log_score(x, t), x, t), np.float64)
    counts = np.random.default_rng(0).poisson(mean, (40_000, *mean.shape))
    one = counts.sum(-1, keepdims=True) == 1
    leap = lambda kernel: get_kernel(kernel).transition(model, x, Step(t, u, neutral())).probabilities()
    _, jump = leap("tau_leaping")
    np.testing.assert_allclose(jump, (counts * one).mean(0), atol=0.012)
    total = mean.sum(-1, keepdims=True)
    np.testing.assert_allclose(jump, mean * np.exp(-total), rtol=1e-5, atol=1e-7)
    stay, jump = leap("binomial_leaping")
    np.testing.assert_allclose(stay, np.exp(-total[..., 0]), rtol=1e-5)
    shares = mean / np.where(total > 0, total, 1)
    np.testing.assert_allclose(jump, shares * -np.expm1(-total), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kernel", ["tau_leaping", "binomial_leaping"])
def test_step_parameters_of_a_leap(kernel):
    model, x = random_model("uniform")

    def leap(*params):
        return get_kernel(kernel).transition(model, x, Step(0.5, 0.49, StepParameters(*params))).probabilities()

    stay, jump = leap(jnp.zeros(()), jnp.zeros(()))
    half, _ = leap(jnp.log(0.5), jnp.zeros(()))
    np.testing.assert_allclose((1 - half) / (1 - stay), 0.5, rtol=0.1)
    cold_stay, cold = leap(jnp.zeros(()), jnp.log(0.5))
    np.testing.assert_allclose(cold_stay, stay)
    np.testing.assert_allclose(
        cold / cold.sum(-1, keepdims=True), jump**2 / (jump**2).sum(-1, keepdims=True), rtol=1e-4
    )
    _, top = leap(jnp.zeros(()), jnp.zeros(()), "score", None, 0.1)
    assert ((top > 0).sum(-1) == 1).all()


@pytest.mark.parametrize("kernel", ["tau_leaping", "binomial_leaping"])
def test_potentials_under_uniform_noise_act_on_the_whole_leap(kernel):
    model, states = with_scores("uniform", 4, jax.random.normal(jax.random.key(0), (1, 3, 4))), all_sequences(4, 3)
    start = jnp.broadcast_to(jnp.array([0, 3, 1]), states.shape)

    def law(params):
        transition = get_kernel(kernel).transition(model, start, Step(jnp.float32(0.8), jnp.float32(0.4), params))
        return np.exp(transition.log_prob(jnp.asarray(states)).sum(-1))

    coupled = law(dataclasses.replace(neutral(), log_potential=jax.random.normal(jax.random.key(1), (1, 4, 4))))
    assert coupled.sum() == pytest.approx(1, abs=1e-5)
    pairs = coupled.reshape(4, 4, 4).sum(2)
    independent = law(neutral()).reshape(4, 4, 4).sum(2)
    assert np.abs(pairs - np.outer(pairs.sum(1), pairs.sum(0))).max() > 2e-3  # neighbors depend on each other
    np.testing.assert_allclose(independent, np.outer(independent.sum(1), independent.sum(0)), atol=1e-6)


@pytest.mark.parametrize("noise", ["loglinear", "geometric", "cosine"])
def test_the_clock_and_its_inverse(noise):
    process = make_process("absorbing", 4, make_noise(noise))
    t = jnp.asarray([1e-3, 0.1, 0.5, 0.9, 0.99])
    np.testing.assert_allclose(time_at(process, clock(process, t)), t, rtol=2e-4)
    np.testing.assert_allclose(clock(process, t), jnp.log(process.mask_probability(t)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("index", range(4))
def test_corrector_against_the_reference(index):
    """The released corrector adds the forward rates transposed: from the mask to every token, and from a token to nowhere.

    Put back in their place they are ours; how often a position leaves its state is the same.
    """
    x, (t, h) = GOLDEN["in/xt"], GOLDEN["in/t_step"][index]
    model = with_scores("absorbing", 11, jnp.asarray(GOLDEN["in/output_log_score"][..., :11]))
    golden = np.asarray(GOLDEN[f"out/pc_corrector_xt_prob_{index}"], np.float64)
    transition = corrector(model, jnp.asarray(x), jnp.float32(t), jnp.float32(h), neutral())
    assert transition.log_destination_BLS.shape == (*x.shape, 12)
    scale, masked = max(1.0, np.abs(golden).max()), x == 11
    leave = 1 - np.take_along_axis(golden, x[..., None], -1)[..., 0]
    assert np.abs(-np.asarray(transition.log_stay_BL) - leave).max() / scale < 5e-5
    mean = -np.asarray(transition.log_stay_BL)[..., None] * np.exp(transition.log_destination_BLS)
    forward = h * GOLDEN["out/sigma"][index]
    assert np.abs(mean[masked][:, :11] - (golden[masked][:, :11] - forward)).max() / scale < 5e-5
    np.testing.assert_allclose(mean[~masked][:, 11], forward, rtol=2e-4)
    assert (mean[masked][:, 11] == 0).all() and (mean[~masked][:, :11] == 0).all()


def test_corrector_masks_again_and_knows_it():
    model = with_scores("absorbing", 4, jnp.zeros((1, 1, 4)))
    x, mask = jnp.zeros((500, 40), jnp.int32), model.process.mask
    transition = corrector(model, x, jnp.float32(0.5), jnp.float32(0.2), neutral())
    bits = random_bits(jax.random.key(0), (2, *x.shape))
    drawn = np.asarray(transition.sample(as_uniform(bits[0]), bits[1]))
    assert set(np.unique(drawn)) == {0, mask}
    expected = 1 - np.exp(-0.2 * float(model.process.noise.sigma(0.5)))
    assert (drawn == mask).mean() == pytest.approx(expected, abs=0.01)
    np.testing.assert_allclose(
        transition.log_prob(jnp.full_like(x, mask)), jnp.log(expected) * jnp.ones(x.shape), rtol=1e-4
    )


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_a_small_corrector_step_keeps_the_marginal_distribution(name):
    """p_u is stationary under forward plus reverse rates: to first order in the duration nothing changes."""
    probs = np.random.default_rng(0).dirichlet(np.full(9, 0.5))
    with jax.enable_x64(True):
        model = enumeration.oracle(name, probs, 3, 2)
        process = model.process
        law = enumeration.marginal_law(process, probs, 2, 0.4)
        states = jnp.asarray(all_sequences(process.num_states, 2))
        leap = lambda duration: enumeration.state_probs(
            corrector(model, states, 0.4, duration, neutral()), process.num_states
        )
        moved = []
        for probs_NLV in map(jax.jit(leap), (0.02, 0.01)):
            matrix = np.asarray(probs_NLV)[:, np.arange(2)[None], np.asarray(states)].prod(-1)
            np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
            moved.append(enumeration.total_variation(law @ matrix, law))
    assert moved[0] / moved[1] == pytest.approx(4, rel=0.1)  # second order in the duration


@pytest.mark.parametrize("entry", [0.55, 1.0])
def test_evaluations_before_entry_are_not_made(entry):
    calls = []

    def log_posterior(x_BL, t):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.full((*x_BL.shape, 3), -np.log(3.0))

    process = make_process("absorbing", 3, make_noise("loglinear"))
    model = Diffusion.from_function(log_posterior, process, "log_posterior", time_conditioned=False)
    kernel = predictor_corrector(correctors=2, entry_time=entry)
    sample = simulate(jax.random.key(0), model, Sampler(uniform_schedule(5), kernel, length=4), 2)
    jax.effects_barrier()
    corrected = sum(u < entry for u in (0.8, 0.6, 0.4, 0.2))
    assert len(calls) == 5 + 2 * corrected
    np.testing.assert_array_equal(sample.calls_B, [len(calls)] * 2)
    assert sample.nfe == 4 * 3 + 1


@pytest.mark.parametrize("scale", [0.02, 0.6, 2.0])
def test_ordinal_leap_against_counts(scale):
    """x + sum_j N_j (j - x), clamped, with the counts drawn."""
    S, rng = 8, np.random.default_rng(0)
    x = np.array([[0, 3, 7]])
    mean = scale * rng.dirichlet(np.full(S, 0.5), (1, 3)) * (np.arange(S) != x[..., None])
    stay, jump = ordinal_leap(jnp.asarray(x), jnp.asarray(mean, jnp.float32), neutral()).probabilities()
    law = np.asarray(jump) + np.asarray(stay)[..., None] * np.eye(S)[x]
    np.testing.assert_allclose(law.sum(-1), 1, rtol=1e-5)
    moved = (rng.poisson(mean, (200_000, *mean.shape)) * (np.arange(S) - x[..., None])).sum(-1)
    ends = np.clip(x + moved, 0, S - 1)
    counted = (ends[..., None] == np.arange(S)).mean(0)
    assert np.abs(law - counted).max() < 0.006
    np.testing.assert_allclose(
        1 - np.asarray(stay), 1 - np.take_along_axis(counted, x[..., None], -1)[..., 0], atol=0.006
    )


def test_a_rare_ordinal_jump_keeps_its_frequency():
    mean = jnp.zeros((1, 1, 256)).at[0, 0, 103].set(3e-9).at[0, 0, 90].set(1e-9)
    stay = ordinal_leap(jnp.full((1, 1), 100), mean, neutral())
    assert float(-jnp.expm1(stay.log_stay_BL)[0, 0]) == pytest.approx(4e-9, rel=1e-3)
    assert float(jnp.exp(stay.destination_log_prob(jnp.full((1, 1), 103), None))[0, 0]) == pytest.approx(0.75, rel=1e-3)
