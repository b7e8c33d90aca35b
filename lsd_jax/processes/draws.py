"""Random numbers, and draws of tokens from them.

What draws a token is a uniform as the 32 random bits that it is made of, a multiple of 2^-32: as a float32 near 1 it would keep
24 of them. Probabilities are then summed as whole numbers of 2^-32, without rounding.
"""

import math

import jax
import jax.numpy as jnp

_WHOLE = 2.0**32 * (1 - 2.0**-6)  # what probability 1 counts; the rest is room for rounding, so that no sum runs over


def random_bits(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Random bits (uint32): what `inverse_cdf` reads."""
    return jax.random.bits(key, shape, jnp.uint32)


def as_uniform(bits: jax.Array) -> jax.Array:
    """The uniforms in (0, 1) that random bits stand for, to the precision of float32."""
    return jnp.minimum((bits.astype(jnp.float32) + 0.5) * 2.0**-32, 1 - 2.0**-24)


def fine_uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniforms in (0, 1) from 32 bits each, so that an event of probability 1e-8 keeps its frequency in float32.

    `jax.random.uniform` has 23 bits: it returns multiples of 1.2e-7.
    """
    return as_uniform(random_bits(key, shape))


def share_of(bits: jax.Array, total: jax.Array | int) -> jax.Array:
    """floor(bits / 2^32 * total) (uint32), exactly: a uniform whole number below `total`.

    Both are multiplied by halves of 16 bits, as no whole number of 64 bits is there.
    """
    total = jnp.asarray(total, jnp.uint32)
    low = (bits >> 16) * (total & 0xFFFF) + ((bits & 0xFFFF) * (total & 0xFFFF) >> 16)
    high = (bits & 0xFFFF) * (total >> 16) + (low & 0xFFFF)
    return (bits >> 16) * (total >> 16) + (low >> 16) + (high >> 16)


def counts_of(mass: jax.Array, total: jax.Array | float = 1.0) -> jax.Array:
    """Probabilities mass / total as whole numbers (uint32) of about 2^-32; those that sum to 1 have a sum below 2^32."""
    return jnp.round(mass * (_WHOLE / total)).astype(jnp.uint32)


def inverse_cdf(log_mass: jax.Array, bits: jax.Array) -> jax.Array:
    """Tokens (...) drawn in proportion to exp(log_mass) (..., S) with 32 random bits each; -1 where a mass is no number, or all are 0.

    Tokens lie in their own order, so that two samplers with equal bits draw related tokens. The ends of a token's interval are
    met to a few 2^-32 and to the relative precision of float32. With 50,257 tokens this is a total variation of 3e-6
    (tests/processes/test_draws.py).

    Raises:
        TypeError: bits of another type, or of another shape than the positions.
    """
    if bits.dtype != jnp.uint32 or bits.shape != log_mass.shape[:-1]:
        raise TypeError(f"bits={bits.dtype}{bits.shape}: must be uint32{log_mass.shape[:-1]}, of `random_bits`")
    log_mass = jax.lax.stop_gradient(log_mass).astype(jnp.float32)
    S = log_mass.shape[-1]
    size = 1 << math.ceil(math.log2(S) / 2)  # tokens in a block: about as many as there are blocks
    top = log_mass.max(-1, keepdims=True)
    mass = jnp.pad(jnp.exp(log_mass - top), [(0, 0)] * bits.ndim + [(0, -S % size)])
    # Read twice: without the barrier XLA would sum all masses twice.
    block_mass = jax.lax.optimization_barrier(mass.reshape(*bits.shape, -1, size).sum(-1))
    total = block_mass.sum(-1, keepdims=True)
    blocks = counts_of(block_mass, total)
    cumulative = jnp.cumsum(blocks, -1)
    target = share_of(bits, cumulative[..., -1])[..., None]
    block = (cumulative <= target).sum(-1, keepdims=True, dtype=jnp.int32)
    own = jnp.take_along_axis(blocks, block, -1, mode="clip")
    before = jnp.take_along_axis(cumulative, block, -1, mode="clip") - own
    place = _inside(log_mass, top, total, block * size, size, target - before, own)
    lost = jnp.isnan(log_mass.sum(-1)) | ~jnp.isfinite(top[..., 0])  # a maximum may turn NaN into a number
    return jnp.where(lost, -1, block[..., 0] * size + place)


def _inside(
    log_mass: jax.Array,
    top: jax.Array,
    total: jax.Array,
    first: jax.Array,
    size: int,
    target: jax.Array,
    count: jax.Array,
) -> jax.Array:
    """The place (...) in the block of `size` tokens from `first` on, where the block's `count` reaches above `target` < count."""
    token = first + jnp.arange(size).reshape((1,) * (first.ndim - 1) + (-1,))
    mass = jnp.exp(jnp.take_along_axis(log_mass, token, -1, mode="clip") - top)
    mass = jnp.where(token < log_mass.shape[-1], mass, 0.0)
    # A block that counts little is counted in finer units, so that its rare tokens do not round to none.
    shift = jnp.maximum(jax.lax.clz(count), 1) - 1
    unit = jnp.uint32(1) << shift
    cumulative = jnp.cumsum(counts_of(mass, total / unit.astype(jnp.float32)), -1)
    target, count = (target << shift) + (unit >> 1), count << shift
    # The tokens' counts differ from the block's by a few, in which case the target is stretched with them.
    whole = cumulative[..., -1:]
    stretch = (whole - count).astype(jnp.int32).astype(jnp.float32) / count.astype(jnp.float32)
    target += jnp.round(target.astype(jnp.float32) * stretch).astype(jnp.int32).astype(jnp.uint32)
    return (cumulative <= jnp.minimum(target, whole - 1)).sum(-1, dtype=jnp.int32)
