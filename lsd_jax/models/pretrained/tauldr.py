"""From tauLDR's checkpoints to our parameters: names, layouts and sizes (Campbell et al. 2022).

Its samplers run the EMA's weights, kept as a list in the parameters' order; checkpoints of several GPUs name their network
`net.module.`. PyTorch keeps a linear map as (out, in) and a convolution as (out, in, h, w); "NiN" weights are (in, out).
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.models.pretrained.mapping import weights_of
from lsd_jax.models.tensors import fit, nested, shapes_of
from lsd_jax.models.unet import UNet, UNetConfig

_UNET = [
    (r"(down|up|middle)_(\d+)/groupnorm/(scale|bias)", r"\1_modules.\2.GroupNorm_0.\3"),
    (r"(down|up|middle)_(\d+)/nin_(\d)/(kernel|bias)", r"\1_modules.\2.NIN_\3.\4"),
    (r"(down|up|middle)_(\d+)/nin/(kernel|bias)", r"\1_modules.\2.nin.\3"),
    (r"(down|up|middle)_(\d+)/(\w+\d)/(\w+)", r"\1_modules.\2.\3.\4"),
    (r"(down|up)_(\d+)/(kernel|bias)", r"\1_modules.\2.conv.\3"),
    (r"output_(\d)/(\w+)", r"output_modules.\1.\2"),
    (r"time_(\d)/(\w+)", r"temb_modules.\1.\2"),
    (r"input/(\w+)", r"input_conv.\1"),
]


def unet(tensors: dict[str, np.ndarray], vocab_size: int, shape: tuple[int, int, int]) -> tuple[UNetConfig, Any]:
    """(sizes, float32 parameters) of the image network.

    Args:
        tensors: a checkpoint's, as `read_tensors` names them.
        vocab_size: values of a pixel: no tensor holds it.
        shape: (channels, height, width).

    Raises:
        ValueError: another architecture or another number of channels; missing, unknown or misshapen tensors, by name.
    """
    state = weights_of(tensors, "input_conv.weight", "tauLDR U-Net")
    ch, channels = state["input_conv.weight"].shape[:2]
    if channels != shape[0]:
        raise InputError(f"its images have {channels} channels, shape={tuple(shape)} has {shape[0]}")
    blocks, multiples, attention, scale = [0], [1], -1, 0
    for index in range(_count(state, "downsampling_modules")):
        module = f"downsampling_modules.{index}"
        if f"{module}.conv0.weight" in state:
            multiples[scale] = len(state[f"{module}.conv0.weight"]) // ch
            blocks[scale] += 1
        elif f"{module}.conv.weight" in state:
            blocks, multiples, scale = [*blocks, 0], [*multiples, 1], scale + 1
        else:
            attention = scale
    if len(set(blocks)) > 1:
        raise InputError(f"its scales have {blocks} residual blocks, which must be one number")
    time_dim = state["temb_modules.0.weight"].shape[-1] if "temb_modules.0.weight" in state else ch
    sizes = UNetConfig(vocab_size, tuple(shape), ch, blocks[0], tuple(multiples), attention, time_dim)
    inputs = jnp.zeros((1, int(np.prod(shape))), jnp.int32), jnp.zeros(1)
    template = jax.eval_shape(UNet(sizes).init, jax.random.key(0), *inputs)["params"]
    return sizes, {"params": nested(fit(state, shapes_of(template), _theirs, _turned))}


def _count(state: dict[str, np.ndarray], modules: str) -> int:
    return 1 + max((int(name.split(".")[1]) for name in state if name.startswith(modules + ".")), default=-1)


def _theirs(name: str) -> str:
    """The checkpoint's name of our parameter."""
    pattern, replacement = next(pair for pair in _UNET if re.fullmatch(pair[0], name))
    found = re.sub(pattern, replacement, name)
    for old, new in (("down_modules", "downsampling_modules"), ("up_modules", "upsampling_modules")):
        found = found.replace(old, new) if found.startswith(old) else found
    if re.search(r"\.(nin|NIN_\d)\.\w+$", found):
        return found.removesuffix("kernel") + "W" if found.endswith("kernel") else found.removesuffix("bias") + "b"
    return re.sub(r"(kernel|scale)$", "weight", found)


def _turned(name: str, array: np.ndarray) -> np.ndarray:
    """A tensor of the checkpoint in our layout."""
    if not name.endswith("kernel") or _theirs(name).endswith(".W"):
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
