"""Soft tokens: floats (..., num_states), one-hot in value, that carry a gradient with respect to the sampler's parameters."""

import jax
import jax.numpy as jnp

# The likelihood that a soft token has where it is impossible: small enough to count for nothing, while its inverse, which a
# gradient meets, is far from overflow.
SOFT_FLOOR = 1e-20


def is_soft(x: jax.Array) -> bool:
    """Whether tokens are soft floats (..., num_states) instead of integers."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def hard_tokens(x: jax.Array) -> jax.Array:
    """The integers of tokens that may be soft, without a gradient."""
    return jnp.argmax(jax.lax.stop_gradient(x), -1).astype(jnp.int32) if is_soft(x) else x
