"""The backbones by name: our own networks, which `training` trains, and the published families.

A new network is a module with its sizes and one entry of `NETWORKS`; a new published family is one entry of `PUBLISHED` and
its table of names in `pretrained/mapping.py`. `load.py` loads either.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from lsd_jax.errors import InputError
from lsd_jax.models.bert import Bert
from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.models.unet import UNet, UNetConfig

Sizes = DDiTConfig | UNetConfig


@dataclasses.dataclass(frozen=True)
class UNetSettings:
    """Sizes of a U-Net to train, as in `UNetConfig`; of `fix_logistic` also how tauLDR's own checkpoint is read."""

    ch: int = 128
    num_res_blocks: int = 2
    ch_mult: tuple[int, ...] = (1, 2, 2, 2)
    attention_scale: int = 1
    time_embed_dim: int = 128
    fix_logistic: bool = False


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """What a config says of its network.

    Attributes:
        name: an entry of NETWORKS or PUBLISHED, or "oracle", which a task brings.
        weights: a shipped name, a path, or owner/repository of the hub; empty: trained first.
        dtype: of matrix products.
        output: how a network of our own is read (model.OUTPUTS); empty: as its file says. Published families are known.
        dim, depth, heads, mlp_ratio, time_conditioned: sizes of a DDiT to train.
        unet: sizes of a U-Net to train.
    """

    name: str = "ddit"
    weights: str = ""
    dtype: str = "float32"
    output: str = ""
    dim: int = 192
    depth: int = 4
    heads: int = 4
    mlp_ratio: int = 4
    time_conditioned: bool = False
    unet: UNetSettings = UNetSettings()


class NetworkKind(NamedTuple):
    """A network of our own.

    Attributes:
        config: the dataclass of its sizes, the module's only field.
        module: the flax module.
        sizes: (settings, vocab_size, shape of an image or (), whether causal) -> `config` of a network to train.
    """

    config: type
    module: type[linen.Module]
    sizes: Callable[[ModelSettings, int, tuple[int, ...], bool], Any]


class Family(NamedTuple):
    """A published family: how its output is read (model.OUTPUTS), the processes its networks were trained for, its module."""

    output: str
    processes: tuple[str, ...]
    module: type[linen.Module] = DDiT


def _ddit_sizes(settings: ModelSettings, vocab_size: int, shape: tuple[int, ...], causal: bool) -> DDiTConfig:
    del shape
    if settings.dim % (2 * settings.heads):
        raise InputError(f"dim={settings.dim}: must be divisible by twice heads={settings.heads}")
    return DDiTConfig(
        vocab_size=vocab_size,
        dim=settings.dim,
        depth=settings.depth,
        heads=settings.heads,
        mlp_ratio=settings.mlp_ratio,
        time_conditioned=settings.time_conditioned,
        causal=causal,
        dtype=settings.dtype,
    )


def _unet_sizes(settings: ModelSettings, vocab_size: int, shape: tuple[int, ...], causal: bool) -> UNetConfig:
    if causal:
        raise InputError("loss='autoregressive': the scorer it trains is a ddit, not a unet")
    return UNetConfig(vocab_size, shape, dtype=settings.dtype, **dataclasses.asdict(settings.unet))


NETWORKS = {
    "ddit": NetworkKind(DDiTConfig, DDiT, _ddit_sizes),
    "unet": NetworkKind(UNetConfig, UNet, _unet_sizes),
}
PUBLISHED = {
    "sedd": Family("score", ("absorbing", "uniform")),
    "radd": Family("posterior", ("absorbing",)),
    "mdlm": Family("posterior", ("absorbing",)),
    "duo": Family("mean", ("uniform",)),
    "antiberty": Family("posterior", ("absorbing",), Bert),
    "sapiens": Family("posterior", ("absorbing",), Bert),
}


def network_sizes(settings: ModelSettings, vocab_size: int, shape: tuple[int, ...] = (), causal: bool = False) -> Sizes:
    """The sizes of a network to train.

    Args:
        settings: name and sizes.
        vocab_size: data tokens.
        shape: (channels, height, width) of images; () of other data.
        causal: whether it is an autoregressive scorer.

    Raises:
        ValueError: no network that is trained here, or sizes that do not go together.
    """
    if settings.name not in NETWORKS:
        raise InputError(f"name={settings.name!r}: networks that are trained here are {sorted(NETWORKS)}")
    return NETWORKS[settings.name].sizes(settings, vocab_size, tuple(shape), causal)


def kind_of(sizes: Sizes) -> str:
    """The name in NETWORKS of a network of given sizes."""
    return next(name for name, kind in NETWORKS.items() if isinstance(sizes, kind.config))


def network(sizes: Sizes) -> linen.Module:
    """The flax module of given sizes."""
    return NETWORKS[kind_of(sizes)].module(sizes)


def initial(sizes: Sizes, key: jax.Array) -> Any:
    """Its parameters before training."""
    length = int(np.prod(getattr(sizes, "shape", 8)))
    return network(sizes).init(key, jnp.zeros((1, length), jnp.int32), jnp.zeros(1))
