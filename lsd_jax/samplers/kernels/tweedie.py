"""SEDD's analytic sampler (Tweedie tau-leaping): exact for one position if the score did not change in the step."""

import jax

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.kernel import Kernel, jump
from lsd_jax.samplers.schedule import Step


def tweedie(model: Diffusion, x_BL: jax.Array, step: Step) -> Transition:
    """One analytic step from t to u (SEDD, Lou et al. 2024, eq. 19): staggered score times forward transition."""
    t, u, params = step
    log_score_BLS = params.scale(model.log_score(x_BL, t))
    return jump(model.process, x_BL, model.process.tweedie_log_mass(log_score_BLS, x_BL, t, u), params)


TWEEDIE = Kernel("tweedie", tweedie, ("absorbing", "uniform"), "Lou et al. 2024, arXiv 2310.16834")
