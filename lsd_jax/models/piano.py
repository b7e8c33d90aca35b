"""tauLDR's transformer for piano rolls (Campbell et al. 2022): post-norm layers, each followed by a map that time chooses."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.models.unet import sinusoids
from lsd_jax.processes.score import is_soft


@dataclasses.dataclass(frozen=True)
class PianoConfig:
    """Sizes of the network.

    Attributes:
        vocab_size: notes, S.
        time_dim: sinusoids of the time; four times as many condition the layers.
        output_blocks: feed-forward blocks after the attention layers.
        integer_time: the published code rounds the time down to 0 or 1 before it is embedded, so its networks were trained
            without knowing it; False shows them the time.
        dtype: of matrix products; the residual stream, norms, softmax and logits stay in float32.
    """

    vocab_size: int
    dim: int = 128
    depth: int = 6
    heads: int = 8
    hidden: int = 2048
    time_dim: int = 128
    output_blocks: int = 2
    time_scale: float = 1000.0
    integer_time: bool = True
    dtype: str = "float32"


class PianoTransformer(nn.Module):
    """Maps tokens (B, L) and the time t, a scalar or (B,), to float32 logits (B, L, S) of x_0; soft tokens (B, L, S) too."""

    config: PianoConfig

    reads = "time"  # not sigma_bar

    @nn.compact
    def __call__(self, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        config = self.config
        dtype = jnp.dtype(config.dtype)
        x_BLS = x_BL if is_soft(x_BL) else jax.nn.one_hot(x_BL, config.vocab_size)
        time_B = jnp.broadcast_to(jnp.asarray(t, jnp.float32), x_BL.shape[:1])
        if config.integer_time:
            time_B = jnp.floor(time_B)
        time_BE = sinusoids(time_B * config.time_scale, config.time_dim)
        time_BE = nn.relu(nn.Dense(config.hidden, name="time_0")(time_BE))
        time_BE = nn.Dense(4 * config.time_dim, name="time_2")(time_BE)
        h_BLD = nn.Dense(config.dim, precision="highest", name="embed")(x_BLS)
        h_BLD = h_BLD + positions(x_BL.shape[1], config.dim)[None]
        for index in range(config.depth):
            block = f"block_{index}"
            film = nn.Dense(2 * config.dim, name=f"{block}_film")(time_BE)
            attended_BLD = _Attention(config, name=f"{block}_attention")(h_BLD)
            h_BLD = _modulate(_layer_norm(f"{block}_norm1")(h_BLD + attended_BLD), film)
            h_BLD = h_BLD + _feed_forward(config, dtype, block, h_BLD)
            h_BLD = _modulate(_layer_norm(f"{block}_norm2")(h_BLD), film)
        for index in range(config.output_blocks):
            block = f"output_{index}"
            film = nn.Dense(2 * config.dim, name=f"{block}_film")(time_BE)
            h_BLD = h_BLD + _feed_forward(config, dtype, block, h_BLD)
            h_BLD = _modulate(_layer_norm(f"{block}_norm")(h_BLD), film)
        return nn.Dense(config.vocab_size, dtype=dtype, name="head")(h_BLD).astype(jnp.float32) + x_BLS


class _Attention(nn.Module):
    config: PianoConfig

    @nn.compact
    def __call__(self, h_BLD: jax.Array) -> jax.Array:
        heads, dtype = self.config.heads, jnp.dtype(self.config.dtype)
        batch, length, dim = h_BLD.shape
        qkv_BLE = nn.Dense(3 * dim, dtype=dtype, name="qkv")(h_BLD)
        qkv = qkv_BLE.reshape(batch, length, 3, heads, dim // heads).transpose(2, 0, 3, 1, 4)
        q_BHLd, k_BHLd, v_BHLd = qkv[0], qkv[1], qkv[2]
        weight = jnp.einsum("bhqd,bhkd->bhqk", q_BHLd, k_BHLd, preferred_element_type=jnp.float32)
        weight = jax.nn.softmax(weight / np.sqrt(dim // heads)).astype(dtype)
        out_BLD = jnp.einsum("bhqk,bhkd->bhqd", weight, v_BHLd).transpose(0, 2, 1, 3).reshape(batch, length, dim)
        return nn.Dense(dim, dtype=dtype, name="out")(out_BLD).astype(jnp.float32)


def _feed_forward(config: PianoConfig, dtype: jnp.dtype, block: str, h_BLD: jax.Array) -> jax.Array:
    hidden_BLF = nn.relu(nn.Dense(config.hidden, dtype=dtype, name=f"{block}_linear1")(h_BLD))
    return nn.Dense(config.dim, dtype=dtype, name=f"{block}_linear2")(hidden_BLF).astype(jnp.float32)


def _modulate(h_BLD: jax.Array, film_BE: jax.Array) -> jax.Array:
    scale_BD, shift_BD = jnp.split(film_BE, 2, -1)
    return scale_BD[:, None] * h_BLD + shift_BD[:, None]


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


def positions(length: int, dim: int) -> jax.Array:
    """Sinusoids (L, D) of the position, sines at even and cosines at odd places (Vaswani et al. 2017)."""
    angle = np.arange(length)[:, None] * np.exp(-np.log(1e4) * np.arange(0, dim, 2) / dim)[None]
    return jnp.asarray(np.stack([np.sin(angle), np.cos(angle)], -1).reshape(length, dim), jnp.float32)
