"""Straight-through rollouts: hard values, finite gradients, and the gradient of what they are unbiased for."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.distill.relaxed import relaxed_rollout
from lsd_jax.keys import sequence_keys
from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import enumerated_log_posterior, markov_log_posterior
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import prior_tokens
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import Schedule, StepParameters
from lsd_jax.samplers.simulate import simulate

S, L, B = 3, 3, 64
PROBS = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3)).astype(np.float32)
GRID = jnp.array([1.0, 0.7, 0.4, 0.2, 0.0])
PARAMS = StepParameters(jnp.array([0.2, -0.3, 0.1, 0.0]), jnp.array([-0.1, 0.2, 0.3, 0.0]))
SCHEDULE = Schedule(GRID, PARAMS)
# Every pair that is defined: positions of the uniform process jump many times and share no threshold.
PAIRS = [("absorbing", name) for name in ("iid", "shared", "low_discrepancy")]
PAIRS += [("uniform", name) for name in ("iid", "low_discrepancy")]


@functools.cache
def model_of(name):
    process = make_process(name, S, LogLinear())
    return Diffusion.from_function(enumerated_log_posterior(process, PROBS, L), process, "log_posterior")


def sampler_of(kernel, coupling, schedule=SCHEDULE):
    return Sampler(schedule, get_kernel(kernel), Coupling(coupling), L)


@pytest.mark.parametrize(("name", "coupling"), PAIRS)
def test_hard_values_are_those_of_simulate(name, coupling):
    model, key_B, sampler = model_of(name), sequence_keys(jax.random.key(0), 2000), sampler_of("tweedie", coupling)
    process = model.process

    @jax.jit
    def both(sampler):
        soft = relaxed_rollout(key_B, model, sampler, prior_tokens(key_B, model.process, L))
        wanted = simulate(key_B, model, sampler, 2000, keep_states=True).states[:-1]
        return *soft, wanted, jax.lax.map(lambda now: model.log_score(*now), (wanted, sampler.schedule.time_grid[:-1]))

    states, log_scores, wanted, wanted_scores = both(sampler)
    np.testing.assert_array_equal(states, jax.nn.one_hot(wanted, process.num_states))
    read = wanted == process.mask if name == "absorbing" else jnp.ones_like(wanted, bool)
    np.testing.assert_allclose(log_scores[read], wanted_scores[read], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_one_hot_tokens_are_their_integers(name):
    model = model_of(name)
    process = model.process
    x = process.corrupt(jax.random.key(1), jax.random.randint(jax.random.key(0), (B, L), 0, S), jnp.float32(0.6))
    soft, t = jax.nn.one_hot(x, process.num_states), jnp.float32(0.6)
    read = x == process.mask if name == "absorbing" else jnp.ones_like(x, bool)
    chain = np.random.default_rng(0).dirichlet(np.ones(S), S)
    markov = Diffusion.from_function(markov_log_posterior(process, chain[0], chain), process, "log_posterior")
    for fn in (jax.jit(model.log_score), jax.jit(markov.log_score)):
        np.testing.assert_allclose(fn(soft, t)[read], fn(x, t)[read], rtol=1e-5, atol=1e-5)
        # What an exact denoiser rules out, log 0 or nearly, has no probability in either form.
        np.testing.assert_allclose(jnp.exp(fn(soft, t)), jnp.exp(fn(x, t)), rtol=1e-5, atol=1e-5)
    network = DDiT(DDiTConfig(vocab_size=S, dim=16, depth=1, heads=2, time_conditioned=True))
    params = jax.jit(network.init)(jax.random.key(0), x, t)
    assert jax.tree.structure(params) == jax.tree.structure(jax.eval_shape(network.init, jax.random.key(0), soft, t))
    params, apply = jax.tree.map(lambda leaf: leaf + 0.3, params), jax.jit(network.apply)
    np.testing.assert_allclose(apply(params, soft, t), apply(params, x, t), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["euler", "tweedie", pytest.param("ancestral", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_gradients_are_finite(name, kernel):
    model, key_B = model_of(name), sequence_keys(jax.random.key(0), 400)

    @jax.jit
    @jax.grad
    def gradient(schedule):
        sampler = sampler_of(kernel, "low_discrepancy", schedule)
        states, log_scores = relaxed_rollout(key_B, model, sampler, prior_tokens(key_B, model.process, L))
        return (states @ jnp.arange(model.process.num_states) ** 2.0).mean() + jnp.exp(log_scores).mean()

    got = gradient(SCHEDULE)
    for leaf in jax.tree.leaves(got):
        assert np.isfinite(leaf).all()
    assert np.abs(got.time_grid[1:-1]).min() > 0 and np.abs(got.params.log_temperature[:-1]).max() > 0


@pytest.mark.parametrize("coupling", ["iid", pytest.param("shared", marks=pytest.mark.slow), "low_discrepancy"])
def test_gradient_of_the_number_of_masks(coupling):
    """Linear in the states, so nearly unbiased at a small sharpness: masks survive with a product over the steps."""
    model, key_B = model_of("absorbing"), sequence_keys(jax.random.key(0), 40_000)
    process = model.process

    def measured(grid, coefficient_M):
        sampler = sampler_of("euler", coupling, Schedule(grid, StepParameters(coefficient_M, jnp.zeros(3))))
        states = relaxed_rollout(key_B, model, sampler, prior_tokens(key_B, model.process, L), sharpness=0.1)[0]
        return states[-1, ..., process.mask].mean()

    def exact(grid, coefficient_M):
        t, u = grid[:2], grid[1:3]
        rate = process.noise.sigma(t) / jnp.expm1(process.noise.sigma_bar(t))
        return (1 - (t - u) * rate * jnp.exp(coefficient_M[:2])).prod()

    point = (jnp.array([1.0, 0.7, 0.4, 0.0]), jnp.array([0.2, -0.3, 0.1]))
    value, got = jax.jit(jax.value_and_grad(measured, (0, 1)))(*point)
    wanted, wanted_gradient = jax.value_and_grad(exact, (0, 1))(*point)
    assert float(value) == pytest.approx(float(wanted), abs=0.01)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1:], b[1:], atol=0.05), got, wanted_gradient)
    assert float(got[1][0]) == pytest.approx(float(wanted_gradient[1][0]), abs=0.03)


@pytest.mark.parametrize("coupling", ["iid", "shared"])
def test_a_position_that_starts_revealed_stays_so(coupling):
    model, key_B = model_of("absorbing"), sequence_keys(jax.random.key(0), B)
    start_BL = prior_tokens(key_B, model.process, L).at[:, 1].set(2)

    @jax.jit
    def masks(coefficient_M):
        sampler = sampler_of("euler", coupling, Schedule(GRID, StepParameters(coefficient_M, jnp.zeros(4))))
        return relaxed_rollout(key_B, model, sampler, start_BL)[0][..., model.process.mask].sum((0, 1))

    np.testing.assert_array_equal(masks(PARAMS.log_coefficient)[1], 0)
    moved = jax.jit(jax.jacrev(masks))(PARAMS.log_coefficient)
    np.testing.assert_array_equal(moved[1], 0)
    assert np.abs(moved[0, :2]).min() > 0
