"""The verb `distill` on three tokens whose distribution is known: what it returns, keeps, refuses, and how good it is."""

import dataclasses
import importlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.distill.distill import distill, student_path
from lsd_jax.distill.settings import AlignmentSettings, OptimizeSettings, StudentSettings, TeacherSettings
from lsd_jax.models.model import Diffusion, Identity
from lsd_jax.models.oracle import all_sequences
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.uniform import Uniform
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.file import load_sampler
from lsd_jax.samplers.kernels.euler import EULER
from lsd_jax.samplers.likelihood import m_step_nll
from lsd_jax.samplers.schedule import uniform_schedule
from lsd_jax.samplers.simulate import sample
from tests.samplers.enumeration import exact_law, exact_laws, frequencies, oracle, total_variation

S = L = 3
PROBS = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3))
DATA = all_sequences(S, L)[np.random.default_rng(1).choice(S**L, 512, p=PROBS)]
SOME = ("absorbing", pytest.param("uniform", marks=pytest.mark.slow))  # of each process where minutes allow
# Independent draws in any order: the distribution of the student's samples can be enumerated.
PLAIN = StudentSettings(order="fixed", coupling=IID, grid_points=16)
TEACHER = TeacherSettings(steps=16, paths=64)


def model_of(name):
    return dataclasses.replace(oracle(name, PROBS, S, L), identity=Identity("toy", "three tokens", "0" * 64))


def assert_same(own, other, but=()):
    """Two samplers, and what their files say, are equal; `but` names metrics that need not be."""
    assert jax.tree.structure(own) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, own, other)
    facts, other_facts = ({**one.facts, "metrics": dict(one.facts["metrics"])} for one in (own, other))
    for name in but:
        del facts["metrics"][name], other_facts["metrics"][name]
    assert facts == other_facts


@pytest.mark.parametrize("source", ["samples", "data"])
@pytest.mark.parametrize("name", SOME)
def test_one_call_gives_a_sampler_for_every_number_of_steps(name, source):
    """By default settings, from the model alone or from data."""
    model = model_of(name)
    given = {"length": L} if source == "samples" else {"data": DATA}
    found = distill(model, (3, 1), **given, provenance={"command": "a test"})
    assert list(found) == [3, 1]
    for steps, own in found.items():
        assert (own.nfe, own.length, own.process) == (steps, L, model.process)
        assert own.facts["backbone"] == model.identity._asdict()
        assert own.facts["provenance"].items() >= {"command": "a test", "seed": 0, "teacher_paths": 64}.items()
        grid = np.asarray(own.schedule.time_grid)
        assert grid[0] == 1 and grid[-1] == 0 and (np.diff(grid) < 0).all()
    error = total_variation(frequencies(sample(model, found[3], jax.random.key(0), 4096, batch_size=4096), S), PROBS)
    worse = total_variation(frequencies(sample(model, found[1], jax.random.key(0), 4096, batch_size=4096), S), PROBS)
    assert error < 0.6 * worse


def exact_error(model, own):
    """Total variation from the exact distribution: summed over all states, or over all sequences and many reveal orders."""
    if own.coupling == IID:
        return total_variation(exact_law(model, own.kernel, own.schedule, L), PROBS)
    sequences = jnp.asarray(all_sequences(S, L), jnp.int32)
    in_order = lambda key: jnp.exp(-m_step_nll(jnp.broadcast_to(key, len(sequences)), model, own, sequences))
    probs_KN = jax.jit(jax.vmap(in_order))(jax.random.split(jax.random.key(0), 512))
    return total_variation(probs_KN.mean(0), PROBS)


@pytest.mark.parametrize("name", SOME)
def test_a_distilled_sampler_beats_euler_at_equal_nfe(name):
    model, plain = model_of(name), StudentSettings(grid_points=16) if name == "absorbing" else PLAIN
    found = distill(model, (2, 3), data=DATA, student=plain, teacher=TeacherSettings("data", 16, 512))
    error = {steps: exact_error(model, own) for steps, own in found.items()}
    euler = exact_laws(model, EULER, [uniform_schedule(steps) for steps in found], L)
    for steps, law in zip(found, euler):
        assert error[steps] < 0.8 * total_variation(law, PROBS)
    if name == "absorbing":  # as many steps as tokens reveal one at a time
        assert error[3] < 1e-4


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "absorbing",
            {
                "length": L,
                "student": PLAIN,
                "teacher": TEACHER,
                "optimization": OptimizeSettings(steps=10, batch_size=8, learning_rate=0.05),
            },
        ),
        # With potentials the grid's candidate times depend on the largest number of steps.
        pytest.param(
            "uniform",
            {
                "data": DATA,
                "student": dataclasses.replace(PLAIN, potentials=256),
                "teacher": TeacherSettings("data", 16, 64),
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_stopped_distillation_goes_on_to_the_same_students(tmp_path, name, settings):
    settings = {**settings, "folder": tmp_path}
    straight = distill(model_of(name), (2, 4), **settings)
    for steps, own in straight.items():  # what is returned is what the file says
        assert_same(own, load_sampler(student_path(tmp_path, steps)))
    kept = student_path(tmp_path, 4).read_bytes()
    shutil.rmtree(student_path(tmp_path, 2).parent)
    (teacher,) = (tmp_path / "teacher").glob("*.npz")
    made = teacher.stat().st_mtime_ns
    again = distill(model_of(name), (2, 4), **settings)
    assert student_path(tmp_path, 4).read_bytes() == kept and teacher.stat().st_mtime_ns == made
    for steps, own in again.items():
        assert_same(own, straight[steps], but=["seconds"])
    if name == "absorbing":
        assert straight[2].facts["metrics"]["optimize_gain"] >= 0
        assert (tmp_path / "M2" / "checkpoints").is_dir()
    else:
        assert straight[2].schedule.params.log_potential is not None


def test_students_of_another_model_or_length_are_not_taken_for_its_own(tmp_path):
    settings = {"student": dataclasses.replace(PLAIN, grid="uniform"), "teacher": TEACHER, "folder": tmp_path}
    distill(model_of("absorbing"), 2, length=L, **settings)
    with pytest.raises(ValueError, match="^process=.* was distilled for"):
        distill(model_of("uniform"), 2, length=L, **settings)
    with pytest.raises(ValueError, match="^length=4: .* 3 tokens"):
        distill(model_of("absorbing"), 2, length=4, **settings)
    with pytest.raises(ValueError, match="M=2 was distilled with another seed"):
        distill(model_of("absorbing"), 2, length=L, seed=1, **settings)
    settings["student"] = dataclasses.replace(PLAIN, grid="cosine")
    with pytest.raises(ValueError, match=f"^folder='{tmp_path}': M=2 was distilled with another grid$"):
        distill(model_of("absorbing"), 2, length=L, **settings)
    settings["student"] = dataclasses.replace(PLAIN, grid="uniform")
    with pytest.raises(ValueError, match="M=2 was distilled with another network"):
        other = dataclasses.replace(model_of("absorbing"), identity=Identity("toy", "three tokens", "1" * 64))
        distill(other, 2, length=L, **settings)


def student(**changes):
    return {"student": dataclasses.replace(PLAIN, **changes)}


def optimization(**changes):
    return {"optimization": OptimizeSettings(**{"steps": 10, "batch_size": 16, **changes})}


SPREAD = Coupling("low_discrepancy")
WRONG = [
    ("absorbing", {"length": None}, "length"),
    ("absorbing", {"length": 0}, "length"),
    ("absorbing", {"length": 0, "data": DATA}, "length"),
    ("absorbing", {"length": 4, "data": DATA}, "data"),
    ("absorbing", {"data": DATA / 3}, "data"),
    ("absorbing", {"data": DATA[0]}, "data"),
    ("absorbing", {"data": DATA + 1}, "data"),
    ("absorbing", {"steps": ()}, "steps"),
    ("absorbing", {"steps": 0}, "steps"),
    ("absorbing", {"steps": (2, 17)}, "steps"),
    ("absorbing", {"paths": 0}, "paths"),
    ("absorbing", {"paths": 12}, "paths"),
    ("absorbing", {"teacher": TeacherSettings("network")}, "source"),
    ("absorbing", {"teacher": TeacherSettings("data")}, "source"),
    ("absorbing", {"teacher": TeacherSettings(steps=0)}, "steps"),
    ("absorbing", {"data": DATA, "teacher": TeacherSettings("data", paths=1024)}, "paths"),
    ("absorbing", {"teacher": TeacherSettings(cache="nowhere.npz")}, "cache"),
    ("absorbing", student(kernel="heun"), "kernel"),
    ("gaussian", student(kernel="tweedie"), "kernel"),
    ("uniform", student(kernel="cached"), "kernel"),
    ("absorbing", student(kernel="maskgit", coupling=SPREAD), "coupling.name"),
    ("absorbing", student(kernel="maskgit", order="auto"), "order"),
    ("absorbing", student(kernel="maskgit", potentials=8), "potentials"),
    ("uniform", student(coupling=Coupling("shared")), "coupling.name"),
    ("absorbing", student(coupling=Coupling("low_discrepancy", "r2", shape=(2, 2))), "coupling.shape"),
    ("absorbing", student(grid="best"), "grid"),
    ("absorbing", {"steps": 3, **student(grid="halving")}, "grid"),
    ("absorbing", student(order="any"), "order"),
    ("uniform", student(order="auto"), "order"),
    ("absorbing", student(draws=0), "draws"),
    ("absorbing", student(grid_points=1), "grid_points"),
    ("absorbing", student(coefficient="both"), "coefficient"),
    ("absorbing", student(temperature=-1.0), "temperature"),
    ("absorbing", student(top_p=0.0), "top_p"),
    ("absorbing", student(potentials=-1), "potentials"),
    ("absorbing", student(potentials=3), "potentials"),
    ("absorbing", student(potentials=65), "potentials"),
    ("uniform", student(potentials=8, coupling=SPREAD), "potentials"),
    ("gaussian", student(potentials=8, kernel="ancestral"), "potentials"),
    ("large", student(potentials=8), "potentials"),
    ("absorbing", student(potentials=8) | optimization(objective="kl_mix"), "potentials"),
    ("absorbing", optimization(objective="mse"), "objective"),
    ("absorbing", optimization(objective="effective_transition"), "objective"),
    ("absorbing", optimization(steps=15), "steps"),
    ("absorbing", optimization(steps=-10), "steps"),
    ("absorbing", optimization(batch_size=7), "batch_size"),
    ("absorbing", optimization(draws=0), "draws"),
    ("absorbing", optimization(learning_rate=0.0), "learning_rate"),
    ("absorbing", optimization(objective="kl_mix", reverse_share=2.0), "reverse_share"),
    (
        "absorbing",
        optimization(objective="score_alignment", alignment=AlignmentSettings(radius=2.0)),
        "alignment.radius",
    ),
]


@pytest.mark.parametrize(("name", "arguments", "field"), WRONG)
def test_a_mistake_is_told_by_its_name_before_any_work(monkeypatch, name, arguments, field):
    module = importlib.import_module("lsd_jax.distill.distill")
    for work in ("sample_teacher", "bridged_teacher", "make_plans", "optimize"):
        monkeypatch.setattr(module, work, lambda *_: pytest.fail("work was done"))
    if name == "large":
        model = Diffusion.from_function(lambda x, t: x, Uniform(257, LogLinear()))
    else:
        model = model_of(name)
    given = {"steps": 2, "student": PLAIN, "teacher": TEACHER, **arguments}
    if "data" not in given:
        given.setdefault("length", L)
    elif "teacher" not in arguments:
        given["teacher"] = TeacherSettings("data", 16, 64)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        distill(model, **given)
    message = str(caught.value)
    assert message.startswith(f"{field}=") and "\n" not in message and "config." not in message, message
