"""GPT-2, the evaluator of the field's generative perplexity (Radford et al. 2019)."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """Sizes of the network; `positions` is the longest sequence."""

    vocab_size: int
    positions: int
    dim: int
    depth: int
    heads: int
    dtype: str = "float32"


class GPT2(nn.Module):
    """Maps tokens (B, L) to float32 logits (B, L, vocab_size) of the token that follows each."""

    config: GPT2Config

    @nn.compact
    def __call__(self, x_BL: jax.Array) -> jax.Array:
        config = self.config
        embed = nn.Embed(config.vocab_size, config.dim, name="embed")
        position_LD = nn.Embed(config.positions, config.dim, name="position")(jnp.arange(x_BL.shape[1]))
        h_BLD = embed(x_BL) + position_LD[None]
        for index in range(config.depth):
            h_BLD = _Block(config, name=f"block_{index}")(h_BLD)
        h_BLD, head = (leaf.astype(config.dtype) for leaf in (_norm("norm")(h_BLD), embed.embedding))
        return jnp.einsum("bld,vd->blv", h_BLD, head, preferred_element_type=jnp.float32)


class _Block(nn.Module):
    config: GPT2Config

    @nn.compact
    def __call__(self, h_BLD):
        dim, dense = self.config.dim, functools.partial(nn.Dense, dtype=jnp.dtype(self.config.dtype))
        B, L, _ = h_BLD.shape
        heads = self.config.heads
        qkv = dense(3 * dim, name="qkv")(_norm("norm1")(h_BLD)).reshape(B, L, 3, heads, dim // heads)
        q, k, v = jnp.moveaxis(qkv, (2, 3), (0, 2))
        weight = (q @ jnp.swapaxes(k, -1, -2)).astype(jnp.float32) * (dim // heads) ** -0.5
        weight = jnp.where(jnp.tril(jnp.ones((L, L), bool))[None, None], weight, jnp.finfo(jnp.float32).min)
        out = jnp.swapaxes(jax.nn.softmax(weight).astype(v.dtype) @ v, 1, 2).reshape(B, L, dim)
        h_BLD = h_BLD + dense(dim, name="attention_out")(out)
        y_BLF = nn.gelu(dense(4 * dim, name="mlp_in")(_norm("norm2")(h_BLD)), approximate=True)
        return h_BLD + dense(dim, name="mlp_out")(y_BLF)


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, name=name)
