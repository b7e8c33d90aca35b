"""Prepared data sets: one TFDS builder for every task, read by grain, with no TensorFlow.

Training reads an endless grain iterator whose state goes into the checkpoint; evaluation reads fixed arrays.
"""

import contextlib
import functools
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import grain
import jax
import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from lsd_jax.errors import InputError
from lsd_jax.processes.process import token_dtype

tfds.disable_progress_bar()
_SPLITS = ("train", "validation", "test")


class Source(NamedTuple):
    """What makes a data set. Name, variant and version are its folder in the cache.

    Attributes:
        name: of the data set.
        variant: what tells it from others of the name; empty: there are none.
        width: tokens per example.
        vocab_size: number of tokens.
        make: () -> split -> examples (n, width); called once, when the data set is not in the cache yet.
    """

    name: str
    variant: str
    width: int
    vocab_size: int
    make: Callable[[], Mapping[str, np.ndarray]]


class Sequences(tfds.core.GeneratorBasedBuilder):
    """Examples of tokens."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, source: Source, **kwargs):
        self._source = source
        self.name = source.name
        config = tfds.core.BuilderConfig(name=source.variant) if source.variant else None
        super().__init__(config=config, file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        tokens = tfds.features.Tensor(shape=(self._source.width,), dtype=token_dtype(self._source.vocab_size))
        features = tfds.features.FeaturesDict({"tokens": tokens})
        return tfds.core.DatasetInfo(builder=self, features=features, description=self.__doc__)

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(rows) for split, rows in self._source.make().items()}

    def _generate_examples(self, rows):
        for index, tokens in enumerate(rows):
            yield index, {"tokens": tokens}


def cache_dir() -> pathlib.Path:
    """Where prepared data sets live: $LSD_JAX_CACHE, or ~/.cache/lsd_jax.

    Raises:
        ValueError: there is no home directory, and the variable is not set.
    """
    try:
        return pathlib.Path(os.environ.get("LSD_JAX_CACHE") or "~/.cache/lsd_jax").expanduser()
    except RuntimeError:
        raise InputError("LSD_JAX_CACHE='': there is no home directory; name a folder for prepared data") from None


def prepared(source: Source) -> tfds.core.DatasetBuilder:
    """The reader of a data set, which is made if it is not in the cache.

    Raises:
        ValueError, FileNotFoundError: what `source.make` raises.
    """
    folder = cache_dir() / "datasets"
    place = folder / source.name / source.variant / str(Sequences.VERSION)
    if not place.exists():  # a folder appears when all of it is written
        logging.info("preparing the data set in %s", place)
        try:
            with contextlib.redirect_stdout(None):  # it would announce a download
                Sequences(source=source, data_dir=folder).download_and_prepare()
        except FileExistsError:
            logging.info("another process has prepared %s meanwhile", source.name)
    return tfds.builder_from_directory(place)


@functools.lru_cache(maxsize=3)  # a study asks for the same splits again and again, and reading one takes seconds
def _examples(place: str, part: str) -> np.ndarray:
    """All examples (n, width) of a split of a prepared data set."""
    examples = tfds.builder_from_directory(place).as_data_source(split=part)
    return np.stack([example["tokens"] for example in examples.__getitems__(range(len(examples)))])


def read_split(source: Source, part: str, length: int) -> np.ndarray:
    """All of a split as sequences (n, length) cut without overlap, in a fixed shuffled order.

    Raises:
        ValueError: no such split, or a length that no example has.
    """
    if part not in _SPLITS:
        raise InputError(f"part={part!r}: choose one of {_SPLITS}")
    check_length(source, length)
    rows = _examples(str(prepared(source).data_path), part)
    whole = rows.shape[1] // length
    rows = rows[:, : whole * length].reshape(-1, length)
    return rows[np.random.default_rng(0).permutation(len(rows))]


def read_batches(source: Source, length: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """An endless grain iterator of random crops (batch, length), int32, of this process's share of the training split.

    Raises:
        ValueError: a length that no example has.
    """
    check_length(source, length)
    dataset = (
        grain.MapDataset.source(prepared(source).as_data_source(split="train"))[
            jax.process_index() :: jax.process_count()
        ]
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(_Crop(length))
        .batch(batch_size, drop_remainder=True)
    )
    return iter(dataset.to_iter_dataset())


def check_length(source: Source, length: int) -> None:
    if not 0 < length <= source.width:
        raise InputError(f"sequence_length={length}: examples have {source.width} tokens")


class _Crop(grain.transforms.RandomMap):
    def __init__(self, length: int):
        self._length = length

    def random_map(self, element, rng: np.random.Generator) -> np.ndarray:
        tokens = element["tokens"]
        start = rng.integers(0, len(tokens) - self._length + 1)
        return tokens[start : start + self._length].astype(np.int32)
