"""From a config to what only image experiments have: the U-Net, the checks of shapes, and the Frechet distance's features."""

import dataclasses
import pathlib
from typing import Any

import ml_collections
import numpy as np

from lsd_jax.data import images, loader
from lsd_jax.metrics import fid
from lsd_jax.models import features, weights
from lsd_jax.models.features import FeatureNetwork
from lsd_jax.models.pretrained import tauldr
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.models.score_fn import ScoreModel, network_score_model
from lsd_jax.models.unet import UNet, UNetConfig
from lsd_jax.processes.score import Process

_CHECKPOINTS = (".pt", ".pth", ".bin")  # PyTorch's: tauLDR's own


def network_of(config: ml_collections.ConfigDict) -> UNetConfig:
    """The sizes of the U-Net to train."""
    return UNetConfig(config.data.vocab_size, config.data.shape, dtype=config.model.dtype, **config.model.unet)


def backbone_of(
    config: ml_collections.ConfigDict, process: Process, path: pathlib.Path
) -> tuple[ScoreModel, dict[str, Any]]:
    """A U-Net, from a file that training wrote or from tauLDR's own checkpoint, and what names it in an artefact.

    Raises:
        ValueError, FileNotFoundError: no such file, another network, or one for other images.
    """
    shape, values = tuple(config.data.shape), process.vocab_size
    if path.suffix in _CHECKPOINTS:
        try:
            sizes, params = tauldr.unet(read_tensors(path), values, shape)
        except ValueError as error:
            raise ValueError(f"config.model.weights={str(path)!r} cannot be read as tauLDR's U-Net: {error}") from None
        sizes = dataclasses.replace(sizes, fix_logistic=config.model.unet.fix_logistic)
    else:
        sizes, params, _ = weights.load(path)
    kind = weights.kind_of(sizes)
    if kind != "unet" or sizes.shape != shape or sizes.vocab_size != values:
        images_of = f" for {sizes.shape} images of {sizes.vocab_size} values" if kind == "unet" else ""
        raise ValueError(
            f"weights {str(path)!r} are a {kind} network{images_of}; the config has a unet for {shape} of {values}"
        )
    model = UNet(dataclasses.replace(sizes, dtype=config.model.dtype))
    identity = {"kind": "unet", "id": path.name, "sha256": weights.sha256(path)}
    return network_score_model(process, model, params, "posterior"), identity


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError where shape, length, values and network do not belong together."""
    shape, name = tuple(config.data.shape), config.data.name
    if name not in images.SHAPES:
        if config.model.name == "unet" or shape:
            raise ValueError(
                f"config.model.name='unet' and config.data.shape={shape} are for the images {sorted(images.SHAPES)}; "
                f"config.data.name is {name!r}"
            )
        return
    if shape != images.SHAPES[name] or config.data.vocab_size != images.VALUES[name]:
        raise ValueError(
            f"config.data.shape={shape}, vocab_size={config.data.vocab_size}: {name} has {images.SHAPES[name]} and "
            f"{images.VALUES[name]} values"
        )
    if config.data.sequence_length != np.prod(shape):
        raise ValueError(
            f"config.data.sequence_length={config.data.sequence_length}: an image of config.data.shape={shape} has "
            f"{np.prod(shape)}"
        )


class Frechet:
    """The Frechet distance of an experiment: its feature network, and the Gaussian of the reference's features.

    Raises:
        ValueError, FileNotFoundError: a file cannot be read, or is of other images.
    """

    def __init__(self, config: ml_collections.ConfigDict):
        self._settings = config.evaluation
        self.network = features_of(config)
        if config.evaluation.feature_statistics:
            path = pathlib.Path(config.evaluation.feature_statistics).expanduser()
            self._reference = fid.read_statistics(path, self.network.width)
        else:
            rows = loader.load_split(config.data, "train")
            self._reference = fid.fit(fid.extract(self.network, rows, config.evaluation.batch_size))

    def __call__(self, tokens: np.ndarray) -> tuple[float, float, float]:
        """(distance, low, high) of sequences (n, L)."""
        rows = fid.extract(self.network, tokens, self._settings.batch_size)
        return fid.distance_interval(rows, self._reference, self._settings.bootstrap)


def frechet_of(config: ml_collections.ConfigDict) -> Frechet | None:
    """The Frechet distance, if the config names a feature network."""
    return Frechet(config) if config.evaluation.features else None


def features_of(config: ml_collections.ConfigDict) -> FeatureNetwork | None:
    """The feature network, if the config names one.

    Raises:
        ValueError, FileNotFoundError: it cannot be read, or sees other images.
    """
    source, statistics = config.evaluation.features, config.evaluation.feature_statistics
    if not source:
        if statistics:
            raise ValueError(
                "config.evaluation.feature_statistics needs config.evaluation.features, the network it is of"
            )
        return None
    if not config.data.shape:
        raise ValueError(f"config.evaluation.features={source!r} is for images, not {config.data.name!r}")
    network = features.load(source, tuple(config.data.shape), config.data.vocab_size)
    if statistics:
        fid.read_statistics(pathlib.Path(statistics).expanduser(), network.width)
    return network
