"""Orders and grids before any gradient."""

import jax
import numpy as np
import pytest

from configs.common import base_config
from lsd_jax.data.chain import sample_chain
from lsd_jax.data.countdown import transition_matrix
from lsd_jax.distill import plan, schedule_search
from lsd_jax.distill.teacher import bridged_teacher
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior, markov_log_posterior
from lsd_jax.models.score_fn import oracle_score_model
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import get_kernel, orders
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.grids import fixed_grid

S, L, P = 6, 32, 64
CHAIN = transition_matrix(S, 0.01)
GOLDEN = Coupling("low_discrepancy")


def setting(name="absorbing", noise="loglinear"):
    process = make_process(name, S, make_noise(noise))
    return process, oracle_score_model(process, markov_log_posterior(process, *CHAIN))


def paths_of(process, coupling):
    tokens = sample_chain(np.random.default_rng(0), *CHAIN, P, L).astype(np.int32)
    return bridged_teacher(jax.random.key(0), process, coupling, 32, tokens)


def plans(steps, name="absorbing", coupling=GOLDEN, noise="loglinear", **changes):
    process, model = setting(name, noise)
    settings = base_config().student
    settings.update({"grid_points": 32, **changes})
    args = (process, get_kernel("tweedie"), model, coupling, paths_of(process, coupling), settings, steps)
    return plan.make_plans(*args)


def problem(process, model, tokens_seed=0):
    tokens = sample_chain(np.random.default_rng(tokens_seed), *CHAIN, 256, L).astype(np.int32)
    return plan.Problem(process, get_kernel("tweedie"), model, tokens, sequence_keys(jax.random.key(9), 256))


def test_a_choice_is_no_worse_than_what_it_chooses_from():
    fixed, auto = plans([2, 4, 8], order="fixed"), plans([2, 4, 8], order="auto")
    for steps in fixed:
        assert auto[steps].metrics["cost_nats"] <= fixed[steps].metrics["cost_nats"] + 1e-6
        assert len(auto[steps].times) == steps + 1 and (np.diff(auto[steps].times) < 0).all()


@pytest.mark.parametrize("noise", ["loglinear", "geometric", "cosine"])
def test_class_times_reveal_the_classes(noise):
    """A student that runs a pattern on its class times reveals class k in step k, whatever the noise."""
    process, _ = setting(noise=noise)
    classes = np.array([0, 3, 1, 3, 2, 3, 1, 3])
    coupling, times = plan.class_plan(classes, 4, process)
    ends = np.asarray(process.mask_probability(np.asarray(times[1:], np.float32)))
    ends = ends / float(process.mask_probability(np.float32(1)))
    thresholds = np.asarray(coupling.thresholds(sequence_keys(jax.random.key(0), 20), 8))
    steps = np.searchsorted(-ends, -thresholds, side="left")
    for row in steps:
        assert any((row == np.roll(classes, -shift)).all() for shift in range(8))


def test_classes_survive_the_round_trip():
    process, _ = setting()
    classes = np.array([0, 2, 1, 2] * 4)
    coupling, times = plan.class_plan(classes, 3, process)
    np.testing.assert_array_equal(plan.classes_of(plan.Plan(coupling, times, {}), process, L), classes)


def test_a_learned_order_beats_a_bad_one_on_unseen_sequences():
    """From the order that reveals blocks of neighbours together, local search finds a far better one."""
    process, model = setting()
    blocks = plan.class_plan(np.repeat([0, 1, 2, 3], 4), 4, process)
    bad = plan.Plan(*blocks, {"cost_nats": problem(process, model).cost(*blocks)})
    found = plan._learned(problem(process, model), bad, 150)
    unseen = problem(process, model, tokens_seed=1)
    assert found.metrics["order_gain_nats"] > 0
    assert unseen.cost(found.coupling, found.times) < unseen.cost(*blocks) - 1


def test_refinement_is_kept_only_if_unseen_paths_agree():
    coarse = plans([4], "uniform", Coupling("iid"), order="fixed", grid_points=8)[4]
    fine = plans([4], "uniform", Coupling("iid"), order="fixed", grid_points=8, refine=True)[4]
    gain = fine.metrics["refine_gain_nats"]
    assert gain >= 0 and (gain > 0) == (not np.array_equal(coarse.times, fine.times))


@pytest.mark.parametrize("method", ["greedy", "jys", "profile", "uniform", "cosine"])
def test_other_grids_are_grids_and_no_better_than_the_optimal_one(method):
    best = plans([4], coupling=Coupling("iid"), order="fixed")[4]
    other = plans([4], coupling=Coupling("iid"), order="fixed", grid=method)[4]
    if method in ("greedy", "jys", "profile"):  # the fixed ones need no table
        assert other.metrics["cost_nats"] >= best.metrics["cost_nats"] - 1e-6
    else:
        np.testing.assert_array_equal(other.times, fixed_grid(method, 4))
    assert len(other.times) == 5 and (np.diff(other.times) < 0).all()


def test_a_fixed_grid_with_a_chosen_order_lies_on_the_fine_grid():
    found = plans([4], order="auto", grid="quadratic")[4]
    if found.coupling.generator != "pattern":  # a sweep has times of its own
        assert found.metrics["cost_nats"] >= plans([4], order="auto")[4].metrics["cost_nats"] - 1e-6
    assert len(found.times) == 5 and (np.diff(found.times) < 0).all()


def test_images_get_the_cheapest_order_of_the_plane():
    """A 3 x 4 image of an enumerated Ising model: neighbours agree, so that orders which part them are cheaper."""
    shape, process = (3, 4), make_process("absorbing", 2, make_noise("loglinear"))
    sequences = all_sequences(2, 12)
    spins = 2 * sequences.reshape(-1, *shape) - 1
    agreement = (spins[:, 1:] * spins[:, :-1]).sum((1, 2)) + (spins[:, :, 1:] * spins[:, :, :-1]).sum((1, 2))
    law = np.exp(0.6 * agreement)
    law /= law.sum()
    model = oracle_score_model(process, enumerated_log_posterior(process, law, 12))
    tokens = sequences[np.random.default_rng(0).choice(len(law), 128, p=law)].astype(np.int32)
    entropy = float(-(law * np.log(law)).sum())
    settings = base_config().student
    settings.update({"grid_points": 12, "draws": 2})

    def cost(coupling, order="fixed"):
        paths = bridged_teacher(jax.random.key(0), process, coupling, 12, tokens)
        args = (process, get_kernel("tweedie"), model, coupling, paths, settings.copy_and_resolve_references(), [3])
        args[5].order = order
        return plan.make_plans(*args)[3]

    orders_of_plane = {name: Coupling("low_discrepancy", name, shape=shape) for name in orders.PLANE}
    each = {name: cost(coupling).metrics["cost_nats"] for name, coupling in orders_of_plane.items()}
    chosen = cost(orders_of_plane["r2"], "auto")
    assert chosen.metrics["cost_nats"] <= min(each.values()) + 1e-6
    random = cost(Coupling("iid")).metrics["cost_nats"]
    assert min(each.values()) - entropy < 0.6 * (random - entropy)  # dither parts neighbours like a chessboard


def test_greedy_halving_needs_powers_of_two():
    with pytest.raises(ValueError, match=r"\[6\] holds no power of two"):
        plans([6], order="fixed", grid="greedy")


def test_greedy_halving_goes_on_where_intervals_are_spent():
    rng = np.random.default_rng(0)
    table = np.where(np.arange(17)[None] > np.arange(16)[:, None], rng.random((16, 17)), np.inf)
    grids = schedule_search.greedy_paths(table, 16)
    assert all(len(grids[steps]) == steps + 1 for steps in (1, 2, 4, 8, 16))
    np.testing.assert_array_equal(grids[16], np.arange(17))
    assert set(grids[4]) <= set(grids[8])


def test_profile_steps_are_dense_where_information_is():
    """With the loss per squared step falling as exp(-8 x), steps crowd where it is large."""
    fine = np.linspace(0, 1, 101)
    profile = np.exp(-8 * fine)  # nats a token at share x revealed: |h'| is largest at the start
    table = np.full((100, 101), np.inf)
    table[np.arange(100), np.arange(1, 101)] = profile[:100]
    indices = schedule_search.profile_indices(table, np.ones(100), 5)
    assert indices[0] == 0 and indices[-1] == 100 and (np.diff(indices) > 0).all()
    assert indices[1] < 15 and np.diff(indices)[-1] > 30


def test_cost_table_of_the_uniform_process_is_the_bound_of_the_grid():
    from lsd_jax.metrics.bound import m_step_nll
    from lsd_jax.samplers.simulate import uniform_schedule

    process, model = setting("uniform")
    own = problem(process, model)
    cost = own.cost(Coupling("iid"), np.linspace(1, 0, 5))
    args = (process, own.kernel, model.bind(()), uniform_schedule(4), Coupling("iid"), own.tokens)
    nll = np.asarray(m_step_nll(sequence_keys(jax.random.key(7), 256), *args))
    assert cost == pytest.approx(nll.mean(), abs=float(nll.std()) / 4 + 0.05)


def test_zoom_keeps_the_grid_and_stays_between_neighbours():
    times = np.array([1.0, 0.6, 0.5, 0.0])
    finer = schedule_search.zoom(times, 0.3)
    assert set(times) <= set(finer) and (np.diff(finer) < 0).all() and finer[0] == 1 and finer[-1] == 0
