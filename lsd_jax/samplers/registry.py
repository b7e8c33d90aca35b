"""Samplers by name: one file per kernel or event sampler, one line here."""

from lsd_jax.errors import InputError
from lsd_jax.samplers.events.adaptive import CONFIDENCE_THRESHOLD, EB, KLASS
from lsd_jax.samplers.events.any_order import ANY_ORDER
from lsd_jax.samplers.events.eb_uniform import EB_UNIFORM
from lsd_jax.samplers.events.first_hitting import FIRST_HITTING
from lsd_jax.samplers.events.gillespie import GILLESPIE
from lsd_jax.samplers.events.uniformization import UNIFORMIZATION
from lsd_jax.samplers.kernel import AnyKernel, EventSampler, Kernel, StagedKernel
from lsd_jax.samplers.kernels.ancestral import ANCESTRAL
from lsd_jax.samplers.kernels.cached import CACHED
from lsd_jax.samplers.kernels.confidence import BLOCKWISE, ENTROPY, MARGIN, MASKGIT, MASKGIT_COOL
from lsd_jax.samplers.kernels.euler import EULER
from lsd_jax.samplers.kernels.predictor_corrector import PREDICTOR_CORRECTOR
from lsd_jax.samplers.kernels.remdm import REMDM_CAP, REMDM_CONF, REMDM_LOOP, REMDM_RESCALE
from lsd_jax.samplers.kernels.tau_leaping import BINOMIAL_LEAPING, TAU_LEAPING
from lsd_jax.samplers.kernels.theta import THETA_RK2, THETA_TRAPEZOIDAL
from lsd_jax.samplers.kernels.tweedie import TWEEDIE

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
    MASKGIT_COOL,
    MARGIN,
    ENTROPY,
    BLOCKWISE,
)
_EVENT_SAMPLERS = (
    FIRST_HITTING,
    ANY_ORDER,
    GILLESPIE,
    UNIFORMIZATION,
    EB,
    CONFIDENCE_THRESHOLD,
    KLASS,
    EB_UNIFORM,
)
KERNELS: dict[str, Kernel | StagedKernel] = {kernel.name: kernel for kernel in _KERNELS}
EVENT_SAMPLERS: dict[str, EventSampler] = {sampler.name: sampler for sampler in _EVENT_SAMPLERS}
SAMPLERS: dict[str, AnyKernel] = KERNELS | EVENT_SAMPLERS


def get_kernel(name: str) -> Kernel | StagedKernel:
    """A kernel, which has a time grid, by name.

    Raises:
        ValueError: unknown name.
    """
    if name not in KERNELS:
        raise InputError(f"kernel={name!r}: choose one of {sorted(KERNELS)}")
    return KERNELS[name]


def get_sampler(name: str) -> AnyKernel:
    """A kernel or an event sampler by name.

    Raises:
        ValueError: unknown name.
    """
    if name not in SAMPLERS:
        raise InputError(f"name={name!r}: choose one of {sorted(SAMPLERS)}")
    return SAMPLERS[name]
