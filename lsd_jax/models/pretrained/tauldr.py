"""From tauLDR's checkpoints to our parameters: names, layouts and sizes (Campbell et al. 2022).

Its samplers run the EMA's weights, kept as a list in the parameters' order; checkpoints of several GPUs name their network
`net.module.`. PyTorch keeps a linear map as (out, in) and a convolution as (out, in, h, w); "NiN" weights are (in, out).
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from lsd_jax.models.piano import PianoConfig, PianoTransformer
from lsd_jax.models.pretrained.mapping import weights_of
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
_PIANO = [
    (r"block_(\d+)_attention/qkv/(\w+)", r"encoder_layers.\1.self_attn.in_proj_\2"),
    (r"block_(\d+)_attention/out/(\w+)", r"encoder_layers.\1.self_attn.out_proj.\2"),
    (r"block_(\d+)_film/(\w+)", r"encoder_layers.\1.film_from_temb.\2"),
    (r"block_(\d+)_(\w+)/(\w+)", r"encoder_layers.\1.\2.\3"),
    (r"output_(\d+)_film/(\w+)", r"output_resid_layers.\1.film_from_temb.\2"),
    (r"output_(\d+)_(\w+)/(\w+)", r"output_resid_layers.\1.\2.\3"),
    (r"time_(\d)/(\w+)", r"temb_net.\1.\2"),
    (r"embed/(\w+)", r"input_embedding.\1"),
    (r"head/(\w+)", r"output_linear.\1"),
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
        raise ValueError(f"its images have {channels} channels, config.data.shape={tuple(shape)} has {shape[0]}")
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
        raise ValueError(f"its scales have {blocks} residual blocks, which must be one number")
    time_dim = state["temb_modules.0.weight"].shape[-1] if "temb_modules.0.weight" in state else ch
    sizes = UNetConfig(vocab_size, tuple(shape), ch, blocks[0], tuple(multiples), attention, time_dim)
    inputs = jnp.zeros((1, int(np.prod(shape))), jnp.int32), jnp.zeros(1)
    return sizes, _renamed(state, _UNET, jax.eval_shape(UNet(sizes).init, jax.random.key(0), *inputs))


def piano(tensors: dict[str, np.ndarray], heads: int, integer_time: bool = True) -> tuple[PianoConfig, Any]:
    """(sizes, float32 parameters) of the piano network; the tensors do not tell its number of heads.

    Raises:
        ValueError: another architecture or number of heads; missing, unknown or misshapen tensors, by name.
    """
    state = weights_of(tensors, "input_embedding.weight", "tauLDR piano")
    dim, vocab_size = state["input_embedding.weight"].shape
    if heads < 1 or dim % heads:
        raise ValueError(f"a network {dim} wide does not have config.model.heads={heads}")
    if missing := [name for name in ("temb_net.0.weight",) if name not in state]:
        raise ValueError(f"1 tensors do not fit: {missing[0]} is missing")
    hidden, time_dim = state["temb_net.0.weight"].shape
    sizes = PianoConfig(
        vocab_size,
        dim,
        _count(state, "encoder_layers"),
        heads,
        hidden,
        time_dim,
        _count(state, "output_resid_layers"),
        integer_time=integer_time,
    )
    inputs = jnp.zeros((1, 4), jnp.int32), jnp.zeros(1)
    return sizes, _renamed(state, _PIANO, jax.eval_shape(PianoTransformer(sizes).init, jax.random.key(0), *inputs))


def _count(state: dict[str, np.ndarray], modules: str) -> int:
    return 1 + max((int(name.split(".")[1]) for name in state if name.startswith(modules + ".")), default=-1)


def _theirs(name: str, table: list[tuple[str, str]]) -> str:
    """The checkpoint's name of our parameter."""
    pattern, replacement = next(pair for pair in table if re.fullmatch(pair[0], name))
    found = re.sub(pattern, replacement, name)
    for old, new in (("down_modules", "downsampling_modules"), ("up_modules", "upsampling_modules")):
        found = found.replace(old, new) if found.startswith(old) else found
    if re.search(r"\.(nin|NIN_\d)\.\w+$", found):
        return found.removesuffix("kernel") + "W" if found.endswith("kernel") else found.removesuffix("bias") + "b"
    return re.sub(r"(kernel|scale)$", "weight", found)


def _renamed(state: dict[str, np.ndarray], table: list[tuple[str, str]], template: Any) -> Any:
    """Our float32 parameters, every tensor of the network found and of the right shape, and none left over."""
    flat, wrong, used = {}, [], set()
    for name, leaf in traverse_util.flatten_dict(template["params"], sep="/").items():
        theirs = _theirs(name, table)
        used.add(theirs)
        found = state.get(theirs)
        if found is not None and name.endswith("kernel") and not theirs.endswith(".W"):
            found = found.transpose(2, 3, 1, 0) if found.ndim == 4 else found.T
        if found is None or found.shape != leaf.shape:
            wrong.append(
                f"{theirs} is {'missing' if found is None else f'{found.shape} instead of {leaf.shape} in our layout'}"
            )
        else:
            flat[name] = jnp.asarray(found, jnp.float32)
    wrong += [f"{name} is unknown" for name in state if name not in used]
    if wrong:
        raise ValueError(f"{len(wrong)} tensors do not fit: {'; '.join(wrong[:4])}")
    if broken := [name for name, value in flat.items() if not bool(jnp.isfinite(value).all())]:
        raise ValueError(f"{len(broken)} tensors hold values that are not finite, {broken[0]} first")
    return {"params": traverse_util.unflatten_dict(flat, sep="/")}
