"""Checkpoints' tensors as our parameters: every one found, of the right shape, finite, and none left over."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from lsd_jax.errors import InputError

_NAMED = 4  # tensors that an error message names


def shapes_of(template: Any) -> dict[str, tuple[int, ...]]:
    """The shape of every leaf of a nested dict, under its names joined by "/"."""
    return {name: leaf.shape for name, leaf in traverse_util.flatten_dict(template, sep="/").items()}


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict of names joined by "/"."""
    return traverse_util.unflatten_dict(flat, sep="/")


def fit(
    found: Mapping[str, np.ndarray],
    wanted: Mapping[str, tuple[int, ...]],
    theirs: Callable[[str], str] = str,
    turn: Callable[[str, np.ndarray], np.ndarray] = lambda name, array: array,
    spare: str = "",
) -> dict[str, np.ndarray]:
    """The wanted tensors on the host, float32, under our names.

    Args:
        found: a checkpoint's tensors under its own names.
        wanted: the shape of every parameter, by our name.
        theirs: the checkpoint's name of ours; by default the same.
        turn: (our name, the checkpoint's array) -> the array in our layout.
        spare: a pattern of the checkpoint's names that nothing reads and that may be there.

    Raises:
        ValueError: missing, misshapen or unknown tensors by the checkpoint's names, or values that are not finite.
    """
    flat, wrong, used = {}, [], set()
    for name, shape in wanted.items():
        source = theirs(name)
        used.add(source)
        array = turn(name, found[source]) if source in found else None
        if array is None or array.shape != tuple(shape):
            wrong.append(f"{source} is {'missing' if array is None else array.shape} instead of {tuple(shape)}")
        else:
            flat[name] = np.ascontiguousarray(array, np.float32)  # a sum depends on how its terms lie
    wrong += [f"{name} is unknown" for name in found if name not in used and not re.fullmatch(spare, name)]
    if wrong:
        more = " ..." if len(wrong) > _NAMED else ""
        raise InputError(f"{len(wrong)} tensors do not fit: {'; '.join(wrong[:_NAMED])}{more}")
    if broken := [name for name, value in flat.items() if not np.isfinite(value).all()]:
        raise InputError(f"{len(broken)} tensors hold values that are not finite, {broken[0]} first")
    return flat
