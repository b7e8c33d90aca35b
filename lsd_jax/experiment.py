"""From a config to the objects of an experiment, with every check that needs no long work."""

import dataclasses
import pathlib
from typing import Any

import ml_collections
import numpy as np

from lsd_jax.data import images, loader
from lsd_jax.data.countdown import transition_matrix
from lsd_jax.distill.neighbours import MAX_VOCAB
from lsd_jax.distill.objectives import check_objective
from lsd_jax.distill.plan import GRIDS, ORDERS
from lsd_jax.distill.student import init_student
from lsd_jax.metrics import fid
from lsd_jax.models import weights
from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.models.features import FeatureNetwork
from lsd_jax.models.features import load as load_features
from lsd_jax.models.oracle import markov_log_posterior
from lsd_jax.models.pretrained import tauldr
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.models.score_fn import ScoreModel, network_score_model, oracle_score_model
from lsd_jax.models.unet import UNet, UNetConfig
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import Process, make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.simulate import check_kernel

TRAINED = "train/weights.safetensors"  # below the run directory


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A frozen score model and what names it in an artefact."""

    model: ScoreModel
    identity: dict[str, Any]


def process_of(config: ml_collections.ConfigDict) -> Process:
    """The noising process of a config."""
    noise, settings = config.process.noise.to_dict(), {}
    if config.process.name == "gaussian":
        settings = {"rate_sigma": config.process.rate_sigma, "q_sigma": config.process.q_sigma}
    return make_process(config.process.name, config.data.vocab_size, make_noise(noise.pop("name"), **noise), **settings)


def coupling_of(config: ml_collections.ConfigDict) -> Coupling:
    """The coupling of a config's students."""
    return Coupling(**config.student.coupling)


def network_of(config: ml_collections.ConfigDict) -> weights.Sizes:
    """The sizes of the network to train."""
    if config.model.name == "unet":
        unet = config.model.unet
        return UNetConfig(config.data.vocab_size, config.data.shape, dtype=config.model.dtype, **unet)
    if config.model.dim % (2 * config.model.heads):
        raise ValueError(
            f"config.model.dim={config.model.dim} must be divisible by twice config.model.heads={config.model.heads}"
        )
    return DDiTConfig(
        vocab_size=config.data.vocab_size,
        dim=config.model.dim,
        depth=config.model.depth,
        heads=config.model.heads,
        mlp_ratio=config.model.mlp_ratio,
        time_conditioned=config.model.time_conditioned,
        causal=config.training.loss == "autoregressive",
    )


def chain_of(config: ml_collections.ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """The exactly known Markov chain behind the data: its initial law and transition matrix."""
    return transition_matrix(config.data.vocab_size, config.data.mix)


def weights_path(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """The file of the network's weights: named by the config, or trained into the run directory."""
    return weights.resolve(config.model.weights) if config.model.weights else workdir / TRAINED


def backbone_of(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Backbone:
    """The frozen network, loaded and checked, or the exact oracle.

    Raises:
        ValueError, FileNotFoundError: weights missing, broken, or for another vocabulary.
    """
    process = process_of(config)
    if config.model.name == "oracle":
        if config.data.name != "countdown":
            raise ValueError("config.model.name='oracle' needs config.data.name='countdown', whose law is known")
        identity = {"kind": "oracle", "id": f"countdown mix={config.data.mix:g}", "sha256": ""}
        return Backbone(oracle_score_model(process, markov_log_posterior(process, *chain_of(config))), identity)
    path = weights_path(config, workdir)
    if config.model.name == "unet":
        return image_backbone(config, process, path)
    sizes, params, _ = weights.load(path)
    if sizes.vocab_size != process.vocab_size:
        raise ValueError(
            f"weights {str(path)!r} are for {sizes.vocab_size} tokens, config.data.vocab_size={process.vocab_size}"
        )
    identity = {"kind": "ddit", "id": path.name, "sha256": weights.sha256(path)}
    return Backbone(network_score_model(process, DDiT(sizes), params, config.model.parameterization), identity)


def image_backbone(config: ml_collections.ConfigDict, process: Process, path: pathlib.Path) -> Backbone:
    """A U-Net from a file that training wrote, or from tauLDR's own checkpoint."""
    shape, values = tuple(config.data.shape), process.vocab_size
    if path.suffix in (".pt", ".pth", ".bin"):
        try:
            sizes, params = tauldr.unet(read_tensors(path), values, shape)
        except ValueError as error:
            raise ValueError(f"config.model.weights={str(path)!r} cannot be read as tauLDR's U-Net: {error}") from None
        sizes = dataclasses.replace(sizes, fix_logistic=config.model.unet.fix_logistic)
    else:
        sizes, params, _ = weights.load(path)
    kind = weights.kind_of(sizes)
    if kind != "unet" or sizes.shape != shape or sizes.vocab_size != values:
        found = (
            f"a U-Net for {sizes.shape} images of {sizes.vocab_size} values" if kind == "unet" else f"a {kind} network"
        )
        raise ValueError(f"weights {str(path)!r} are {found}; the config has a U-Net for {shape} of {values}")
    sizes = dataclasses.replace(sizes, dtype=config.model.dtype)
    identity = {"kind": "unet", "id": path.name, "sha256": weights.sha256(path)}
    return Backbone(network_score_model(process, UNet(sizes), params, "posterior"), identity)


def check_images(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError where shape, length, values and network do not belong together."""
    shape, name = tuple(config.data.shape), config.data.name
    if name not in images.SHAPES:
        if config.model.name == "unet":
            raise ValueError(
                f"config.model.name='unet' needs images, config.data.name is {name!r}: {sorted(images.SHAPES)}"
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


def features_of(config: ml_collections.ConfigDict) -> FeatureNetwork | None:
    """The feature network of the Frechet distance, if the config names one.

    Raises:
        ValueError, FileNotFoundError: it cannot be read, or sees other images.
    """
    settings = config.evaluation
    if not settings.features:
        if settings.feature_statistics:
            raise ValueError(
                "config.evaluation.feature_statistics needs config.evaluation.features, the network it is of"
            )
        return None
    if not config.data.shape:
        raise ValueError(f"config.evaluation.features={settings.features!r} is for images, not {config.data.name!r}")
    return load_features(settings.features, tuple(config.data.shape), config.data.vocab_size)


def check_plan(settings: ml_collections.ConfigDict, process_name: str) -> None:
    """Raises ValueError where a student's grid or order is unknown, or needs the absorbing process."""
    for field, choices in (("grid", GRIDS), ("order", ORDERS)):
        if settings[field] not in choices:
            raise ValueError(f"config.student.{field}={settings[field]!r}: choose one of {choices}")
    if process_name != "absorbing" and (settings.order != "fixed" or settings.grid == "profile"):
        raise ValueError(
            f"config.student.order={settings.order!r}, grid={settings.grid!r}: only the absorbing process has an order of "
            "reveals; choose order='fixed' and another grid"
        )
    if settings.draws < 1 or settings.grid_points < 2:
        raise ValueError("config.student.draws must be 1 or more, config.student.grid_points 2 or more")


def check_neighbours(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError where potentials between tokens revealed together cannot be fitted or used."""
    count, name = config.student.neighbours, "config.student.neighbours"
    if count < 0 or count in (1, 2, 3):
        raise ValueError(f"{name}={count}: 0 for none, or at least 4 sequences to fit on")
    if not count:
        return
    if config.process.name != "absorbing":
        raise ValueError(f"{name}={count} needs the absorbing process, not {config.process.name!r}")
    if config.distill.steps and config.distill.objective != "path_kl":
        raise ValueError(f"{name}={count} goes with config.distill.objective='path_kl', or config.distill.steps=0")
    if config.data.vocab_size > MAX_VOCAB:
        raise ValueError(f"{name}={count}: a table of {config.data.vocab_size} tokens squared; at most {MAX_VOCAB}")
    if config.teacher.source == "samples" and count > config.teacher.paths:
        raise ValueError(f"{name}={count} is more than config.teacher.paths={config.teacher.paths}")


def check(config: ml_collections.ConfigDict, stage: str, workdir: pathlib.Path) -> None:
    """Every mistake in a config that can be told before long work.

    Raises:
        ValueError, FileNotFoundError: one line naming the field or file.
    """
    process = process_of(config)
    if config.data.name not in loader.DATASETS:
        raise ValueError(f"config.data.name={config.data.name!r}: choose one of {loader.DATASETS}")
    if config.data.name == "text" and config.data.vocab_size != 27:
        raise ValueError(f"config.data.vocab_size={config.data.vocab_size}: text has 27 symbols")
    if config.model.name not in ("ddit", "oracle", "unet"):
        raise ValueError(f"config.model.name={config.model.name!r}: choose 'ddit', 'unet' or 'oracle'")
    check_images(config)
    if config.training.loss == "autoregressive" and stage != "train":
        raise ValueError("config.training.loss='autoregressive' trains a scorer: it goes with --stage=train only")
    network_of(config)
    kernel, coupling = get_kernel(config.student.kernel), coupling_of(config)
    check_kernel(kernel, process)
    coupling.keeps_thresholds(process)
    coupling.check_length(config.data.sequence_length)
    if config.teacher.source not in ("samples", "data"):
        raise ValueError(f"config.teacher.source={config.teacher.source!r}: choose 'samples' or 'data'")
    if stage in ("all", "distill"):
        check_objective(config.distill, process.name, kernel.name, coupling, config.data.sequence_length)
        check_plan(config.student, process.name)
        check_neighbours(config)
        if not config.student.steps:
            raise ValueError("config.student.steps is empty: name at least one step count")
        for steps in config.student.steps:
            settings = config.student
            init_student(settings.kernel, coupling, settings.coefficient, steps, None, settings.temperature)
            if steps > config.teacher.steps:
                raise ValueError(
                    f"config.student.steps={steps} is more than config.teacher.steps={config.teacher.steps}"
                )
    if config.model.name != "oracle" and (config.model.weights or stage not in ("all", "train")):
        backbone_of(config, workdir)
    if config.evaluation.scorer and stage in ("all", "evaluate"):
        weights.load(weights.resolve(config.evaluation.scorer))
    if stage in ("all", "evaluate") and (network := features_of(config)) and config.evaluation.feature_statistics:
        fid.read_statistics(pathlib.Path(config.evaluation.feature_statistics).expanduser(), network.width)
    loader.make_builder(config.data)
