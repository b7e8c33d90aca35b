"""A countdown of six tokens and its exact denoiser, for teachers, cost tables and objectives."""

import functools

import jax
import jax.numpy as jnp

from lsd_jax.distill.teacher import TeacherPaths, sample_teacher
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import markov_log_posterior
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process
from lsd_jax.processes.soft import is_soft
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.tasks.chain_laws import countdown

S, L = 6, 12
CHAIN = countdown(S, 0.01)
STEPS, PATHS = 24, 32  # of the teacher
SPREAD = Coupling("low_discrepancy")


@functools.cache
def oracle(name: str = "absorbing", noise: str = "loglinear") -> Diffusion:
    """The exact model; one object per process, so that its programs are shared."""
    process = make_process(name, S, make_noise(noise))
    return Diffusion.from_function(markov_log_posterior(process, *CHAIN), process, "log_posterior")


@functools.cache
def network(name: str = "absorbing") -> Diffusion:
    """A network of sorts, quick to compile: what it says of a position depends on all the others; it reads soft tokens."""
    process = oracle(name).process

    def logits(x, t):
        del t
        soft_BLV = x if is_soft(x) else jax.nn.one_hot(x, process.num_states)
        value_BL = soft_BLV[..., :S] @ jnp.arange(1.0, S + 1)
        context_B11 = (value_BL @ jnp.arange(1.0, L + 1))[:, None, None]
        frequency_1LS = jnp.arange(S)[None, None] * (1.0 + jnp.arange(L))[None, :, None]
        return jnp.sin(context_B11 + frequency_1LS)

    return Diffusion.from_function(logits, process)


@functools.cache
def teacher_paths() -> TeacherPaths:
    """Paths under masking noise, whose positions keep their thresholds."""
    return sample_teacher(jax.random.key(0), oracle(), TWEEDIE, SPREAD, STEPS, PATHS, L)
