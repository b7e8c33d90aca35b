"""Inception-v3 as the FID uses it: TensorFlow's 2015 network in pytorch-fid's layout of names (Szegedy et al. 2016).

Against torchvision's Inception, average pools do not count their padding, and the last block pools by maximum.
"""

import functools
import pathlib
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from lsd_jax.errors import InputError
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.models.tensors import fit

Reader = Callable[[str, tuple[int, ...]], jax.Array]  # (name, shape) -> tensor

_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_UNUSED = r"fc\.(weight|bias)|.*num_batches_tracked"


def load(path: pathlib.Path, field: str) -> dict[str, jax.Array]:
    """The float32 tensors of a pytorch-fid checkpoint.

    Args:
        path: the file.
        field: the setting and its value, for messages.

    Raises:
        ValueError: missing, misshapen or unknown tensors, by name.
    """
    try:
        return jax.device_put(fit(read_tensors(path), tensor_shapes(), spare=_UNUSED))
    except ValueError as error:
        raise InputError(f"{field}: not pytorch-fid's Inception: {error}") from None


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor that `features` reads, by tracing it."""
    found: dict[str, tuple[int, ...]] = {}

    def record(name: str, shape: tuple[int, ...]) -> jax.Array:
        found[name] = shape
        return jnp.zeros(shape)

    jax.eval_shape(functools.partial(features, record), jnp.zeros((1, 32, 32, 3)))
    return found


def reader(tensors: dict[str, jax.Array]) -> Reader:
    """Reads from a dict."""
    return lambda name, shape: tensors[name]


def features(read: Reader, images_BHWC: jax.Array) -> jax.Array:
    """Pool features (B, 2048) of images in [0, 1] of any size, resized to 299 x 299 by bilinear interpolation."""
    size = (len(images_BHWC), 299, 299, images_BHWC.shape[-1])
    x = jax.image.resize(images_BHWC, size, "bilinear", antialias=False) * 2 - 1
    conv = functools.partial(_conv, read)
    x = conv("Conv2d_1a_3x3", x, 32, (3, 3), 2)
    x = conv("Conv2d_2a_3x3", x, 32, (3, 3), padding="VALID")
    x = _max_pool(conv("Conv2d_2b_3x3", x, 64, (3, 3)), 2)
    x = conv("Conv2d_3b_1x1", x, 80)
    x = _max_pool(conv("Conv2d_4a_3x3", x, 192, (3, 3), padding="VALID"), 2)
    for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _block_a(_below(conv, name), x, pooled)
    x = _block_b(_below(conv, "Mixed_6a"), x)
    for name, inner in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        x = _block_c(_below(conv, name), x, inner)
    x = _block_d(_below(conv, "Mixed_7a"), x)
    x = _block_e(_below(conv, "Mixed_7b"), x, _average_pool)
    x = _block_e(_below(conv, "Mixed_7c"), x, lambda x: _max_pool(x, 1))
    return x.mean((1, 2))


def _block_a(conv, x, pooled):
    five = conv("branch5x5_2", conv("branch5x5_1", x, 48), 64, (5, 5))
    three = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x, 64), 96, (3, 3))
    three = conv("branch3x3dbl_3", three, 96, (3, 3))
    pool = conv("branch_pool", _average_pool(x), pooled)
    return jnp.concatenate([conv("branch1x1", x, 64), five, three, pool], -1)


def _block_b(conv, x):
    double = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x, 64), 96, (3, 3))
    double = conv("branch3x3dbl_3", double, 96, (3, 3), 2)
    return jnp.concatenate([conv("branch3x3", x, 384, (3, 3), 2), double, _max_pool(x, 2)], -1)


def _block_c(conv, x, inner):
    seven = conv("branch7x7_2", conv("branch7x7_1", x, inner), inner, (1, 7))
    seven = conv("branch7x7_3", seven, 192, (7, 1))
    double = conv("branch7x7dbl_1", x, inner)
    for index, (features, kernel) in enumerate(((inner, (7, 1)), (inner, (1, 7)), (inner, (7, 1)), (192, (1, 7)))):
        double = conv(f"branch7x7dbl_{index + 2}", double, features, kernel)
    pool = conv("branch_pool", _average_pool(x), 192)
    return jnp.concatenate([conv("branch1x1", x, 192), seven, double, pool], -1)


def _block_d(conv, x):
    three = conv("branch3x3_2", conv("branch3x3_1", x, 192), 320, (3, 3), 2)
    seven = conv("branch7x7x3_2", conv("branch7x7x3_1", x, 192), 192, (1, 7))
    seven = conv("branch7x7x3_4", conv("branch7x7x3_3", seven, 192, (7, 1)), 192, (3, 3), 2)
    return jnp.concatenate([three, seven, _max_pool(x, 2)], -1)


def _block_e(conv, x, pool):
    three = conv("branch3x3_1", x, 384)
    three = [conv("branch3x3_2a", three, 384, (1, 3)), conv("branch3x3_2b", three, 384, (3, 1))]
    double = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x, 448), 384, (3, 3))
    double = [conv("branch3x3dbl_3a", double, 384, (1, 3)), conv("branch3x3dbl_3b", double, 384, (3, 1))]
    return jnp.concatenate([conv("branch1x1", x, 320), *three, *double, conv("branch_pool", pool(x), 192)], -1)


def _below(conv, module: str):
    return lambda name, *rest, **settings: conv(f"{module}.{name}", *rest, **settings)


def _conv(read, name, x, features, kernel=(1, 1), stride=1, padding=None):
    """Convolution without bias, batch norm as it stands after training, ReLU. A step of two goes without padding."""
    weight = read(f"{name}.conv.weight", (features, x.shape[-1], *kernel))
    padding = padding or ("SAME" if stride == 1 else "VALID")
    layout = ("NHWC", "OIHW", "NHWC")
    x = jax.lax.conv_general_dilated(x, weight, (stride, stride), padding, dimension_numbers=layout)
    scale, shift, mean, variance = (read(f"{name}.bn.{part}", (features,)) for part in _STATISTICS)
    scale = scale / jnp.sqrt(variance + 1e-3)
    return nn.relu(x * scale[None, None, None] + (shift - mean * scale)[None, None, None])


def _max_pool(x, stride):
    return nn.max_pool(x, (3, 3), (stride, stride), "SAME" if stride == 1 else "VALID")


def _average_pool(x):
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)
