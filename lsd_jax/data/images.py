"""Images as sequences of ordered pixel values: scikit-learn's digits, and CIFAR-10.

A sequence is an image flattened channel by channel, row by row, as tauLDR's networks read it.
"""

import hashlib
import io
import pathlib
import tarfile
import urllib.request

import numpy as np
import tensorflow_datasets as tfds

SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32)}  # channels, height, width
VALUES = {"digits": 17, "cifar10": 256}
DIGITS = {"train": slice(0, 1297), "validation": slice(1297, 1497), "test": slice(1497, 1797)}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


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
        raise ValueError("config.data.name='digits' needs scikit-learn: pip install -r requirements.txt") from None
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    return pixels[order].astype(np.uint8), labels[order].astype(np.uint8)


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits of 8 x 8 pixels and 17 grey levels (scikit-learn; Alpaydin and Kaynak 1998)."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs):
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        feature = tfds.features.Tensor(shape=(64,), dtype=np.uint8)
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"tokens": feature}), description=self.__doc__
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        tokens, _ = read_digits()
        return {split: self._generate_examples(tokens[part]) for split, part in DIGITS.items()}

    def _generate_examples(self, rows):
        for index, tokens in enumerate(rows):
            yield index, {"tokens": tokens}


class Cifar10(tfds.core.GeneratorBasedBuilder):
    """60,000 colour images of 32 x 32 pixels (Krizhevsky 2009); the last 1,000 training images are for validation.

    From the published archive: TFDS's own builder of it needs TensorFlow to prepare the data.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, path: str = "", **kwargs):
        self._path = path
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        feature = tfds.features.Tensor(shape=(3072,), dtype=np.uint8)
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"tokens": feature}), description=self.__doc__
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        parts = read_cifar10(pathlib.Path(self._path).expanduser() if self._path else None)
        return {split: self._generate_examples(rows) for split, rows in parts.items()}

    def _generate_examples(self, rows):
        for index, tokens in enumerate(rows):
            yield index, {"tokens": tokens}


def read_cifar10(archive: pathlib.Path | None) -> dict[str, np.ndarray]:
    """Tokens (n, 3072) of each split from cifar-10-binary.tar.gz, fetched if no file is named.

    Raises:
        FileNotFoundError, ValueError: no such file, no network, or another archive; one line.
    """
    if archive is None:
        raw, name = _fetch(CIFAR10_URL), CIFAR10_URL
    elif archive.is_file():
        raw, name = archive.read_bytes(), str(archive)
    else:
        raise FileNotFoundError(f"config.data.path={str(archive)!r}: no such file; it is {CIFAR10_URL}")
    if hashlib.sha256(raw).hexdigest() != CIFAR10_SHA256:
        raise ValueError(f"{name!r} is not the whole CIFAR-10 archive (binary version); load it again")
    rows = {}
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        for member in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
            content = archive.extractfile(f"cifar-10-batches-bin/{member}").read()
            rows[member] = np.frombuffer(content, np.uint8).reshape(-1, 3073)[:, 1:]  # a label before each image
    test, train = rows.pop("test_batch.bin"), np.concatenate(list(rows.values()))
    return {"train": train[:-1000], "validation": train[-1000:], "test": test}


def _fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read()
    except OSError as error:
        raise FileNotFoundError(
            f"config.data.name='cifar10': {url} could not be fetched ({error}); connect, or set config.data.path to the file"
        ) from None
