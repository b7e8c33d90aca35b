"""Samplers: one file a kernel, found by name in KERNELS; those without a time grid in EVENT_SAMPLERS."""

from lsd_jax.samplers.ancestral import ANCESTRAL
from lsd_jax.samplers.any_order import ANY_ORDER
from lsd_jax.samplers.cached import CACHED
from lsd_jax.samplers.confidence import ENTROPY, MARGIN, MASKGIT
from lsd_jax.samplers.euler import EULER
from lsd_jax.samplers.first_hitting import FIRST_HITTING
from lsd_jax.samplers.gillespie import GILLESPIE
from lsd_jax.samplers.kernel import EventSampler, Kernel
from lsd_jax.samplers.predictor_corrector import PREDICTOR_CORRECTOR
from lsd_jax.samplers.remdm import REMDM_CAP, REMDM_CONF, REMDM_LOOP, REMDM_RESCALE
from lsd_jax.samplers.tau_leaping import BINOMIAL_LEAPING, TAU_LEAPING
from lsd_jax.samplers.theta import THETA_RK2, THETA_TRAPEZOIDAL
from lsd_jax.samplers.tweedie import TWEEDIE
from lsd_jax.samplers.uniformization import UNIFORMIZATION

_KERNELS = (
    EULER,
    TWEEDIE,
    ANCESTRAL,
    CACHED,
    TAU_LEAPING,
    BINOMIAL_LEAPING,
    THETA_TRAPEZOIDAL,
    THETA_RK2,
    PREDICTOR_CORRECTOR,
    REMDM_CAP,
    REMDM_RESCALE,
    REMDM_CONF,
    REMDM_LOOP,
    MASKGIT,
    MARGIN,
    ENTROPY,
)
_EVENT_SAMPLERS = (
    FIRST_HITTING,
    ANY_ORDER,
    GILLESPIE,
    UNIFORMIZATION,
)
KERNELS = {kernel.name: kernel for kernel in _KERNELS}
EVENT_SAMPLERS = {sampler.name: sampler for sampler in _EVENT_SAMPLERS}


def get_kernel(name: str) -> Kernel:
    """A kernel by name.

    Raises:
        ValueError: unknown name.
    """
    if name not in KERNELS:
        raise ValueError(f"config.student.kernel={name!r}: choose one of {sorted(KERNELS)}")
    return KERNELS[name]


def get_sampler(name: str) -> Kernel | EventSampler:
    """A kernel or an event sampler by name.

    Raises:
        ValueError: unknown name.
    """
    found = {**KERNELS, **EVENT_SAMPLERS}
    if name not in found:
        raise ValueError(f"--sampler={name!r}: choose one of {sorted(found)}")
    return found[name]
