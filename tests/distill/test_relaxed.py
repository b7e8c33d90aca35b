"""Straight-through rollouts: hard values, finite gradients, and what their gradients are worth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import gradient_estimators as bench
from lsd_jax.distill.relaxed import relaxed_rollout
from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.models.oracle import enumerated_log_posterior, markov_log_posterior
from lsd_jax.models.score_fn import posterior_score_fn
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.kernel import Knobs
from lsd_jax.samplers.simulate import Schedule, simulate

S, L, B = 3, 3, 64
LAW = bench.random_law(0)
GRID = jnp.array([1.0, 0.7, 0.4, 0.2, 0.0])
KNOBS = Knobs(jnp.array([0.2, -0.3, 0.1, 0.0]), jnp.array([-0.1, 0.2, 0.3, 0.0]))
SEQUENCES = 2**15
# Every pair that is defined: positions of the uniform process jump many times and share no threshold.
PAIRS = [("absorbing", name) for name in ("iid", "shared", "low_discrepancy")]
PAIRS += [("uniform", name) for name in ("iid", "low_discrepancy")]


def setting(name):
    process = make_process(name, S, make_noise("loglinear"))
    return process, posterior_score_fn(process, enumerated_log_posterior(process, LAW, L))


def prior(process, key_B):
    return jax.vmap(lambda key: process.prior_sample(jax.random.fold_in(key, 2**31 - 1), (L,)))(key_B)


@pytest.mark.parametrize(("name", "coupling"), PAIRS)
def test_hard_values_are_simulate_s(name, coupling):
    process, score_fn = setting(name)
    key_B, schedule, coupling = sequence_keys(jax.random.key(0), 2000), Schedule(GRID, KNOBS), Coupling(coupling)
    args = (key_B, process, get_kernel("tweedie"), score_fn, schedule, coupling)
    states, log_scores = relaxed_rollout(*args, prior(process, key_B))
    wanted = simulate(*args, 2000, L, keep_states=True).states[:-1]
    np.testing.assert_array_equal(states, jax.nn.one_hot(wanted, process.num_states))
    read = wanted == process.mask if name == "absorbing" else jnp.ones_like(wanted, bool)
    for k in range(4):
        np.testing.assert_allclose(log_scores[k][read[k]], score_fn(wanted[k], GRID[k])[read[k]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_one_hot_tokens_are_their_integers(name):
    process, score_fn = setting(name)
    x = process.corrupt(jax.random.key(1), jax.random.randint(jax.random.key(0), (B, L), 0, S), jnp.float32(0.6))
    soft, t = jax.nn.one_hot(x, process.num_states), jnp.float32(0.6)
    read = x == process.mask if name == "absorbing" else jnp.ones_like(x, bool)
    chain = np.random.default_rng(0).dirichlet(np.ones(S), S)
    markov_fn = posterior_score_fn(process, markov_log_posterior(process, chain[0], chain))
    for fn in (score_fn, markov_fn):
        np.testing.assert_allclose(fn(soft, t)[read], fn(x, t)[read], rtol=1e-5, atol=1e-5)
        # What an exact denoiser rules out, log 0 or nearly, has no probability in either form.
        np.testing.assert_allclose(jnp.exp(fn(soft, t)), jnp.exp(fn(x, t)), rtol=1e-5, atol=1e-5)
    model = DDiT(DDiTConfig(vocab_size=S, dim=16, depth=1, heads=2, time_conditioned=True))
    params = model.init(jax.random.key(0), x, t)
    assert jax.tree.structure(params) == jax.tree.structure(model.init(jax.random.key(0), soft, t))
    params = jax.tree.map(lambda leaf: leaf + 0.3, params)
    np.testing.assert_allclose(model.apply(params, soft, t), model.apply(params, x, t), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", ["euler", "tweedie", "ancestral"])
@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_gradients_are_finite(name, kernel):
    process, score_fn = setting(name)
    key_B = sequence_keys(jax.random.key(0), 400)

    @jax.jit
    @jax.grad
    def gradient(schedule):
        args = (key_B, process, get_kernel(kernel), score_fn, schedule, Coupling("low_discrepancy"))
        states, log_scores = relaxed_rollout(*args, prior(process, key_B))
        return (states @ jnp.arange(process.num_states) ** 2.0).mean() + jnp.exp(log_scores).mean()

    got = gradient(Schedule(GRID, KNOBS))
    for leaf in jax.tree.leaves(got):
        assert np.isfinite(leaf).all()
    assert np.abs(got.time_grid[1:-1]).min() > 0 and np.abs(got.knobs.log_temperature[:-1]).max() > 0


@pytest.mark.parametrize("coupling", ["iid", "shared", "low_discrepancy"])
def test_gradient_of_the_number_of_masks(coupling):
    """Linear in the states, so nearly unbiased at a small sharpness: masks survive with a product over the steps."""
    process, score_fn = setting("absorbing")
    key_B = sequence_keys(jax.random.key(0), 40_000)

    def measured(grid, coefficient_M):
        schedule = Schedule(grid, Knobs(coefficient_M, jnp.zeros(3)))
        args = (key_B, process, get_kernel("euler"), score_fn, schedule, Coupling(coupling))
        return relaxed_rollout(*args, prior(process, key_B), sharpness=0.1)[0][-1, ..., process.mask].mean()

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
    process, score_fn = setting("absorbing")
    key_B = sequence_keys(jax.random.key(0), B)
    start_BL = prior(process, key_B).at[:, 1].set(2)

    def masks(coefficient_M):
        schedule = Schedule(GRID, Knobs(coefficient_M, jnp.zeros(4)))
        args = (key_B, process, get_kernel("euler"), score_fn, schedule, Coupling(coupling), start_BL)
        return relaxed_rollout(*args)[0][..., process.mask].sum((0, 1))

    np.testing.assert_array_equal(masks(KNOBS.log_coefficient)[1], 0)
    moved = jax.jacrev(masks)(KNOBS.log_coefficient)
    np.testing.assert_array_equal(moved[1], 0)
    assert np.abs(moved[0, :2]).min() > 0


def measured(surrogate, loss, case):
    law_seed, point = bench.CASES[case]
    law, point = bench.random_law(law_seed), np.array(point, np.float32)
    exact = np.asarray(jax.jit(jax.grad(loss, 1))(law, point), np.float64)
    groups = bench.group_means(surrogate, SEQUENCES)(jax.random.key(1), law, point)
    return law, point, exact, groups


@pytest.mark.parametrize("loss", [bench.exact_alignment, bench.exact_path_kl])
def test_exact_gradients_are_the_finite_differences(loss):
    law, point = LAW, np.array(bench.CASES[0][1], np.float32)
    np.testing.assert_allclose(
        jax.jit(jax.grad(loss, 1))(law, point), bench.finite_differences(jax.jit(loss), law, point), atol=1e-3
    )


@pytest.mark.parametrize("name", ["score function, leave-one-out", "path KL"])
def test_unbiased_estimators(name):
    _, _, exact, groups = measured(*bench.estimators()[name], case=0)
    error = groups.std(0, ddof=1) / np.sqrt(len(groups))
    assert (np.abs(groups.mean(0) - exact) < 4 * error + 1e-6).all()


def test_the_detached_gradient_leaves_the_states_out():
    law, point, exact, groups = measured(bench.detached, bench.exact_alignment, case=0)
    fixed = jax.grad(lambda c: bench.exact_alignment(law, c, fixed_states=True))(point)
    error = groups.std(0, ddof=1) / np.sqrt(len(groups))
    assert (np.abs(groups.mean(0) - np.asarray(fixed)) < 4 * error + 1e-5).all()
    assert np.abs(groups.mean(0) - exact)[:2].min() > 0.08
    assert bench.cosine(groups.mean(0), exact) == pytest.approx(0.992, abs=0.003)


@pytest.mark.parametrize(("case", "whole", "through_states"), [(0, 0.994, 0.40), (2, 0.993, -0.44)])
def test_what_the_unrolled_gradient_is_worth(case, whole, through_states):
    """Not unbiased, though right for masks: the exact denoiser's answer to a half-revealed token is far from linear."""
    law, point, exact, groups = measured(bench.estimators()["unrolled, sharpness 1"][0], bench.exact_alignment, case)
    fixed = np.asarray(jax.grad(lambda c: bench.exact_alignment(law, c, fixed_states=True))(point))
    mean = groups.mean(0)
    assert bench.cosine(mean, exact) == pytest.approx(whole, abs=0.004)
    assert bench.cosine(mean - fixed, exact - fixed) == pytest.approx(through_states, abs=0.15)
