"""Images as sequences of ordered pixel values: scikit-learn's digits, and CIFAR-10.

A sequence is an image flattened channel by channel, row by row, as tauLDR's networks read it.
"""

import functools
import hashlib
import io
import pathlib
import tarfile
import urllib.request
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics import fid, ngram
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.counts import ngram_divergences
from lsd_jax.metrics.metric import Metrics
from lsd_jax.models import image_features
from lsd_jax.tasks.task import Data, Judge, Task

if TYPE_CHECKING:
    from lsd_jax.tasks.builder import Source

DIGITS = {"train": slice(0, 1297), "validation": slice(1297, 1497), "test": slice(1497, 1797)}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_ORDERS = (1, 2)


class Images(Task):
    """Images: `tv{n}` and `js{n}` of pixel values in a row, `entropy_bits`; with a feature network `frechet`.

    Attributes:
        values: number of pixel values that the data must have.
    """

    values: ClassVar[int]

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        if self.vocab_size != self.values:
            raise InputError(f"vocab_size={self.vocab_size}: {self.name} has {self.values} values")
        if self.length != np.prod(self.shape):
            raise InputError(
                f"sequence_length={self.length}: an image of shape={self.shape} has {np.prod(self.shape)} pixels"
            )
        self._network, self._statistics = None, None
        if judge and judge.features:
            self._network = image_features.load(judge.features, self.shape, self.vocab_size)
            if judge.feature_statistics:
                path = pathlib.Path(judge.feature_statistics).expanduser()
                self._statistics = fid.read_statistics(path, self._network.width)
        self.columns = (*ngram.ngram_columns(_ORDERS), ngram.ENTROPY, *((fid.FRECHET,) if self._network else ()))
        self.primary = "frechet" if self._network else "tv2"

    @functools.cached_property
    def _reference(self) -> dict[int, ngram.NGrams]:
        rows = self.split("test")
        return {order: ngram.ngram_distribution(rows, order, self.vocab_size) for order in _ORDERS}

    @functools.cached_property
    def _frechet(self) -> fid.Frechet:
        """The distance from the statistics of the judge, or from the training split."""
        batch, reference = self.judge.batch_size, self._statistics
        if reference is None:
            reference = fid.fit(fid.extract(self._network, self.split("train"), batch))
        return fid.Frechet(self._network, reference, batch)

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        entropy = ngram.unigram_entropy(tokens_NL, self.vocab_size)
        found = {"entropy_bits": mean_interval(entropy, seed, resamples)}
        found |= ngram_divergences(tokens_NL, self._reference, self.vocab_size, seed, resamples)
        if self._network:
            found["frechet"] = self._frechet(tokens_NL, seed, resamples)
        return found

    def images(self, tokens_NL: np.ndarray) -> np.ndarray:
        return to_image(tokens_NL, self.shape, self.vocab_size)

    def facts(self) -> dict[str, Any]:
        return {"features": self._network.name} if self._network else {}


class Digits(Images):
    """1,797 handwritten digits of 8 x 8 pixels and 17 gray levels (scikit-learn; Alpaydin and Kaynak 1998)."""

    image_shape, values, reads_file = (1, 8, 8), 17, False

    def source(self) -> "Source":
        from lsd_jax.tasks.builder import Source

        def make() -> Mapping[str, np.ndarray]:
            tokens, _ = read_digits()
            return {split: tokens[part] for split, part in DIGITS.items()}

        return Source("digits", "", self.length, self.vocab_size, make)


class Cifar10(Images):
    """60,000 color images of 32 x 32 pixels (Krizhevsky 2009); the last 1,000 training images are for validation.

    From the published archive: TFDS's own builder of it needs TensorFlow to prepare the data.
    """

    image_shape, values = (3, 32, 32), 256

    def source(self) -> "Source":
        from lsd_jax.tasks.builder import Source

        path = self.data.path
        archive = pathlib.Path(path).expanduser() if path else None
        return Source("cifar10", "", self.length, self.vocab_size, lambda: read_cifar10(archive))


def to_image(tokens: np.ndarray, shape: tuple[int, int, int], values: int) -> np.ndarray:
    """Sequences (n, L) as images (n, height, width, channels), uint8 in 0 .. 255."""
    scaled = np.round(np.asarray(tokens, np.float32) * (255 / (values - 1))).astype(np.uint8)
    return scaled.reshape(-1, *shape).transpose(0, 2, 3, 1)


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """(tokens (1797, 64) in 0 .. 16, labels (1797,)), uint8, in the fixed shuffled order that the splits cut.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("name='digits': it needs scikit-learn: pip install scikit-learn") from None
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    return pixels[order].astype(np.uint8), labels[order].astype(np.uint8)


def read_cifar10(archive: pathlib.Path | None) -> dict[str, np.ndarray]:
    """Tokens (n, 3072) of each split from cifar-10-binary.tar.gz, fetched if no file is named.

    Raises:
        FileNotFoundError, ValueError: no such file, no network, or another archive; one line.
    """
    if archive is None:
        raw, name = _fetch(CIFAR10_URL), f"name='cifar10': {CIFAR10_URL}"
    elif archive.is_file():
        raw, name = archive.read_bytes(), f"path={str(archive)!r}:"
    else:
        raise FileNotFoundError(f"path={str(archive)!r}: no such file; it is {CIFAR10_URL}")
    if hashlib.sha256(raw).hexdigest() != CIFAR10_SHA256:
        raise InputError(f"{name} is not the whole CIFAR-10 archive (binary version); load it again")
    rows = {}
    with tarfile.open(fileobj=io.BytesIO(raw)) as file:
        for member in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
            content = file.extractfile(f"cifar-10-batches-bin/{member}").read()
            rows[member] = np.frombuffer(content, np.uint8).reshape(-1, 3073)[:, 1:]  # a label before each image
    test, train = rows.pop("test_batch.bin"), np.concatenate(list(rows.values()))
    return {"train": train[:-1000], "validation": train[-1000:], "test": test}


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read()
    except OSError as error:
        raise FileNotFoundError(
            f"name='cifar10': {url} could not be fetched ({error}); connect, or set path to the file"
        ) from None
