"""Euler's method for the reverse CTMC: jump with probability rate times step."""

import jax

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.kernel import Kernel, jump
from lsd_jax.samplers.schedule import Step


def euler(model: Diffusion, x_BL: jax.Array, step: Step) -> Transition:
    """One Euler step from t to u (SEDD, Lou et al. 2024, eq. 13): mass (t - u) sigma(t) Q(v, x) s(v)."""
    t, u, params = step
    log_score_BLS = params.scale(model.process.log_concrete_score(model.log_score(x_BL, t), x_BL, t))
    return jump(model.process, x_BL, model.process.euler_log_mass(log_score_BLS, x_BL, t, u), params)


EULER = Kernel("euler", euler, ("absorbing", "uniform", "gaussian"), "Lou et al. 2024, arXiv 2310.16834")
