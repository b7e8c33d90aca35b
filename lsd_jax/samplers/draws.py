"""Draws of tokens from uniforms."""

import jax
import jax.numpy as jnp

_BELOW_ONE = 1 - 2.0**-23  # an inverse CDF must not be asked for its very end


def inverse_cdf(log_mass: jax.Array, uniform: jax.Array) -> jax.Array:
    """Tokens (...) drawn in proportion to exp(log_mass) (..., S) with one uniform each."""
    top = jax.lax.stop_gradient(log_mass.max(-1, keepdims=True))
    cumulative = jnp.cumsum(jnp.exp(log_mass - top), -1)
    target = jnp.minimum(uniform, _BELOW_ONE)[..., None] * cumulative[..., -1:]
    return (cumulative <= target).sum(-1, dtype=jnp.int32)
