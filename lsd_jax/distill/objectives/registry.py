"""Objectives by name: one file each, one line here."""

from lsd_jax.distill.objectives.effective_transition import EFFECTIVE_TRANSITION
from lsd_jax.distill.objectives.kl_mix import KL_MIX
from lsd_jax.distill.objectives.objective import Objective
from lsd_jax.distill.objectives.path_kl import PATH_KL
from lsd_jax.distill.objectives.reverse_path_kl import REVERSE_PATH_KL
from lsd_jax.distill.objectives.score_alignment import SCORE_ALIGNMENT
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.errors import InputError
from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import AnyKernel

_OBJECTIVES = (PATH_KL, REVERSE_PATH_KL, KL_MIX, SCORE_ALIGNMENT, EFFECTIVE_TRANSITION)
OBJECTIVES = {objective.name: objective for objective in _OBJECTIVES}


def get_objective(name: str) -> Objective:
    """An objective by name.

    Raises:
        ValueError: unknown name.
    """
    if name not in OBJECTIVES:
        raise InputError(f"objective={name!r}: choose one of {sorted(OBJECTIVES)}")
    return OBJECTIVES[name]


def check_objective(settings: OptimizeSettings, process: Process, kernel: AnyKernel, coupling: Coupling) -> None:
    """Raises ValueError where a setting is out of range, or the objective does not go with process, kernel or coupling."""
    objective = get_objective(settings.objective)
    if settings.draws < 1:
        raise InputError(f"draws={settings.draws}: must be 1 or more")
    if settings.steps < 0:
        raise InputError(f"steps={settings.steps}: must be 0 or more")
    if not settings.learning_rate > 0:
        raise InputError(f"learning_rate={settings.learning_rate}: must be positive")
    objective.check(settings, process, kernel, coupling)
