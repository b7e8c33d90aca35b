"""The contract of an objective."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import Student
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import AnyKernel


def no_check(settings: OptimizeSettings, process: Process, kernel: AnyKernel, coupling: Coupling) -> None:
    """Goes with everything."""


class Objective(NamedTuple):
    """An objective of a student's optimization.

    Attributes:
        name: as in the registry.
        prepare: (student, model, paths, settings) -> whatever does not depend on the student's learned numbers, computed once
            from the teacher's paths, as arrays whose first axis is the path.
        loss: (student, model, batch, step, settings) -> the mean loss of a batch of them, nats per sequence where it has a
            unit, and a dict of things to log; `step` makes fresh noise from the paths' own keys, the same on any number of
            devices.
        draws: whether `settings.draws` multiplies the paths.
        check: (settings, process, kernel, coupling) -> None; raises ValueError where the objective does not go with them.
    """

    name: str
    prepare: Callable[[Student, Diffusion, TeacherPaths, OptimizeSettings], Any]
    loss: Callable[[Student, Diffusion, Any, jax.Array, OptimizeSettings], tuple[jax.Array, dict[str, jax.Array]]]
    draws: bool = False
    check: Callable[[OptimizeSettings, Process, AnyKernel, Coupling], None] = no_check
