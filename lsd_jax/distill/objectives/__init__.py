"""Objectives, one file each, found by name.

An objective has two parts. `prepare(student, process, model, paths, settings)` computes once, from the teacher's paths,
whatever does not depend on the student's learned numbers, as arrays whose first axis is the path. `loss(student, process,
model, params, batch, step, settings)` is the mean loss of a batch of them and a dict of things to log; `step` makes fresh
noise from the paths' own keys, the same on any number of devices.
"""

from typing import NamedTuple

from lsd_jax.distill.objectives import dial, effective_transition, path_kl, reverse_path_kl, score_alignment
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling


class Objective(NamedTuple):
    """An objective's two functions, and whether `settings.draws` multiplies its paths."""

    prepare: callable
    loss: callable
    draws: bool


OBJECTIVES = {
    "path_kl": Objective(path_kl.prepare, path_kl.loss, True),
    "reverse_path_kl": Objective(reverse_path_kl.prepare, reverse_path_kl.loss, True),
    "dial": Objective(dial.prepare, dial.loss, True),
    "score_alignment": Objective(score_alignment.prepare, score_alignment.loss, False),
    "effective_transition": Objective(effective_transition.prepare, effective_transition.loss, False),
}


def get_objective(name: str) -> Objective:
    """An objective by name.

    Raises:
        ValueError: unknown name.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"config.distill.objective={name!r}: choose one of {sorted(OBJECTIVES)}")
    return OBJECTIVES[name]


def check_objective(settings, process_name: str, kernel: str, coupling: Coupling, length: int) -> None:
    """Raises ValueError, one line that names the field, where an objective does not go with process, kernel or coupling."""
    get_objective(settings.objective)
    name, alignment = settings.objective, settings.alignment
    for field, choices in (
        ("distance", score_alignment.DISTANCES),
        ("noise", score_alignment.NOISES),
        ("gradient", score_alignment.GRADIENTS),
    ):
        if alignment[field] not in choices:
            raise ValueError(f"config.distill.alignment.{field}={alignment[field]!r}: choose one of {choices}")
    if not 0 <= alignment.radius <= 1:
        raise ValueError(
            f"config.distill.alignment.radius={alignment.radius} is a share of the {length} positions, 0 to 1"
        )
    if not 0 <= settings.precision <= 1:
        raise ValueError(f"config.distill.precision={settings.precision} must lie between 0 (diverse) and 1 (precise)")
    if settings.draws < 1:
        raise ValueError(f"config.distill.draws={settings.draws} must be 1 or more")
    if name == "effective_transition" and kernel != "euler":
        raise ValueError(
            f"config.distill.objective={name!r} matches Euler's transitions: config.student.kernel={kernel!r} is not 'euler'"
        )
    unrolled = name in ("effective_transition", "score_alignment") and alignment.gradient == "unrolled"
    if unrolled and not get_kernel(kernel).has_likelihood:
        raise ValueError(
            f"config.distill.alignment.gradient='unrolled' goes through steps of one stage: config.student.kernel={kernel!r} "
            "has more"
        )
    if name in ("reverse_path_kl", "dial") and process_name != "absorbing" and coupling.name != "iid":
        raise ValueError(
            f"config.distill.objective={name!r} on the {process_name} process needs the likelihood of independent draws: "
            f"config.student.coupling.name={coupling.name!r} is not 'iid'"
        )
