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
    few, again = plan.problems(oracle(), TWEEDIE, paths.part(slice(8)), 3)
    assert len(again.tokens) == 2 * 8  # too few paths for a quarter: other orders of the same
    keys = [{key.tobytes() for key in np.asarray(jax.random.key_data(own.keys))} for own in (few, again)]
    assert not keys[0] & keys[1]


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


SWEEPS = (0, 1, 2), (0, 2, 1)
THIRDS = np.linspace(1, 0, 4)


def enumerated(seed: int) -> Problem:
    """64 sequences of an arbitrary distribution over six bits, and its exact network."""
    process, sequences = Absorbing(2, LogLinear()), all_sequences(2, 6)
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(64, 0.15))
    model = Diffusion.from_function(enumerated_log_posterior(process, probs, 6), process, "log_posterior")
    tokens = sequences[np.random.default_rng(0).choice(64, 64, p=probs)].astype(np.int32)
    return Problem(model, TWEEDIE, tokens, sequence_keys(jax.random.key(0), 64))


def pattern(*rows) -> Coupling:
    return Coupling("low_discrepancy", "pattern", rows if len(rows) > 1 else rows[0])


@pytest.mark.parametrize(
    ("seed", "start", "kind", "wanted"),
    [
        (1, pattern(SWEEPS[0]), "", pattern(SWEEPS[0])),
        (1, pattern(SWEEPS[1]), "sweep", pattern(SWEEPS[0])),
        (1, SPREAD, "sweep", pattern(SWEEPS[0])),
        (5, pattern(SWEEPS[0]), "mixture", pattern(*SWEEPS)),
    ],
)
def test_another_order_or_two_are_taken_where_unseen_sequences_are_more_probable(seed, start, kind, wanted):
    unseen = enumerated(seed)
    found = plan._likelier(unseen, Plan(start, THIRDS, {}))
    assert found.coupling == wanted
    nats = {one: unseen.path_costs(one, THIRDS, 16).weighted() for one in (start, wanted)}
    gains = nats[start] - nats[wanted]
    for name in ("sweep", "mixture"):
        told = found.metrics[f"{name}_gain_nats"]
        assert told == (pytest.approx(gains.mean(), abs=0.05 if start == SPREAD else 1e-5) if name == kind else 0)
    assert not kind or gains.mean() > gains.std() / 8


def test_a_mixture_is_the_mean_of_its_orders_probabilities():
    """Its bound is the mean of their bounds, which is never the smaller of the two."""
    unseen = enumerated(1)
    costs = [unseen.path_costs(pattern(*rows), THIRDS, 16) for rows in ((SWEEPS[0],), (SWEEPS[1],), SWEEPS)]
    assert all(own.exact for own in costs) and [own.nats_NK.shape[1] for own in costs] == [3, 3, 6]
    each = np.stack([own.weighted() for own in costs[:2]])
    np.testing.assert_allclose(costs[2].weighted(), -np.log(np.exp(-each).mean(0)), rtol=1e-5)
    np.testing.assert_allclose(costs[2].elbo, np.mean([own.elbo for own in costs[:2]], 0), rtol=1e-5)


def test_some_orders_are_not_taken_for_all():
    """Euler reveals at its own pace where the noise is not log-linear, and a split step reveals parts of ranks."""
    assert not enumerated(1)._replace(model=oracle(noise="geometric")).path_costs(pattern(SWEEPS[0]), THIRDS, 16).exact
    own = problem()._replace(model=oracle(noise="geometric"))
    times = plan.class_times(own.model.process, np.ones(4) / 4)
    for kernel, exact in ((TWEEDIE, True), (EULER, False)):
        costs = own._replace(kernel=kernel).path_costs(pattern((0, 1, 2, 3)), times, 16)
        assert costs.exact == exact and costs.nats_NK.shape == (16, 4 if exact else 16)


def test_more_orders_alone_are_no_gain():
    """Of one law with many orders, some are worse than all by what they are fewer; that is no reason to leave it."""
    rng, bias, told = np.random.default_rng(0), [], []
    for _ in range(40):
        nats_NK = rng.normal(100, 2, (16, 4096)) + rng.normal(0, 5, (16, 1))
        few, every = PathCosts(nats_NK[:, :16], False), PathCosts(nats_NK, True)
        bias.append((few.weighted() - every.weighted()).mean())
        told.append(plan._clear_gain(few, every))
    assert np.mean(bias) > 0.3 and np.mean(np.array(told) > 0) < 0.5 and np.mean(told) < np.mean(bias) / 2
    better = PathCosts(every.nats_NK - 1, True)
    assert plan._clear_gain(every, better) == pytest.approx(1) and plan._clear_gain(better, every) == 0
    assert plan._clear_gain(PathCosts(nats_NK[:1], True), PathCosts(nats_NK[:1] - 1, True)) == 0  # one sequence


def test_with_few_steps_or_sequences_there_is_little_to_choose():
    one = Plan(SPREAD, np.array([1.0, 0.0]), {})
    assert plan._likelier(enumerated(1), one) == one
    few = enumerated(1)
    few = few._replace(tokens=few.tokens[:14], keys=few.keys[:14])  # of seven sequences, in two orders each
    assert plan._likelier(few, Plan(SPREAD, THIRDS, {})) == Plan(SPREAD, THIRDS, {})
    two = plan._likelier(enumerated(1), Plan(SPREAD, np.array([1.0, 0.5, 0.0]), {}))
    assert two.metrics["mixture_gain_nats"] == 0 and two.coupling in (SPREAD, pattern((0, 1)))


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
