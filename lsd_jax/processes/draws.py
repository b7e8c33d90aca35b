"""Uniforms, and draws of tokens from them."""

import jax
import jax.numpy as jnp

_BELOW_ONE = 1 - 2.0**-23  # an inverse CDF must not be asked for its very end
_FLAT, _BLOCK = 4096, 512  # tokens up to which one cumulative sum is made, and in a block beyond


def inverse_cdf(log_mass: jax.Array, uniform: jax.Array) -> jax.Array:
    """Tokens (...) drawn in proportion to exp(log_mass) (..., S) with one uniform each; -1 where a mass is not a number, or all are 0.

    Masses are summed in the order of the tokens, and not from the smallest on, so that two samplers with equal uniforms draw related
    tokens. In float32 a probability is then met to about 6e-8, and a token below that may never be drawn. Over all tokens
    this is a total variation of 3e-7 for 27 of them, 8e-6 for 1,024 and 4e-4 for 50,257: the largest of Gaussian
    logits with standard deviations 1, 3 and 6, worked out beside float64.
    """
    S = log_mass.shape[-1]
    top = jax.lax.stop_gradient(log_mass.max(-1, keepdims=True))
    if S > _FLAT:
        return _two_levels(log_mass, top, jnp.minimum(uniform, _BELOW_ONE))
    cumulative = jnp.cumsum(jnp.exp(log_mass - top), -1)
    target = jnp.minimum(uniform, _BELOW_ONE)[..., None] * cumulative[..., -1:]
    return _number((cumulative <= target).sum(-1, dtype=jnp.int32), log_mass, top)


def _number(token: jax.Array, log_mass: jax.Array, top: jax.Array) -> jax.Array:
    """The token where the masses are numbers and not all 0, else -1.

    The masses themselves are asked: a maximum, and an exponential inside a fused loop, may turn NaN into a number.
    """
    return jnp.where(jnp.isnan(log_mass.sum(-1)) | (top[..., 0] == -jnp.inf), -1, token)


def _two_levels(log_mass: jax.Array, top: jax.Array, uniform: jax.Array) -> jax.Array:
    """First the block, then the token in it, so that no other array of the vocabulary's size is made."""
    S, blocks = log_mass.shape[-1], -(-log_mass.shape[-1] // _BLOCK)
    padding = [(0, 0)] * uniform.ndim + [(0, blocks * _BLOCK - S)]
    mass = jnp.pad(jnp.exp(log_mass - top), padding).reshape(*uniform.shape, blocks, _BLOCK)
    cumulative = jnp.cumsum(mass.sum(-1), -1)
    target = uniform[..., None] * cumulative[..., -1:]
    block = (cumulative <= target).sum(-1, keepdims=True, dtype=jnp.int32)
    before = jnp.where(block > 0, jnp.take_along_axis(cumulative, jnp.maximum(block - 1, 0), -1), 0.0)
    token = block * _BLOCK + jnp.arange(_BLOCK).reshape((1,) * uniform.ndim + (-1,))
    inside = jnp.take_along_axis(log_mass, jnp.minimum(token, S - 1), -1)
    cumulative = jnp.cumsum(jnp.where(token < S, jnp.exp(inside - top), 0.0), -1)
    # The block's sum and its cumulative sum round differently: stay inside.
    target = jnp.minimum(target - before, _BELOW_ONE * cumulative[..., -1:])
    return _number(block[..., 0] * _BLOCK + (cumulative <= target).sum(-1, dtype=jnp.int32), log_mass, top)


def fine_uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniforms in (0, 1) from 32 bits each, so that an event of probability 1e-8 keeps its frequency in float32.

    `jax.random.uniform` has 23 bits: it returns multiples of 1.2e-7.
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    return jnp.minimum((bits.astype(jnp.float32) + 0.5) * 2.0**-32, 1 - 2.0**-24)
