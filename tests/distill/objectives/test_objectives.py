"""Objectives on the countdown: gradients, what is kept in memory, and what does not go together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.distill.objectives import score_alignment
from lsd_jax.distill.objectives.effective_transition import EFFECTIVE_TRANSITION
from lsd_jax.distill.objectives.path_kl import PATH_KL
from lsd_jax.distill.objectives.registry import check_objective, get_objective
from lsd_jax.distill.objectives.score_alignment import SCORE_ALIGNMENT
from lsd_jax.distill.settings import AlignmentSettings, OptimizeSettings
from lsd_jax.distill.student import init_student
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.registry import get_kernel
from tests.distill.chain import SPREAD, network, oracle, teacher_paths

SETTINGS = OptimizeSettings()


@pytest.mark.parametrize("gradient", ["detached", pytest.param("unrolled", marks=pytest.mark.slow)])
def test_scores_too_large_to_keep_are_computed_again(monkeypatch, gradient):
    settings = dataclasses.replace(SETTINGS, alignment=AlignmentSettings(gradient=gradient))
    start = init_student(TWEEDIE, SPREAD, "score", 2)

    def loss_and_grad():
        data = SCORE_ALIGNMENT.prepare(start, network(), teacher_paths(), settings)
        loss = lambda student: SCORE_ALIGNMENT.loss(student, network(), data, jnp.int32(0), settings)[0]
        return data.log_scores is None, jax.jit(jax.value_and_grad(loss))(start)

    kept = loss_and_grad()
    monkeypatch.setattr(score_alignment, "_CACHED_BYTES", 0)
    again = loss_and_grad()
    assert (kept[0], again[0]) == (False, True)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), kept[1], again[1])
    with pytest.raises(ValueError, match=r"^objective='effective_transition': .* lower the teacher's paths"):
        EFFECTIVE_TRANSITION.prepare(start, network(), teacher_paths(), settings)


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_path_kl_gradient_against_finite_differences(name):
    """In float64: a long first step under uniform noise cancels most digits of a float32."""
    start = init_student(TWEEDIE, SPREAD if name == "absorbing" else IID, "score", 3)
    with jax.enable_x64(True):
        batch = PATH_KL.prepare(start, network(name), teacher_paths(), SETTINGS)

        @jax.jit
        @jax.value_and_grad
        def loss(point):
            student = dataclasses.replace(start, log_coefficient=point[0], log_temperature=point[1])
            return PATH_KL.loss(student, network(name), batch, 0, SETTINGS)[0]

        point = np.array([[0.1, -0.1, 0.0], [0.2, 0.1, -0.1]])
        gradient = loss(point)[1]
        for index in ((0, 0), (0, 1), (1, 0), (1, 2)):
            move = np.zeros_like(point)
            move[index] = 1e-3
            numeric = (loss(point + move)[0] - loss(point - move)[0]) / 2e-3
            assert float(gradient[index]) == pytest.approx(float(numeric), rel=1e-3, abs=1e-3)


def test_an_unknown_objective_is_told():
    with pytest.raises(ValueError, match=r"^objective='mse': choose one of"):
        get_objective("mse")


@pytest.mark.parametrize(
    ("field", "value", "process", "kernel", "coupling", "message"),
    [
        ("objective", "effective_transition", "absorbing", "tweedie", "iid", "^objective=.*euler"),
        ("objective", "kl_mix", "uniform", "tweedie", "low_discrepancy", "^objective=.*independent draws"),
        ("reverse_share", 1.5, "absorbing", "tweedie", "iid", r"^reverse_share=1\.5"),
        ("draws", 0, "absorbing", "tweedie", "iid", r"^draws=0"),
        ("learning_rate", 0.0, "absorbing", "tweedie", "iid", r"^learning_rate=0\.0"),
        ("steps", -1, "absorbing", "tweedie", "iid", r"^steps=-1"),
        ("alignment", {"radius": 2.0}, "absorbing", "euler", "iid", r"^alignment\.radius=2\.0"),
        ("alignment", {"distance": "l3"}, "absorbing", "euler", "iid", r"^alignment\.distance='l3'"),
        ("alignment", {"noise": "none"}, "absorbing", "euler", "iid", r"^alignment\.noise='none'"),
        ("alignment", {"gradient": "unrolled"}, "absorbing", "cached", "iid", r"^alignment\.gradient='unrolled'"),
    ],
)
def test_what_does_not_go_together_is_told(field, value, process, kernel, coupling, message):
    objective = {"reverse_share": "kl_mix", "alignment": "score_alignment"}.get(field, "path_kl")
    value = AlignmentSettings(**value) if field == "alignment" else value
    settings = dataclasses.replace(SETTINGS, **{"objective": objective, field: value})
    with pytest.raises(ValueError, match=message):
        check_objective(settings, oracle(process).process, get_kernel(kernel), Coupling(coupling))
