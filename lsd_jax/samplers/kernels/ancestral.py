"""Ancestral sampling: draws from q(x_u | x_t, x_0) averaged over the model's posterior of x_0."""

import jax
import jax.numpy as jnp

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.kernel import Kernel, jump
from lsd_jax.samplers.schedule import Step


def ancestral(model: Diffusion, x_BL: jax.Array, step: Step) -> Transition:
    """One posterior step from t to u (D3PM, Austin et al. 2021, eq. 4; MDLM, Sahoo et al. 2024, eq. 6).

    LSD's coefficient on the score scales the mass of every jump. On the log-score it sharpens the posterior.
    """
    t, u, params = step
    log_score_BLS, factor = params.scale(model.log_score(x_BL, t)), 1.0
    if params.coefficient == "score":
        factor = jnp.exp(params.log_coefficient)
    elif model.process.ordered:  # elsewhere `ancestral_log_mass` normalizes, and twice would change the last digits
        log_score_BLS = jax.nn.log_softmax(log_score_BLS)
    log_mass_BLS = model.process.ancestral_log_mass(log_score_BLS, x_BL, t, u, factor)
    return jump(model.process, x_BL, log_mass_BLS, params)


ANCESTRAL = Kernel("ancestral", ancestral, ("absorbing", "uniform", "gaussian"), "Sahoo et al. 2024, arXiv 2406.07524")
