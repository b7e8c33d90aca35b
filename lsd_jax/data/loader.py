"""From a config's `data` section to token arrays: TFDS builders read by grain, with no TensorFlow.

Training reads an endless grain iterator whose state goes into the checkpoint; evaluation reads fixed arrays.
"""

import functools
import os
import pathlib

import grain
import jax
import ml_collections
import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from lsd_jax.data import images
from lsd_jax.data.chain import CHAINS, Chain, chain_of
from lsd_jax.data.text import Text
from lsd_jax.data.tokens import split_tokens

tfds.disable_progress_bar()

DATASETS = ("text", *CHAINS, *images.SHAPES, "tokens")


def cache_dir() -> pathlib.Path:
    """Where prepared data sets live: $LSD_JAX_CACHE, or ~/.cache/lsd_jax."""
    return pathlib.Path(os.environ.get("LSD_JAX_CACHE", "~/.cache/lsd_jax")).expanduser()


def make_builder(data: ml_collections.ConfigDict):
    """The prepared TFDS builder of a config's `data` section.

    Raises:
        ValueError, FileNotFoundError: a field that names no data set, no file, or an unusable one.
    """
    folder = cache_dir() / "datasets"
    if data.name == "text":
        make = functools.partial(Text, path=data.path, normalize=data.normalize, data_dir=folder)
    elif data.name in CHAINS:
        law = {"name": data.name, "chain": chain_of(data), "length": data.sequence_length}
        make = functools.partial(Chain, **law, data_dir=folder)
    elif data.name == "digits":
        make = functools.partial(images.Digits, data_dir=folder)
    elif data.name == "cifar10":
        make = functools.partial(images.Cifar10, path=data.path, data_dir=folder)
    else:
        raise ValueError(f"config.data.name={data.name!r}: choose one of {DATASETS}")
    try:
        make().download_and_prepare()
    except FileExistsError:
        logging.info("another process has prepared %s meanwhile", data.name)
    return make()


def load_split(data: ml_collections.ConfigDict, split: str) -> np.ndarray:
    """All of a split as sequences (n, sequence_length), uint8 (tokens: int32), cut without overlap, in a fixed shuffled order."""
    if data.name == "tokens":
        return split_tokens(data, split)
    source = make_builder(data).as_data_source(split=split)
    rows = np.stack([example["tokens"] for example in source])
    length = data.sequence_length
    if length > rows.shape[1]:
        raise ValueError(f"config.data.sequence_length={length}: examples have {rows.shape[1]} tokens")
    whole = rows.shape[1] // length
    rows = rows[:, : whole * length].reshape(-1, length)
    return rows[np.random.default_rng(0).permutation(len(rows))]


class _Crop(grain.transforms.RandomMap):
    def __init__(self, length: int):
        self._length = length

    def random_map(self, element, rng: np.random.Generator) -> np.ndarray:
        tokens = element["tokens"]
        start = rng.integers(0, len(tokens) - self._length + 1)
        return tokens[start : start + self._length].astype(np.int32)


def training_iterator(data: ml_collections.ConfigDict, batch_size: int, seed: int):
    """An endless grain iterator of random crops (batch, sequence_length), int32, this process's share of the data."""
    source = make_builder(data).as_data_source(split="train")
    dataset = (
        grain.MapDataset.source(source)[jax.process_index() :: jax.process_count()]
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(_Crop(data.sequence_length))
        .batch(batch_size, drop_remainder=True)
    )
    return iter(dataset.to_iter_dataset())
