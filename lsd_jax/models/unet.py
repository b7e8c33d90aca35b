"""tauLDR's image denoiser: a U-Net whose output is a discretized logistic distribution of every pixel (Campbell et al. 2022).

The network is that of Ho et al. (2020) with the rescaled skips of Song et al. (2021); the output distribution is that of
Salimans et al. (2017). Modules are numbered as in the published checkpoints.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.processes.soft import is_soft

_FLOOR = 1e-6  # tauLDR's, inside the logarithm of a difference: no value's probability is less


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Sizes of the network.

    Attributes:
        vocab_size: values of a pixel, S.
        shape: (channels, height, width); a sequence is an image flattened in this order.
        ch: channels of the first scale; `ch_mult` are the multiples of every scale.
        num_res_blocks: residual blocks per scale.
        attention_scale: index of the scale with self-attention beside the middle's; -1 for none.
        fix_logistic: the lower of two forms of a value's log-probability, which loses no digits on either side.
        dtype: of convolutions and matrix products; norms, softmax and logits stay in float32.
    """

    vocab_size: int
    shape: tuple[int, int, int]
    ch: int = 128
    num_res_blocks: int = 2
    ch_mult: tuple[int, ...] = (1, 2, 2, 2)
    attention_scale: int = 1
    time_embed_dim: int = 128
    time_scale: float = 1000.0
    fix_logistic: bool = False
    dtype: str = "float32"

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(self.shape))  # lists, from a JSON file
        object.__setattr__(self, "ch_mult", tuple(self.ch_mult))
        factor = 2 ** (len(self.ch_mult) - 1)
        if len(self.shape) != 3 or self.shape[1] % factor or self.shape[2] % factor:
            raise InputError(
                f"shape={self.shape}: (channels, height, width), both sides divisible by {factor} for "
                f"{len(self.ch_mult)} scales"
            )


class UNet(nn.Module):
    """Maps tokens (B, L) and the time t, a scalar or (B,), to float32 logits (B, L, S) of x_0.

    Soft tokens (B, L, S) give their mean pixel. Dropout, which only training has, is left out.
    """

    config: UNetConfig

    reads = "time"  # not sigma_bar

    @nn.compact
    def __call__(self, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        config = self.config
        channels, height, width = config.shape
        values_S = jnp.arange(config.vocab_size, dtype=jnp.float32)
        pixel_BL = jnp.matmul(x_BL, values_S, precision="highest") if is_soft(x_BL) else x_BL.astype(jnp.float32)
        centered_BL = 2 * pixel_BL / (config.vocab_size - 1) - 1
        centered_BHWC = centered_BL.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        time_B = jnp.broadcast_to(jnp.asarray(t, jnp.float32), centered_BHWC.shape[:1])
        time_BE = sinusoids(time_B * config.time_scale, config.time_embed_dim)
        time_BE = nn.Dense(4 * config.time_embed_dim, name="time_0")(time_BE)
        time_BE = nn.Dense(4 * config.time_embed_dim, name="time_1")(nn.silu(time_BE))
        out_BHWC = self._body(centered_BHWC, time_BE)
        mean_BHWC = jnp.tanh(centered_BHWC + out_BHWC[..., :channels])
        flat = lambda a_BHWC: a_BHWC.transpose(0, 3, 1, 2).reshape(len(a_BHWC), -1)
        log_scale_BL = flat(out_BHWC[..., channels:])
        return logistic_logits(flat(mean_BHWC), log_scale_BL, config.vocab_size, config.fix_logistic)

    def _body(self, h, time_BE):
        config, last = self.config, len(self.config.ch_mult) - 1
        dtype = jnp.dtype(config.dtype)
        h = _conv(config.ch, dtype, "input")(h)
        skips, index = [h], 0
        for scale, multiple in enumerate(config.ch_mult):
            for _ in range(config.num_res_blocks):
                h = _ResBlock(config.ch * multiple, dtype, name=f"down_{index}")(h, time_BE)
                index += 1
                if scale == config.attention_scale:
                    h = _Attention(dtype, name=f"down_{index}")(h)
                    index += 1
                skips.append(h)
            if scale < last:
                h = jnp.pad(h, ((0, 0), (0, 1), (0, 1), (0, 0)))
                h = _conv(h.shape[-1], dtype, f"down_{index}", strides=2, padding="VALID")(h)
                index += 1
                skips.append(h)
        h = _ResBlock(h.shape[-1], dtype, name="middle_0")(h, time_BE)
        h = _Attention(dtype, name="middle_1")(h)
        h = _ResBlock(h.shape[-1], dtype, name="middle_2")(h, time_BE)
        index = 0
        for scale in reversed(range(last + 1)):
            for _ in range(config.num_res_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], -1)
                h = _ResBlock(config.ch * config.ch_mult[scale], dtype, name=f"up_{index}")(h, time_BE)
                index += 1
                if scale == config.attention_scale:
                    h = _Attention(dtype, name=f"up_{index}")(h)
                    index += 1
            if scale > 0:
                h = _conv(h.shape[-1], dtype, f"up_{index}")(jnp.repeat(jnp.repeat(h, 2, 1), 2, 2))
                index += 1
        h = nn.silu(_group_norm(h.shape[-1], "output_0")(h))
        return _conv(2 * config.shape[0], dtype, "output_1")(h)


class _ResBlock(nn.Module):
    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC: jax.Array, time_BE: jax.Array) -> jax.Array:
        h = nn.silu(_group_norm(x_BHWC.shape[-1], "groupnorm0")(x_BHWC))
        h = _conv(self.features, self.dtype, "conv0")(h)
        h = h + nn.Dense(self.features, name="dense0")(nn.silu(time_BE))[:, None, None]
        h = nn.silu(_group_norm(self.features, "groupnorm1")(h))
        h = _conv(self.features, self.dtype, "conv1")(h)
        if x_BHWC.shape[-1] != self.features:
            x_BHWC = nn.Dense(self.features, dtype=self.dtype, name="nin")(x_BHWC).astype(jnp.float32)
        return (x_BHWC + h) / np.sqrt(2)


class _Attention(nn.Module):
    """Self-attention over pixels with one head."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        batch, height, width, features = x_BHWC.shape
        h_BPC = _group_norm(features, "groupnorm")(x_BHWC).reshape(batch, height * width, features)
        project = lambda name: nn.Dense(features, dtype=self.dtype, name=name)
        q_BPC, k_BPC, v_BPC = (project(name)(h_BPC) for name in ("nin_0", "nin_1", "nin_2"))
        weight_BPP = jnp.einsum("bqc,bkc->bqk", q_BPC, k_BPC, preferred_element_type=jnp.float32) / np.sqrt(features)
        h_BPC = jnp.einsum("bqk,bkc->bqc", jax.nn.softmax(weight_BPP).astype(self.dtype), v_BPC)
        h_BPC = project("nin_3")(h_BPC).astype(jnp.float32)
        return (x_BHWC + h_BPC.reshape(x_BHWC.shape)) / np.sqrt(2)


def _conv(features: int, dtype: jnp.dtype, name: str, strides: int = 1, padding="SAME"):
    convolve = nn.Conv(features, (3, 3), strides, padding, dtype=dtype, name=name)
    return lambda x: convolve(x).astype(jnp.float32)


def _group_norm(features: int, name: str) -> nn.GroupNorm:
    return nn.GroupNorm(min(features // 4, 32), epsilon=1e-6, use_fast_variance=False, name=name)


def sinusoids(time_B: jax.Array, dim: int) -> jax.Array:
    """[sin, cos] (B, dim) of the time at frequencies from 1 down to exactly 1e-4 (Ho et al. 2020)."""
    half = dim // 2
    frequency_F = jnp.asarray(np.exp(-np.log(1e4) * np.arange(half) / (half - 1)), jnp.float32)
    angle_BF = time_B[:, None] * frequency_F[None]
    return jnp.pad(jnp.concatenate([jnp.sin(angle_BF), jnp.cos(angle_BF)], -1), ((0, 0), (0, dim % 2)))


def logistic_logits(mean_BL: jax.Array, log_scale_BL: jax.Array, vocab_size: int, fixed: bool) -> jax.Array:
    """Logits (B, L, S): the log-probability that a logistic variable falls into each of S equal bins of [-1, 1].

    Its scale is exp(log_scale - 2). Unnormalized, since the distribution reaches beyond the outer bins. As a difference of lower
    tails it loses its digits right of the mean; `fixed` also takes it as one of upper tails, and the smaller.
    """
    edges = np.linspace(-1.0, 1.0, vocab_size + 1)
    inverse_scale_BL1 = jnp.exp(2 - log_scale_BL)[..., None]
    left_S, right_S = (jnp.asarray(side, jnp.float32)[None, None] for side in (edges[:-1], edges[1:]))
    left_BLS = (left_S - mean_BL[..., None]) * inverse_scale_BL1
    right_BLS = (right_S - mean_BL[..., None]) * inverse_scale_BL1
    log_left_BLS, log_right_BLS = jax.nn.log_sigmoid(left_BLS), jax.nn.log_sigmoid(right_BLS)
    logits_BLS = _log_minus_exp(log_right_BLS, log_left_BLS)
    if not fixed:
        return logits_BLS
    return jnp.minimum(logits_BLS, _log_minus_exp(log_left_BLS - left_BLS, log_right_BLS - right_BLS))


def _log_minus_exp(larger: jax.Array, smaller: jax.Array) -> jax.Array:
    return larger + jnp.log1p(_FLOOR - jnp.exp(smaller - larger))
