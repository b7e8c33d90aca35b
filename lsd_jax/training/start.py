"""Parameters of a trained network as those that another training starts from; the new network may know other tokens."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import traverse_util

from lsd_jax.errors import InputError
from lsd_jax.models.backbones import Sizes, kind_of
from lsd_jax.models.ddit import DDiTConfig

# The axis of the data's tokens. The embedding has one row more, the mask's, which is the last.
_VOCABULARY = {"params/embed/embedding": 0, "params/head/kernel": 1, "params/head/bias": 0}


def places(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """The number that every token of `names` has among the `known` ones, by its name; -1 of a new one.

    Raises:
        ValueError: names that do not tell tokens apart, or not one token in common.
    """
    if list(names) == list(known):
        return list(range(len(names)))
    if len(set(names)) < len(names) or len(set(known)) < len(known):
        raise InputError("its tokens are others, and some of them share a name")
    number = {name: index for index, name in enumerate(known)}
    found = [number.get(name, -1) for name in names]
    if max(found) < 0:
        raise InputError("it knows none of the tokens of the data")
    return found


def grown(params: Any, known: Sizes, sizes: Sizes, place: Sequence[int]) -> Any:
    """The parameters of a network of sizes `known` for one of `sizes`.

    Args:
        params: of the known network.
        known, sizes: equal but for `vocab_size`, `labels` and `dtype`.
        place: of every new token, the old token's number, or -1: such a token starts as the mean of those that stay.

    Raises:
        ValueError: other sizes, or a kind of network that takes no other tokens.
    """
    if type(known) is not type(sizes):
        raise InputError(f"holds a {kind_of(known)}, and a {kind_of(sizes)} is to be trained")
    old, new = (dataclasses.asdict(each) | {"dtype": "", "vocab_size": 0, "labels": 0} for each in (known, sizes))
    if wrong := [name for name in old if old[name] != new[name]]:
        raise InputError(f"its network has {wrong[0]}={old[wrong[0]]!r}, and {new[wrong[0]]!r} is to be trained")
    if list(place) == list(range(known.vocab_size)):
        return params
    if not isinstance(sizes, DDiTConfig):
        raise InputError(f"a {kind_of(sizes)} takes no other tokens than its own")
    kept, flat = [index for index in place if index >= 0], traverse_util.flatten_dict(params, sep="/")
    for name, axis in _VOCABULARY.items():
        rows = np.moveaxis(np.asarray(flat[name]), axis, 0)
        mean = rows[kept].mean(0)
        chosen = [rows[index] if index >= 0 else mean for index in place]
        flat[name] = np.moveaxis(np.stack([*chosen, *rows[known.vocab_size :]]), 0, axis)
    return traverse_util.unflatten_dict(flat, sep="/")
