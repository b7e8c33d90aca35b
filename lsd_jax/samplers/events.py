"""What the samplers without a grid share: their start, their noise, and the network asked at every sequence's own time."""

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.score import Process
from lsd_jax.samplers.simulate import Condition
from lsd_jax.samplers.transition import Transition, fine_uniform


def start(
    key_B: jax.Array, process: Process, length: int, condition: Condition | None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The prior's tokens with the given ones in place (B, L), where events may happen (B, L), and how many (B,)."""
    x_BL = jax.vmap(lambda key: process.prior_sample(jax.random.fold_in(key, 2**31 - 1), (length,)))(key_B)
    free_BL = jnp.ones_like(x_BL, bool)
    if condition is not None:
        x_BL, free_BL = condition.apply(x_BL), ~condition.fixed_BL
    if isinstance(process, Absorbing):
        free_BL = x_BL == process.mask
    return x_BL, free_BL, free_BL.sum(-1)


def uniforms(key_B: jax.Array, event: jax.Array, *shape: int) -> jax.Array:
    """Uniforms (B, *shape) in (0, 1) of one event."""
    return jax.vmap(lambda key: fine_uniform(jax.random.fold_in(key, event), shape))(key_B)


def scores_at(log_score_fn: LogScoreFn, x_BL: jax.Array, t_B: jax.Array) -> jax.Array:
    """Log-scores (B, L, S): a network takes one time a call, and sequences are at times of their own."""
    return jax.vmap(lambda x_L, t: log_score_fn(x_L[None], t)[0])(x_BL, t_B)


def jump_at(x_BL: jax.Array, chosen_BL: jax.Array, log_destination_BLS: jax.Array, uniform_BL: jax.Array) -> jax.Array:
    """x with new tokens at the chosen positions."""
    transition = Transition(x_BL, jnp.where(chosen_BL, -jnp.inf, 0.0), log_destination_BLS)
    return transition.sample(jnp.zeros_like(uniform_BL), uniform_BL)


def rank(value_BL: jax.Array) -> jax.Array:
    """The place (B, L) of every entry in its row, smallest first."""
    return jnp.argsort(jnp.argsort(value_BL, -1), -1)
