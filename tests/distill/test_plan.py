"""Orders and grids before any gradient."""

import functools

import jax
import numpy as np
import pytest

from lsd_jax.distill import cost_table as search
from lsd_jax.distill import plan
from lsd_jax.distill.problem import Plan, Problem
from lsd_jax.distill.settings import StudentSettings
from lsd_jax.distill.teacher import bridged_teacher
from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.samplers import orders
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.kernels.euler import EULER
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.likelihood import PathCosts, m_step_nll
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import fixed_grid, uniform_schedule
from lsd_jax.tasks.chain_laws import sample_chain
from tests.distill.chain import CHAIN, SPREAD, oracle

L, P = 32, 64


@functools.cache
def plans(steps, name="absorbing", coupling=SPREAD, **changes):
    """The plans of every M in `steps`, on paths to sequences of the chain."""
    tokens = sample_chain(np.random.default_rng(0), *CHAIN, P, L).astype(np.int32)
    paths = bridged_teacher(jax.random.key(0), oracle(name).process, coupling, 32, tokens)
    settings = StudentSettings(**{"grid_points": 32, "coupling": coupling, **changes})
    return plan.make_plans(oracle(name), TWEEDIE, paths, settings, steps)


def problem(name="absorbing", tokens_seed=0):
    tokens = sample_chain(np.random.default_rng(tokens_seed), *CHAIN, 256, L).astype(np.int32)
    return Problem(oracle(name), TWEEDIE, tokens, sequence_keys(jax.random.key(9), 256))


def test_plans_hold_on_unseen_sequences():
    """On fresh sequences a plan of more steps is no worse than one of fewer, and no worse than untuned orders and grids."""
    unseen, found = problem(tokens_seed=1), plans((2, 4, 8, 16))
    cost = {steps: unseen.cost(plan.coupling, plan.times) for steps, plan in found.items()}
    assert cost[2] > cost[4] > cost[8] > cost[16] - 0.02
    for steps in (4, 16):
        untuned = [unseen.cost(SPREAD, fixed_grid(name, steps)) for name in ("uniform", "cosine")]
        assert cost[steps] < min(untuned) + 0.05
        assert len(found[steps].times) == steps + 1 and (np.diff(found[steps].times) < 0).all()


def test_plans_are_judged_on_paths_that_they_were_not_fitted_on():
    tokens = sample_chain(np.random.default_rng(0), *CHAIN, P, L).astype(np.int32)
    paths = bridged_teacher(jax.random.key(0), oracle().process, SPREAD, 32, tokens)
    fitted, unseen = plan.problems(oracle(), TWEEDIE, paths, 2)
    assert len(fitted.tokens) == 2 * 48 and len(unseen.tokens) == 2 * 16
    rows = lambda problem: {row.tobytes() for row in problem.tokens}
    assert not rows(fitted) & rows(unseen)
    assert len({key.tobytes() for key in np.asarray(jax.random.key_data(unseen.keys))}) == 32  # two orders of each
    _, again = plan.problems(oracle(), TWEEDIE, paths.part(slice(8)), 1)
    assert len(again.tokens) == 2 * 8  # too few paths for a quarter: other orders of the same


def test_the_judge_is_the_kernel_s_own_elbo():
    """Euler reveals at another pace than the process where the noise is not log-linear: a table of the process's misses it."""
    model = oracle(noise="geometric")
    own = {kernel.name: problem()._replace(model=model, kernel=kernel) for kernel in (TWEEDIE, EULER)}
    times = np.linspace(1, 0, 9)
    tables = {name: search.path_cost(one.table(IID, times), np.arange(9)) for name, one in own.items()}
    costs = {name: one.cost(IID, times) for name, one in own.items()}
    assert tables["euler"] == pytest.approx(tables["tweedie"])
    assert costs["tweedie"] == pytest.approx(tables["tweedie"], rel=1e-3) and costs["euler"] > tables["euler"] + 0.5


def test_the_widest_steps_are_halved():
    process = oracle(noise="geometric").process
    halves = plan.class_times(process, np.array([0.5, 0.5]))
    for steps, wanted in ((3, [1, 0.75, 0.5, 0]), (4, [1, 0.75, 0.5, 0.25, 0])):
        found = plan.split_times(process, halves, steps)
        assert found[-1] == 0
        np.testing.assert_allclose(process.mask_share(found[:-1].astype(np.float32)), wanted[:-1], atol=1e-5)


@pytest.mark.parametrize("noise", ["loglinear", "geometric", "cosine"])
def test_class_times_reveal_the_classes(noise):
    """A student that runs a pattern on its class times reveals class k in step k, whatever the noise."""
    process = oracle(noise=noise).process
    classes = np.array([0, 3, 1, 3, 2, 3, 1, 3])
    coupling, times = plan.class_plan(classes, 4, process)
    ends = np.asarray(process.mask_probability(np.asarray(times[1:], np.float32)))
    ends = ends / float(process.mask_probability(np.float32(1)))
    thresholds = np.asarray(coupling.thresholds(sequence_keys(jax.random.key(0), 20), 8))
    steps = np.searchsorted(-ends, -thresholds, side="left")
    for row in steps:
        assert any((row == np.roll(classes, -shift)).all() for shift in range(8))


def test_classes_survive_the_round_trip():
    process = oracle().process
    classes = np.array([0, 2, 1, 2] * 4)
    coupling, times = plan.class_plan(classes, 3, process)
    np.testing.assert_array_equal(plan.classes_of(Plan(coupling, times, {}), process, L), classes)


def test_a_learned_order_beats_a_bad_one_on_unseen_sequences():
    """From the order that reveals blocks of neighbors together, local search finds a far better one."""
    blocks = plan.class_plan(np.repeat([0, 1, 2, 3], 4), 4, oracle().process)
    bad = Plan(*blocks, {"cost_nats": problem().cost(*blocks)})
    found = plan._learned(problem(), problem(tokens_seed=2), bad, 60)
    unseen = problem(tokens_seed=1)
    assert found.metrics["order_gain_nats"] > 0
    assert unseen.cost(found.coupling, found.times) < unseen.cost(*blocks) - 1


def test_two_sweeps_are_mixed_only_where_unseen_sequences_are_more_probable():
    """A sequence's probability is the mean of both orders'; its bound is the mean of the bounds, which is never the smaller."""
    process, sequences = Absorbing(2, LogLinear()), all_sequences(2, 6)
    probs = np.random.default_rng(1).dirichlet(np.full(64, 0.15))
    model = Diffusion.from_function(enumerated_log_posterior(process, probs, 6), process, "log_posterior")
    draw = lambda seed: sequences[np.random.default_rng(seed).choice(64, 64, p=probs)].astype(np.int32)
    unseen, fresh = (Problem(model, TWEEDIE, draw(k), sequence_keys(jax.random.key(k), 64)) for k in range(2))
    times, sweeps = plan.class_times(process, np.ones(3) / 3), ((0, 1, 2), (0, 2, 1))
    left, right = (Plan(Coupling("low_discrepancy", "pattern", sweep), times, {}) for sweep in sweeps)

    assert plan._mixed(unseen, left) == left._replace(metrics={"mixture_gain_nats": 0.0})
    mixed = plan._mixed(unseen, right)
    assert mixed.coupling.pattern == sweeps and mixed.metrics["mixture_gain_nats"] > 0.01
    weighted = lambda own: PathCosts(fresh.nats(own.coupling, times, 16), True).weighted()
    each, found = np.stack([weighted(left), weighted(right)]), weighted(mixed)
    np.testing.assert_allclose(found, -np.log(np.exp(-each).mean(0)), rtol=1e-5)
    assert found.mean() < each[1].mean() - 0.01


def test_refinement_is_kept_only_if_unseen_paths_agree():
    coarse = plans((4,), "uniform", IID, order="fixed", grid_points=8)[4]
    fine = plans((4,), "uniform", IID, order="fixed", grid_points=8, refine=True)[4]
    gain = fine.metrics["refine_gain_nats"]
    assert gain >= 0 and (gain > 0) == (not np.array_equal(coarse.times, fine.times))


@pytest.mark.parametrize("method", ["halving", "jys", "profile", "uniform", "cosine"])
def test_other_grids_are_grids(method):
    found = plans((4,), coupling=IID, order="fixed", grid=method)[4]
    if method in ("uniform", "cosine"):
        np.testing.assert_array_equal(found.times, fixed_grid(method, 4))
    assert len(found.times) == 5 and (np.diff(found.times) < 0).all()


def test_a_fixed_grid_with_a_chosen_order_lies_on_the_fine_grid():
    found = plans((4,), grid="quadratic")[4]
    assert len(found.times) == 5 and (np.diff(found.times) < 0).all()
    if found.coupling.generator != "pattern":  # a sweep has times of its own
        np.testing.assert_allclose(found.times * 32, np.round(found.times * 32))


@pytest.mark.slow
def test_images_get_the_cheapest_order_of_the_plane():
    """A 3 x 4 image of an enumerated Ising model: neighbors agree, so that orders which part them are cheaper."""
    shape, process = (3, 4), Absorbing(2, LogLinear())
    sequences = all_sequences(2, 12)
    spins = 2 * sequences.reshape(-1, *shape) - 1
    agreement = (spins[:, 1:] * spins[:, :-1]).sum((1, 2)) + (spins[:, :, 1:] * spins[:, :, :-1]).sum((1, 2))
    probs = np.exp(0.6 * agreement)
    probs /= probs.sum()
    model = Diffusion.from_function(enumerated_log_posterior(process, probs, 12), process, "log_posterior")
    draw = lambda seed, count: sequences[np.random.default_rng(seed).choice(len(probs), count, p=probs)].astype(
        np.int32
    )
    unseen = Problem(model, TWEEDIE, draw(1, 1024), sequence_keys(jax.random.key(1), 1024))
    entropy = float(-(probs * np.log(probs)).sum())

    def cost(coupling, order="fixed"):
        paths = bridged_teacher(jax.random.key(0), process, coupling, 12, draw(0, 128))
        settings = StudentSettings(grid_points=12, draws=2, order=order, coupling=coupling)
        found = plan.make_plans(model, TWEEDIE, paths, settings, [3])[3]
        return unseen.cost(found.coupling, found.times)

    orders_of_plane = {name: Coupling("low_discrepancy", name, shape=shape) for name in orders.PLANE}
    each = {name: cost(coupling) for name, coupling in orders_of_plane.items()}
    assert cost(orders_of_plane["r2"], "auto") <= min(each.values()) + 0.05
    # dither parts neighbors like a chessboard
    assert min(each.values()) - entropy < 0.6 * (cost(IID) - entropy)


def test_halving_needs_powers_of_two():
    with pytest.raises(ValueError, match=r"^grid='halving': .*\[6\] holds no power of two"):
        plans((6,), order="fixed", grid="halving")


def test_cost_table_of_the_uniform_process_is_the_elbo_of_the_grid():
    own = problem("uniform")
    cost = own.cost(IID, np.linspace(1, 0, 5))
    sampler = Sampler(uniform_schedule(4), TWEEDIE, IID, L)
    nll = np.asarray(jax.jit(m_step_nll)(sequence_keys(jax.random.key(7), 256), own.model, sampler, own.tokens))
    assert cost == pytest.approx(nll.mean(), abs=float(nll.std()) / 4 + 0.05)
