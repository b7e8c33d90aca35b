"""Prepared data sets: one TFDS builder for every task, read by grain, with no TensorFlow.

Training reads an endless grain iterator whose state goes into the checkpoint; evaluation reads fixed arrays. Both keep a split's
tokens in memory: a batch is then one indexing of an array, which keeps up with an accelerator.
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
_FOREVER = 1 << 40  # batches


class Source(NamedTuple):
    """What makes a data set. Name, variant and version are its folder in the cache.

    Attributes:
        name: of the data set.
        variant: what tells it from others of the name; empty: there are none.
        width: tokens per example.
        vocab_size: number of tokens.
        make: () -> split -> examples (n, width); called once, when the data set is not in the cache yet.
        block: examples per record of a file: of millions of short ones many, since reading a record costs more than its tokens.
    """

    name: str
    variant: str
    width: int
    vocab_size: int
    make: Callable[[], Mapping[str, np.ndarray]]
    block: int = 1


class Sequences(tfds.core.GeneratorBasedBuilder):
    """Examples of tokens."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, source: Source, **kwargs):
        self._source = source
        self.name = source.name
        config = tfds.core.BuilderConfig(name=source.variant) if source.variant else None
        super().__init__(config=config, file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (self._source.width,) if self._source.block == 1 else (None, self._source.width)
        tokens = tfds.features.Tensor(shape=shape, dtype=token_dtype(self._source.vocab_size))
        features = tfds.features.FeaturesDict({"tokens": tokens})
        return tfds.core.DatasetInfo(builder=self, features=features, description=self.__doc__)

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(rows) for split, rows in self._source.make().items()}

    def _generate_examples(self, rows):
        size = self._source.block
        for start in range(0, len(rows), size):
            yield start, {"tokens": rows[start] if size == 1 else rows[start : start + size]}


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
        except OSError:
            if not place.exists():
                raise
            logging.info("another process has prepared %s meanwhile", source.name)
    return tfds.builder_from_directory(place)


@functools.lru_cache(maxsize=3)  # a study asks for the same splits again and again, and reading one takes seconds
def _examples(place: str, part: str) -> np.ndarray:
    """All examples (n, width) of a split of a prepared data set."""
    records = tfds.builder_from_directory(place).as_data_source(split=part)
    tokens = [record["tokens"] for record in records.__getitems__(range(len(records)))]
    return np.stack(tokens) if tokens[0].ndim == 1 else np.concatenate(tokens)


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
    """An endless grain iterator of random crops (batch, length), int32, of the training split: this process's rows of each batch.

    All processes read the same batches, so that any number of them goes on with those that another number had not read yet.

    Args:
        batch_size: of this process; that of all of them together is as much larger as they are many.

    Raises:
        ValueError: a length that no example has.
    """
    check_length(source, length)
    rows = _examples(str(prepared(source).data_path), "train")
    first = jax.process_index() * batch_size
    batch = _Batch(rows, length, batch_size * jax.process_count(), seed, slice(first, first + batch_size))
    dataset = grain.MapDataset.range(_FOREVER).map(batch)
    return iter(dataset.to_iter_dataset())


def check_length(source: Source, length: int) -> None:
    if not 0 < length <= source.width:
        raise InputError(f"sequence_length={length}: examples have {source.width} tokens")


class _Batch(grain.transforms.Map):
    """The `part` of batch number i of an endless shuffled reading: random crops, int32, of examples (n, width)."""

    def __init__(self, rows: np.ndarray, length: int, batch_size: int, seed: int, part: slice):
        self._rows, self._length, self._batch_size, self._seed, self._part = rows, length, batch_size, seed, part
        self._order = functools.lru_cache(maxsize=2)(self._shuffled)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, int(epoch)]).permutation(len(self._rows))

    def map(self, index: int) -> np.ndarray:
        own = index * self._batch_size + np.arange(self._batch_size)[self._part]
        epoch_B, place_B = divmod(own, len(self._rows))
        chosen = np.concatenate([self._order(epoch)[place_B[epoch_B == epoch]] for epoch in np.unique(epoch_B)])
        if (spare := self._rows.shape[1] - self._length) == 0:
            return self._rows[chosen].astype(np.int32)
        drawn = np.random.default_rng([self._seed, int(index), 1]).integers(0, spare + 1, self._batch_size)
        starts = drawn[self._part]
        return self._rows[chosen[:, None], starts[:, None] + np.arange(self._length)].astype(np.int32)
