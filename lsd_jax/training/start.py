"""Parameters of a trained network as those that another training starts from; the new network may know more tokens."""

import dataclasses
from typing import Any

import numpy as np
from flax import traverse_util

from lsd_jax.errors import InputError
from lsd_jax.models import weights
from lsd_jax.models.backbones import Sizes, kind_of
from lsd_jax.models.ddit import DDiTConfig

# The axis of the data's tokens. The embedding has one row more, the mask's.
_VOCABULARY = {"params/embed/embedding": 0, "params/head/kernel": 1, "params/head/bias": 0}


def parameters_of(start: str, sizes: Sizes, padded: bool) -> Any:
    """The parameters of a file of `weights`, for a network of `sizes`.

    Where the new network has more tokens, the old ones keep their numbers, but for a pad, which stays the last; every new token starts
    as the mean of the old ones, so that it stands for none of them.

    Args:
        start: a shipped name or a path.
        sizes: of the network to train.
        padded: whether the last data token is a pad.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or a network of other sizes.
    """
    known, params, _ = weights.load(weights.resolve(start), "start")
    named = f"start={start!r}"
    if type(known) is not type(sizes):
        raise InputError(f"{named}: holds a {kind_of(known)}, and a {kind_of(sizes)} is to be trained")
    old, new = (dataclasses.asdict(each) | {"dtype": "", "vocab_size": 0} for each in (known, sizes))
    if wrong := [name for name in old if old[name] != new[name]]:
        raise InputError(
            f"{named}: its network has {wrong[0]}={old[wrong[0]]!r}, and {new[wrong[0]]!r} is to be trained"
        )
    more = sizes.vocab_size - known.vocab_size
    if more < 0 or (more and not isinstance(sizes, DDiTConfig)):
        raise InputError(f"{named}: its network knows {known.vocab_size} tokens, and vocab_size={sizes.vocab_size}")
    if not more:
        return params
    flat = traverse_util.flatten_dict(params, sep="/")
    place = known.vocab_size - padded
    for name, axis in _VOCABULARY.items():
        mean = np.take(flat[name], range(place), axis).mean(axis, keepdims=True)
        flat[name] = np.insert(flat[name], [place] * more, mean, axis)
    return traverse_util.unflatten_dict(flat, sep="/")
