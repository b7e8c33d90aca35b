"""Gradient descent on a student's numbers: on any number of devices, killed and resumed, and whether it finds anything."""

import dataclasses
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from lsd_jax import parallel
from lsd_jax.checkpoints import STOPPED
from lsd_jax.distill import optimize as module
from lsd_jax.distill.optimize import optimize
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import init_student
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from tests.distill.chain import SPREAD, oracle, teacher_paths

SETTINGS = OptimizeSettings(steps=20, batch_size=8, learning_rate=0.02, checkpoint_every=10)
START = init_student(TWEEDIE, SPREAD, "score", 2)


@pytest.mark.parametrize(
    "objective", ["score_alignment", pytest.param("kl_mix", marks=pytest.mark.slow)]
)  # the mix holds both path divergences
def test_eight_devices_give_the_student_of_one(monkeypatch, objective):
    """From a student that is none of its own optima: there Adam would make steps of the gradient's rounding."""
    settings = dataclasses.replace(SETTINGS, objective=objective)
    moved = {"log_coefficient": jnp.array([0.3, -0.2]), "log_temperature": jnp.array([0.3, 0.2])}
    start = dataclasses.replace(START, **moved)
    eight, gain = optimize(start, oracle(), teacher_paths(), settings)
    one_device = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    monkeypatch.setattr(parallel, "data_mesh", lambda: one_device)
    one, gain_one = optimize(start, oracle(), teacher_paths(), settings)
    assert gain > 0 and gain == pytest.approx(gain_one, rel=1e-2, abs=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), eight, one)


def test_a_killed_distillation_resumes_to_the_same_student(tmp_path, monkeypatch, capsys):
    straight = optimize(START, oracle(), teacher_paths(), SETTINGS)

    class Killed(module.Progress):
        def __call__(self, step, **values):
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(module, "Progress", Killed)
        with pytest.raises(SystemExit, match=f"^{STOPPED}$"):
            optimize(START, oracle(), teacher_paths(), SETTINGS, tmp_path)
    assert capsys.readouterr().err.endswith("stopped at step 10; run the same command again to go on\n")
    resumed = optimize(START, oracle(), teacher_paths(), SETTINGS, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)


def test_path_kl_finds_the_temperature_that_was_taken_away():
    """Started from a wrong temperature and coefficient, the teacher-forced likelihood goes back toward one."""
    wrong = dataclasses.replace(
        init_student(TWEEDIE, SPREAD, "score", 4),
        log_temperature=jnp.full(4, 0.7),
        log_coefficient=jnp.array([-0.5, -0.5, -0.5, 0.0]),
    )
    settings = dataclasses.replace(SETTINGS, steps=100, learning_rate=0.05)
    student, gain = optimize(wrong, oracle(), teacher_paths(), settings)
    assert gain > 1
    assert np.abs(student.log_coefficient[:3]).max() < 0.25
    assert float(student.log_temperature.mean()) < 0.4


def test_impossible_sizes_are_told():
    with pytest.raises(ValueError, match=r"^batch_size=7"):
        optimize(START, oracle(), teacher_paths(), dataclasses.replace(SETTINGS, batch_size=7))
    with pytest.raises(ValueError, match=r"^steps=15"):
        optimize(START, oracle(), teacher_paths(), dataclasses.replace(SETTINGS, steps=15))
