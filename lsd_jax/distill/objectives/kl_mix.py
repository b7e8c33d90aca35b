"""The forward-reverse KL mix: (1 - reverse_share) forward path KL + reverse_share reverse path KL.

With a reverse share of 0 a student is as diverse as the teacher, with 1 as precise as its few numbers allow.
"""

import jax

from lsd_jax.distill.objectives.objective import Objective
from lsd_jax.distill.objectives.path_kl import PATH_KL
from lsd_jax.distill.objectives.reverse_path_kl import REVERSE_PATH_KL
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import Student
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.errors import InputError
from lsd_jax.models.model import Diffusion

_PARTS = PATH_KL, REVERSE_PATH_KL


def prepare(student: Student, model: Diffusion, paths: TeacherPaths, settings: OptimizeSettings) -> tuple:
    """The parts of both."""
    return tuple(part.prepare(student, model, paths, settings) for part in _PARTS)


def loss(
    student: Student, model: Diffusion, batch: tuple, step: jax.Array, settings: OptimizeSettings
) -> tuple[jax.Array, dict]:
    """The weighted sum, nats per sequence."""
    forward, reverse = (part.loss(student, model, own, step, settings)[0] for part, own in zip(_PARTS, batch))
    value = (1 - settings.reverse_share) * forward + settings.reverse_share * reverse
    return value, {"path_nll": forward, "reverse_kl": reverse}


def check(settings: OptimizeSettings, *rest) -> None:
    """Raises ValueError where reverse_share is outside [0, 1], or as the reverse path KL."""
    if not 0 <= settings.reverse_share <= 1:
        raise InputError(f"reverse_share={settings.reverse_share}: must lie between 0 (diverse) and 1 (precise)")
    REVERSE_PATH_KL.check(settings, *rest)


KL_MIX = Objective("kl_mix", prepare, loss, draws=True, check=check)
