"""Feature networks of the Frechet distance: Inception from a local file, or small classifiers of our own.

Our own file is safetensors with metadata `features` (the fields of `ClassifierConfig` as JSON) and `card`; its tensors are
`conv_0/kernel` (3, 3, in, out), `conv_0/bias`, ..., `hidden/kernel` (in, dim), `hidden/bias`, `classes/kernel`,
`classes/bias`. Images come in as values 0 .. values - 1, scaled to [-1, 1], height by width by channels; the first convolution
keeps the size, each further one halves it (stride 2, XLA's SAME padding); ReLU after each and after the hidden layer, whose
activations are the features.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lsd_jax.errors import InputError
from lsd_jax.models import inception, weights
from lsd_jax.models.tensors import fit, nested, shapes_of


class FeatureNetwork(NamedTuple):
    """A frozen feature network.

    Attributes:
        name: what a report says was used.
        apply: (params, tokens (B, L)) -> float32 features (B, width).
        params: its parameters.
        width: number of features.
    """

    name: str
    apply: Callable[[Any, jax.Array], jax.Array]
    params: Any
    width: int


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """Sizes of a classifier: images (channels, height, width) of `values` levels, channels of the convolutions."""

    shape: tuple[int, int, int]
    values: int
    channels: tuple[int, ...] = (16, 32)
    dim: int = 16
    classes: int = 10

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(self.shape))  # lists, from a JSON file
        object.__setattr__(self, "channels", tuple(self.channels))


class Classifier(nn.Module):
    """Maps tokens (B, L) to (features (B, dim), class logits (B, classes))."""

    config: ClassifierConfig

    @nn.compact
    def __call__(self, x_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
        config = self.config
        h = unit_images(x_BL, config.shape, config.values) * 2 - 1
        for index, features in enumerate(config.channels):
            h = nn.relu(nn.Conv(features, (3, 3), 1 if index == 0 else 2, name=f"conv_{index}")(h))
        h_BD = nn.relu(nn.Dense(config.dim, name="hidden")(h.reshape(len(h), -1)))
        return h_BD, nn.Dense(config.classes, name="classes")(h_BD)


def unit_images(x_BL: jax.Array, shape: tuple[int, int, int], values: int) -> jax.Array:
    """Sequences as images (B, height, width, channels), float32 in [0, 1]."""
    return (x_BL.astype(jnp.float32) / (values - 1)).reshape(-1, *shape).transpose(0, 2, 3, 1)


def save_classifier(path: pathlib.Path, params: Any, config: ClassifierConfig, card: dict[str, Any]) -> None:
    """Writes a classifier, float16, with its sizes and a card."""
    flat = traverse_util.flatten_dict(jax.device_get(params)["params"], sep="/")
    tensors = {name: np.asarray(value, np.float16) for name, value in flat.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"features": json.dumps(dataclasses.asdict(config)), "card": json.dumps(card)})


@functools.lru_cache(maxsize=2)  # a run's stages ask again, and one object is one compilation
def load(source: str, shape: tuple[int, int, int], values: int) -> FeatureNetwork:
    """A feature network for images of a shape: our own file (a shipped name or a path), or Inception's (.pth).

    Raises:
        FileNotFoundError, ValueError: no such file, another network, or other images; one line.
    """
    path, field = weights.resolve(source), f"features={source!r}"
    if not path.is_file():
        raise FileNotFoundError(
            f"{field}: no such file; Inception's is pt_inception-2015-12-05-6726825d.pth of pytorch-fid's releases"
        )
    if path.suffix in (".pth", ".pt"):
        if shape[0] not in (1, 3):
            raise InputError(f"{field}: Inception sees images of 1 or 3 channels, not {shape[0]}")
        apply = functools.partial(_inception_features, shape, values)
        return FeatureNetwork("Inception-v3 (pytorch-fid's weights)", apply, inception.load(path, field), 2048)
    return _load_classifier(path, field, shape, values)


def _load_classifier(path: pathlib.Path, field: str, shape: tuple[int, int, int], values: int) -> FeatureNetwork:
    try:
        with safe_open(path, "np") as file:
            config = ClassifierConfig(**json.loads((file.metadata() or {})["features"]))
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{field}: no feature network of lsd_jax.models.image_features: {error}") from None
    if (config.shape, config.values) != (shape, values):
        raise InputError(
            f"{field}: it sees {config.shape} images of {config.values} values, the data has {shape} of {values}"
        )
    example = jnp.zeros((1, int(np.prod(shape))), jnp.int32)
    template = jax.eval_shape(Classifier(config).init, jax.random.key(0), example)["params"]
    try:
        params = jax.device_put({"params": nested(fit(flat, shapes_of(template)))})
    except ValueError as error:
        raise InputError(f"{field}: {error}") from None
    apply = functools.partial(_classifier_features, config)
    return FeatureNetwork(f"{path.name}, a small classifier of ours", apply, params, config.dim)


def _classifier_features(config, params, x_BL):
    return Classifier(config).apply(params, x_BL)[0]


def _inception_features(shape, values, params, x_BL):
    images = unit_images(x_BL, shape, values)
    return inception.features(inception.reader(params), jnp.broadcast_to(images, (*images.shape[:3], 3)))
