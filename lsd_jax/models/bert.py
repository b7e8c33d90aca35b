"""BERT as the network of a masked diffusion model: it reads in both directions, and no time.

Sources: BERT (Devlin et al. 2019) with its norms after each sum; RoBERTa (Liu et al. 2019) is the same network.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsd_jax.errors import InputError
from lsd_jax.processes.soft import hard_tokens, is_soft


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes of the network; `vocab_size` counts data tokens, `positions` the places of a sequence and its two ends.

    `dtype` is that of matrix products: the residual stream, norms, softmax and logits stay in float32. `padded`: the last data token
    is a pad, as in `Absorbing.lengths`; the network was trained without it, and reads and draws none.
    """

    vocab_size: int
    positions: int
    dim: int
    depth: int
    heads: int
    mlp_dim: int
    epsilon: float  # of its norms
    dtype: str = "float32"
    time_conditioned: bool = False
    padded: bool = False


class Bert(nn.Module):
    """Maps tokens (B, L), of which `vocab_size` is the mask, to float32 logits (B, L, S) over the data tokens.

    The start and the end that such networks were trained to see are put around a sequence here, the end before its pads, which no
    position reads. Soft tokens (B, L, num_states) give their mixture of embeddings.

    Raises:
        ValueError: a sequence is longer than the network's table of positions.
    """

    config: BertConfig
    reads = "none"

    @nn.compact
    def __call__(self, x_BL: jax.Array) -> jax.Array:
        config, (B, L) = self.config, x_BL.shape[:2]
        if L + 2 > config.positions:
            raise InputError(f"length={L}: the network reads at most {config.positions - 2} tokens per sequence")
        embed = nn.Embed(config.vocab_size + 1, config.dim, name="embed")
        if is_soft(x_BL):  # in full precision, as DDiT embeds them
            h_BLD = jnp.matmul(x_BL, embed.embedding[: x_BL.shape[-1]], precision="highest")
        else:
            h_BLD = embed(x_BL)
        ends_2BD = jnp.broadcast_to(nn.Embed(2, config.dim, name="ends").embedding[:, None], (2, B, config.dim))
        h_BLD = jnp.concatenate([ends_2BD[0][:, None], h_BLD, ends_2BD[1][:, None]], 1)
        read_BL = None
        if config.padded:
            length_B1 = (hard_tokens(x_BL) != config.vocab_size - 1).sum(1, keepdims=True)
            place_1L = jnp.arange(L + 2)[None]
            h_BLD = jnp.where((place_1L == length_B1 + 1)[..., None], ends_2BD[1][:, None], h_BLD)
            read_BL = place_1L <= length_B1 + 1
        position_LD = nn.Embed(config.positions, config.dim, name="position").embedding[: L + 2]
        h_BLD = _norm(config, "norm")(h_BLD + position_LD[None])
        for index in range(config.depth):
            h_BLD = _Block(config, name=f"block_{index}")(h_BLD, read_BL)
        dense = functools.partial(nn.Dense, dtype=jnp.dtype(config.dtype))
        h_BLD = nn.gelu(dense(config.dim, name="transform")(h_BLD[:, 1:-1]), approximate=False)
        in_float32 = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
        head = dense(config.vocab_size - config.padded, dot_general=in_float32, name="head")
        logits_BLS = head(_norm(config, "transform_norm")(h_BLD))
        if config.padded:
            logits_BLS = jnp.pad(logits_BLS, ((0, 0), (0, 0), (0, 1)))  # the process forbids the pad's column
        return logits_BLS


class _Block(nn.Module):
    config: BertConfig

    @nn.compact
    def __call__(self, h_BLD: jax.Array, read_BL: jax.Array | None) -> jax.Array:
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        dense = functools.partial(nn.Dense, dtype=dtype)
        B, L, D = h_BLD.shape

        def heads(name: str) -> jax.Array:
            return jnp.swapaxes(dense(D, name=name)(h_BLD).reshape(B, L, config.heads, -1), 1, 2)

        q, k, v = heads("query"), heads("key"), heads("value")
        weight = (q @ jnp.swapaxes(k, -1, -2)).astype(jnp.float32) * (D // config.heads) ** -0.5
        if read_BL is not None:
            weight = jnp.where(read_BL[:, None, None], weight, -jnp.inf)
        out = jnp.swapaxes(jax.nn.softmax(weight).astype(dtype) @ v, 1, 2).reshape(B, L, D)
        h_BLD = _norm(config, "norm1")(h_BLD + dense(D, name="attention_out")(out))
        y_BLF = nn.gelu(dense(config.mlp_dim, name="mlp_in")(h_BLD), approximate=False)
        return _norm(config, "norm2")(h_BLD + dense(D, name="mlp_out")(y_BLF))


def _norm(config: BertConfig, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=config.epsilon, name=name)
