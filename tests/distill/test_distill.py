"""Teacher, cost table, schedule search and polishing on an exactly known chain."""

import dataclasses
import itertools
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from configs.common import base_config
from lsd_jax import parallel
from lsd_jax.data.countdown import transition_matrix
from lsd_jax.distill import loop, schedule_search, teacher
from lsd_jax.distill.objectives import check_objective, get_objective, score_alignment
from lsd_jax.distill.student import init_student
from lsd_jax.models.oracle import markov_log_posterior
from lsd_jax.models.score_fn import oracle_score_model
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling

S, L, N, P = 6, 12, 24, 32
PROCESS = make_process("absorbing", S, make_noise("loglinear"))
MODEL = oracle_score_model(PROCESS, markov_log_posterior(PROCESS, *transition_matrix(S, 0.01)))
COUPLING = Coupling("low_discrepancy")
SETTINGS = base_config().distill
SETTINGS.update({"steps": 20, "batch_size": 8, "learning_rate": 0.02, "checkpoint_every": 10})
TIMES = np.linspace(1, 0, N + 1)


def oracle(name):
    process = make_process(name, S, make_noise("loglinear"))
    return process, oracle_score_model(process, markov_log_posterior(process, *transition_matrix(S, 0.01)))


@pytest.fixture(scope="module")
def paths():
    return teacher.sample_teacher(jax.random.key(0), PROCESS, get_kernel("tweedie"), MODEL, COUPLING, N, P, L)


def test_teacher_paths_reveal_each_position_once(paths):
    masked = paths.states == S
    assert masked[:, 0].all() and not masked[:, -1].any()
    assert (np.diff(masked.astype(int), axis=1) <= 0).all()
    changed = paths.states[:, 1:] != paths.states[:, :-1]
    assert (changed.sum(1) == 1).all()


def table_of(paths, process=PROCESS, model=MODEL, coupling=COUPLING, times=TIMES):
    tokens, keys = paths.repeated(1)
    return schedule_search.cost_table(process, get_kernel("tweedie"), model, coupling, tokens, keys, times)


def test_cost_table_against_a_direct_sum(paths):
    table = table_of(paths)
    i, j = 5, 17
    log_posterior = jax.nn.log_softmax(
        MODEL.bind(())(jnp.asarray(paths.states[:, i], jnp.int32), jnp.float32(paths.time_grid[i]))
    )
    revealed = (paths.states[:, i] == S) & (paths.states[:, j] != S)
    nll = -np.take_along_axis(np.asarray(log_posterior), paths.tokens[..., None].astype(int), -1)[..., 0]
    assert table[i, j] == pytest.approx(np.where(revealed, nll, 0).sum(-1).mean(), rel=1e-4)
    assert np.isinf(table[j, i]) and np.isinf(table[i, i])


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_passes_of_one_sequence_give_the_same_paths_and_table(monkeypatch, name):
    process, model = oracle(name)
    coupling, kernel, times = Coupling("iid"), get_kernel("tweedie"), np.linspace(1, 0, 7)

    def both():
        schedule_search.cost_rows.clear_cache()
        own = teacher.sample_teacher(jax.random.key(0), process, kernel, model, coupling, 6, P, L)
        table = schedule_search.cost_table(process, kernel, model, coupling, *own.repeated(1), times)
        return own.states, table

    whole = both()
    monkeypatch.setattr(parallel, "PASS_BYTES", 1)
    parts = both()
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-5)


def test_shortest_paths_are_the_best_of_all():
    rng = np.random.default_rng(0)
    table = np.where(np.arange(9)[None] > np.arange(8)[:, None], rng.random((8, 9)) * 5, np.inf)
    grids = schedule_search.shortest_paths(table, 4)
    for steps in range(1, 5):
        every = [
            sum(table[a, b] for a, b in itertools.pairwise((0, *inner, 8)))
            for inner in itertools.combinations(range(1, 8), steps - 1)
        ]
        found = sum(table[a, b] for a, b in itertools.pairwise(grids[steps]))
        assert found == pytest.approx(min(every)) and len(grids[steps]) == steps + 1
    with pytest.raises(ValueError, match=r"config\.student\.steps=9"):
        schedule_search.shortest_paths(table, 9)


def test_optimal_grid_is_no_worse_than_the_uniform_one(paths):
    table = table_of(paths)
    grids = schedule_search.shortest_paths(table, 6)
    for steps in (2, 3, 6):
        uniform = schedule_search.path_kl(table, schedule_search.uniform_indices(N, steps))
        assert schedule_search.path_kl(table, grids[steps]) <= uniform + 1e-6
    assert schedule_search.path_kl(table, np.arange(N + 1)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("objective", ["path_kl", "score_alignment", "dial"])
def test_eight_devices_give_the_student_of_one(paths, tmp_path, monkeypatch, objective):
    settings = SETTINGS.copy_and_resolve_references()
    settings.objective = objective
    start = init_student("tweedie", COUPLING, "score", 3)
    eight, gain = loop.polish(start, PROCESS, MODEL, paths, settings, tmp_path / "8")
    one_device = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    monkeypatch.setattr(parallel, "data_mesh", lambda: one_device)
    one, gain_one = loop.polish(start, PROCESS, MODEL, paths, settings, tmp_path / "1")
    assert gain == pytest.approx(gain_one, rel=1e-2, abs=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), eight, one)


@pytest.mark.parametrize("gradient", ["detached", "unrolled"])
def test_scores_too_large_to_keep_are_computed_again(paths, monkeypatch, gradient):
    settings = SETTINGS.copy_and_resolve_references()
    settings.alignment.gradient = gradient
    start = init_student("tweedie", COUPLING, "score", 3)
    objective = get_objective("score_alignment")

    def loss_and_grad():
        data = objective.prepare(start, PROCESS, MODEL, paths, settings)
        loss = lambda student: objective.loss(student, PROCESS, MODEL, (), data, jnp.int32(0), settings)[0]  # noqa: E731
        return data.log_scores is None, jax.jit(jax.value_and_grad(loss))(start)

    kept = loss_and_grad()
    monkeypatch.setattr(score_alignment, "_CACHED_BYTES", 0)
    again = loss_and_grad()
    assert (kept[0], again[0]) == (False, True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), kept[1], again[1])
    with pytest.raises(ValueError, match=r"config\.teacher\.paths"):
        get_objective("effective_transition").prepare(start, PROCESS, MODEL, paths, settings)


def test_a_killed_distillation_resumes_to_the_same_student(paths, tmp_path, monkeypatch):
    start = init_student("tweedie", COUPLING, "score", 3)
    straight, _ = loop.polish(start, PROCESS, MODEL, paths, SETTINGS, tmp_path / "a")

    class Killed(loop.Progress):
        def __call__(self, step, **values):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "Progress", Killed)
        with pytest.raises(SystemExit, match="step 10"):
            loop.polish(start, PROCESS, MODEL, paths, SETTINGS, tmp_path / "b")
    resumed, _ = loop.polish(start, PROCESS, MODEL, paths, SETTINGS, tmp_path / "b")
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)


def test_path_kl_finds_the_temperature_that_was_taken_away(paths, tmp_path):
    """Started from a wrong temperature and coefficient, the teacher-forced likelihood goes back toward one."""
    start = init_student("tweedie", COUPLING, "score", 4)
    wrong = dataclasses.replace(
        start, log_temperature=jnp.full(4, 0.7), log_coefficient=jnp.array([-0.5, -0.5, -0.5, 0.0])
    )
    settings = SETTINGS.copy_and_resolve_references()
    settings.update({"steps": 100, "learning_rate": 0.05})
    student, gain = loop.polish(wrong, PROCESS, MODEL, paths, settings, tmp_path)
    assert gain > 1
    assert np.abs(student.log_coefficient[:3]).max() < 0.25
    assert float(student.log_temperature.mean()) < 0.4


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_path_kl_gradient_against_finite_differences(paths, name):
    process, model = oracle(name)
    start = init_student("tweedie", COUPLING if name == "absorbing" else Coupling("iid"), "score", 3)
    objective = get_objective("path_kl")
    batch = objective.prepare(start, process, model, paths, SETTINGS)

    def loss(c, t):
        student = dataclasses.replace(start, log_coefficient=c, log_temperature=t)
        return objective.loss(student, process, model, (), batch, 0, SETTINGS)[0]

    point = (jnp.array([0.1, -0.1, 0.0]), jnp.array([0.2, 0.1, -0.1]))
    grads = jax.grad(loss, argnums=(0, 1))(*point)
    for argument, index in ((0, 0), (0, 1), (1, 0), (1, 2)):
        bumped = [list(point), list(point)]
        for side, sign in ((0, 1), (1, -1)):
            bumped[side][argument] = point[argument].at[index].add(sign * 1e-2)
        numeric = (loss(*bumped[0]) - loss(*bumped[1])) / 2e-2
        assert float(grads[argument][index]) == pytest.approx(float(numeric), rel=3e-2, abs=3e-2)


def test_teacher_cache(paths, tmp_path):
    drawn = []
    draw = lambda: drawn.append(1) or paths  # noqa: E731
    for _ in range(2):
        again = teacher.cached_teacher(tmp_path, {"seed": 0}, draw)
    assert len(drawn) == 1
    np.testing.assert_array_equal(again.states, paths.states)
    teacher.cached_teacher(tmp_path, {"seed": 1}, draw)
    assert len(drawn) == 2
    file = sorted(tmp_path.glob("*.npz"))[0]
    with pytest.raises(ValueError, match=r"other settings of seed"):
        for seed in (0, 1):
            teacher.cached_teacher(tmp_path, {"seed": seed}, draw, cache=str(file))
    with pytest.raises(FileNotFoundError, match=r"config\.teacher\.cache"):
        teacher.cached_teacher(tmp_path, {"seed": 0}, draw, cache=str(tmp_path / "none.npz"))
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ValueError, match="delete it"):
        for seed in (0, 1):
            teacher.cached_teacher(tmp_path, {"seed": seed}, draw)


def test_impossible_settings_are_told(paths, tmp_path):
    start = init_student("tweedie", COUPLING, "score", 3)
    settings = SETTINGS.copy_and_resolve_references()
    settings.batch_size = 7
    with pytest.raises(ValueError, match=r"config\.distill\.batch_size=7"):
        loop.polish(start, PROCESS, MODEL, paths, settings, tmp_path)
    with pytest.raises(ValueError, match=r"config\.distill\.objective"):
        get_objective("mse")


@pytest.mark.parametrize(
    ("field", "value", "process", "kernel", "coupling", "message"),
    [
        ("objective", "effective_transition", "absorbing", "tweedie", "iid", "euler"),
        ("objective", "dial", "uniform", "tweedie", "low_discrepancy", "independent draws"),
        ("precision", 1.5, "absorbing", "tweedie", "iid", r"config\.distill\.precision=1\.5"),
        ("draws", 0, "absorbing", "tweedie", "iid", r"config\.distill\.draws=0"),
        ("alignment.radius", 2.0, "absorbing", "euler", "iid", r"config\.distill\.alignment\.radius=2\.0"),
        ("alignment.distance", "l3", "absorbing", "euler", "iid", r"config\.distill\.alignment\.distance"),
    ],
)
def test_what_does_not_go_together_is_told(field, value, process, kernel, coupling, message):
    settings = base_config().distill
    settings.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        check_objective(settings, process, kernel, Coupling(coupling), L)
