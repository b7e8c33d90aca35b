"""Images as sequences of ordered pixel values: scikit-learn's digits, and CIFAR-10 through TFDS.

A sequence is an image flattened channel by channel, row by row, as tauLDR's networks read it.
"""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

SHAPES = {"digits": (1, 8, 8), "cifar10": (3, 32, 32)}  # channels, height, width
VALUES = {"digits": 17, "cifar10": 256}
DIGITS = {"train": slice(0, 1297), "validation": slice(1297, 1497), "test": slice(1497, 1797)}
_CIFAR10 = {"train": "train[:49000]", "validation": "train[49000:]", "test": "test"}


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


class Cifar10:
    """TFDS's CIFAR-10 read as tokens, with the calls of a builder; the last 1,000 training images are for validation."""

    def __init__(self, data_dir: str | pathlib.Path):
        self._folder = pathlib.Path(data_dir).expanduser()
        self._builder = tfds.builder("cifar10", data_dir=self._folder, file_format="array_record")

    def download_and_prepare(self) -> None:
        """Fetches it once.

        Raises:
            FileNotFoundError: it is not there, and cannot be fetched.
        """
        try:
            self._builder.download_and_prepare()
        except FileExistsError:
            raise
        except Exception as error:  # of the network, of the server, of an incomplete file: TFDS has many
            detail = f"{type(error).__name__}: {error}".splitlines()[0][:120]
            raise FileNotFoundError(
                f"config.data.name='cifar10': not in {str(self._folder)!r}, and it could not be fetched ({detail}); connect "
                "once, or set config.data.path to a TFDS folder that has it as array_record"
            ) from None

    def as_data_source(self, split: str) -> "_Tokens":
        """A sequence of {"tokens": (3072,) uint8}."""
        return _Tokens(self._builder.as_data_source(split=_CIFAR10[split]))


class _Tokens:
    def __init__(self, source):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index):
        return {"tokens": self._source[index]["image"].transpose(2, 0, 1).reshape(-1)}
