"""Network parameters as safetensors: names joined by '/', sizes and provenance as metadata, halves on disk."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as save_tensors

from lsd_jax.errors import InputError
from lsd_jax.files import local_copy, write_whole
from lsd_jax.models.backbones import NETWORKS, Sizes, initial, kind_of
from lsd_jax.models.tensors import fit, nested, shapes_of

SHIPPED = pathlib.Path(__file__).parents[1] / "shipped"


def save(path: pathlib.Path, params: Any, config: Sizes, card: dict[str, Any]) -> None:
    """Writes float16 parameters with the network's sizes and a card (data, process, training, bound)."""
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    tensors = {name: np.asarray(value, np.float16) for name, value in flat.items()}
    if wrong := [name for name, value in tensors.items() if not np.isfinite(value).all()]:
        raise InputError(f"params={wrong[0]!r}: holds values that are not finite in float16; nothing is written")
    metadata = {"kind": kind_of(config), "config": json.dumps(dataclasses.asdict(config)), "card": json.dumps(card)}
    write_whole(path, lambda file: file.write(save_tensors(tensors, metadata)))


def load(path: pathlib.Path, field: str = "weights") -> tuple[Sizes, Any, dict[str, Any]]:
    """(sizes, float32 parameters, card) of a file that `save` wrote.

    Args:
        path: the file.
        field: the setting that names it, for messages.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, truncated, or its tensors do not fit its sizes; the message names them.
    """
    named = f"{field}={str(path)!r}"
    if not path.is_file():
        raise FileNotFoundError(f"{named}: no such file")
    try:
        with local_copy(path) as copy, safe_open(copy, "np") as file:
            metadata = file.metadata() or {}
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = NETWORKS[metadata.get("kind", "ddit")].config(**json.loads(metadata["config"]))
        config = dataclasses.replace(
            config, dtype="float32"
        )  # the file keeps what it was trained in; who loads it chooses
        card = json.loads(metadata["card"])
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{named}: not a whole file of lsd_jax.models.weights: {error}") from None
    if wrong := [name for name, value in flat.items() if not np.isfinite(value).all()]:
        raise InputError(f"{named}: tensor {wrong[0]!r} holds values that are not finite")
    template = jax.eval_shape(functools.partial(initial, config), jax.random.key(0))
    try:
        return config, nested(fit(flat, shapes_of(template))), card
    except ValueError as error:
        raise InputError(f"{named}: the tensors are not those of its sizes: {error}") from None


def card(path: pathlib.Path) -> dict[str, Any]:
    """The card of a file that `save` wrote, without its tensors; {} of any other file, or of none."""
    try:
        with local_copy(path) as copy, safe_open(copy, "np") as file:
            return json.loads((file.metadata() or {}).get("card", "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}


def sha256(path: pathlib.Path) -> str:
    """The file's SHA-256, which names a backbone in every record."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve(name: str | os.PathLike) -> pathlib.Path:
    """A path from a setting: a bare name is a file that ships with the package, if there is one; anything else a path."""
    if "/" not in str(name):
        for folder in ("weights", "tokenizers", "corpus"):
            if (shipped := SHIPPED / folder / name).exists():
                return shipped
    return pathlib.Path(name).expanduser()
