"""Network parameters as safetensors: names joined by '/', sizes and provenance as metadata, halves on disk."""

import dataclasses
import functools
import hashlib
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.models.unet import UNet, UNetConfig

SHIPPED = pathlib.Path(__file__).parent / "weights"
_KINDS = {"ddit": (DDiTConfig, DDiT), "unet": (UNetConfig, UNet)}
Sizes = DDiTConfig | UNetConfig


def kind_of(sizes: Sizes) -> str:
    """A network's kind, as in config.model.name."""
    return next(kind for kind, (config, _) in _KINDS.items() if isinstance(sizes, config))


def network(sizes: Sizes) -> Any:
    """The flax module of given sizes."""
    return _KINDS[kind_of(sizes)][1](sizes)


def initial(sizes: Sizes, key: jax.Array) -> Any:
    """Its parameters before training."""
    length = int(np.prod(sizes.shape)) if isinstance(sizes, UNetConfig) else 8
    return network(sizes).init(key, jnp.zeros((1, length), jnp.int32), jnp.zeros(1))


def save(path: pathlib.Path, params: Any, config: Sizes, card: dict[str, Any]) -> None:
    """Writes float16 parameters with the network's sizes and a card (data, training, bound)."""
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    tensors = {name: np.asarray(value, np.float16) for name, value in flat.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"kind": kind_of(config), "config": json.dumps(dataclasses.asdict(config)), "card": json.dumps(card)}
    save_file(tensors, path, metadata)


def load(path: pathlib.Path) -> tuple[Sizes, Any, dict[str, Any]]:
    """(sizes, float32 parameters, card) of a file that `save` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, truncated, or its tensors do not fit its sizes; the message names them.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights {str(path)!r}: no such file")
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            flat = {name: jnp.asarray(file.get_tensor(name), jnp.float32) for name in file.keys()}  # noqa: SIM118
        config = _KINDS[metadata.get("kind", "ddit")][0](**json.loads(metadata["config"]))
        card = json.loads(metadata["card"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"weights {str(path)!r} are not a whole lsd_jax safetensors file: {error}") from None
    template = jax.eval_shape(functools.partial(initial, config), jax.random.key(0))
    wanted = {name: leaf.shape for name, leaf in traverse_util.flatten_dict(template, sep="/").items()}
    found = {name: value.shape for name, value in flat.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        detail = ", ".join(f"{name}: {found.get(name)} instead of {wanted.get(name)}" for name in wrong[:3])
        raise ValueError(f"weights {str(path)!r} do not fit their sizes ({len(wrong)} tensors): {detail}")
    return config, traverse_util.unflatten_dict(flat, sep="/"), card


def sha256(path: pathlib.Path) -> str:
    """The file's SHA-256, which names a backbone in every artefact."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve(name: str) -> pathlib.Path:
    """A path from a config: a bare name is a file that ships with the package, anything else a path."""
    return SHIPPED / name if "/" not in name else pathlib.Path(name).expanduser()
