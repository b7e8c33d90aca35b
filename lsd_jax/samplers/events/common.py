"""What the samplers without a time grid share: their start, their noise and their denoising call."""

import jax
import jax.numpy as jnp

from lsd_jax.keys import PathStream
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.draws import as_uniform, random_bits
from lsd_jax.processes.process import Process
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.kernel import Condition, denoise, prior_tokens
from lsd_jax.samplers.schedule import Step, StepParameters


def start(
    key_B: jax.Array, process: Process, length: int, condition: Condition | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The prior's tokens with the given ones in place (B, L), where events may happen (B, L), and how many (B,)."""
    x_BL = prior_tokens(key_B, process, length, condition)
    free_BL = jnp.ones_like(x_BL, bool) if condition is None else ~condition.fixed_BL
    if process.jumps_once:
        free_BL = x_BL == process.mask
    return x_BL, free_BL, free_BL.sum(-1)


def bits(key_B: jax.Array, event: jax.Array, *shape: int) -> jax.Array:
    """Random bits (B, *shape) of one event."""
    return jax.vmap(lambda key: random_bits(jax.random.fold_in(key, event), shape))(key_B)


def jump_at(x_BL: jax.Array, chosen_BL: jax.Array, log_destination_BLS: jax.Array, bits_BL: jax.Array) -> jax.Array:
    """x with new tokens at the chosen positions."""
    transition = Transition(x_BL, jnp.where(chosen_BL, -jnp.inf, 0.0), log_destination_BLS)
    return transition.sample(jnp.zeros(bits_BL.shape), bits_BL)


def rank(value_BL: jax.Array) -> jax.Array:
    """The place (B, L) of every entry in its row, smallest first."""
    return jnp.argsort(jnp.argsort(value_BL, -1), -1)


def denoised(
    key_B: jax.Array, model: Diffusion, x_BL: jax.Array, free_BL: jax.Array, t: jax.Array, params: StepParameters
) -> jax.Array:
    """The tokens (B, L) after a denoising call at time t, given positions unchanged."""
    clean = denoise(model, x_BL, Step(t, jnp.zeros(()), params))
    drawn = bits(key_B, jnp.int32(int(PathStream.LAST)), 2, x_BL.shape[1])
    return jnp.where(free_BL, clean.sample(as_uniform(drawn[:, 0]), drawn[:, 1]), x_BL)
