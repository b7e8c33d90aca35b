"""From a config to the nouns of the library, once. Nothing below this package sees a config."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import ml_collections
from absl import logging

from lsd_jax.distill.settings import AlignmentSettings, OptimizeSettings, StudentSettings, TeacherSettings
from lsd_jax.errors import InputError
from lsd_jax.models import weights
from lsd_jax.models.backbones import NETWORKS, ModelSettings, Sizes, UNetSettings, network_sizes
from lsd_jax.models.ddit import DDiTConfig
from lsd_jax.models.load import load_model
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import Process, make_process
from lsd_jax.processes.uniform import Uniform
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.tasks.registry import TASKS, make_task, padded
from lsd_jax.tasks.task import Data, Judge, Task
from lsd_jax.training import start
from lsd_jax.training.train import TrainingSettings

TRAINED = "train/weights.safetensors"  # below the run directory

Settings = TypeVar("Settings")


def _filled(settings: type[Settings], section: ml_collections.ConfigDict, **nested: Any) -> Settings:
    """The settings from the fields of a config's section that have their names."""
    names = {field.name for field in dataclasses.fields(settings)} - set(nested)
    values = {name: section[name] for name in names if name in section}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return settings(**values, **nested)


def data_of(config: ml_collections.ConfigDict) -> Data:
    """Which data."""
    return _filled(Data, config.data)


def judge_of(config: ml_collections.ConfigDict) -> Judge:
    """The networks that samples are judged by."""
    return _filled(Judge, config.evaluation)


def task_of(config: ml_collections.ConfigDict, judged: bool = True) -> Task:
    """The task, with its judges or without."""
    return make_task(data_of(config), judge_of(config) if judged else None)


def process_of(config: ml_collections.ConfigDict, lengths: Sequence[float] = ()) -> Process:
    """The noising process.

    Where sequences have lengths of their own, the absorbing process draws the length first; under uniform noise the pad is a token
    as any other.

    Args:
        lengths: the shares of lengths, where they are known already; else the training split is counted.
    """
    noise, settings = config.process.noise.to_dict(), {}
    if padded(data_of(config)) and config.process.name != Uniform.name:
        if config.process.name != Absorbing.name:
            raise InputError(
                f"name={config.process.name!r}: sequences of {config.data.name} have lengths of their own, which only the absorbing "
                "and the uniform process have"
            )
        settings = {"lengths": tuple(lengths) or task_of(config, judged=False).lengths}
    elif config.process.name == "gaussian":
        settings = {"rate_sigma": config.process.rate_sigma, "q_sigma": config.process.q_sigma}
    return make_process(config.process.name, config.data.vocab_size, make_noise(noise.pop("name"), **noise), **settings)


def student_of(config: ml_collections.ConfigDict) -> StudentSettings:
    """What students start from."""
    return _filled(StudentSettings, config.student, coupling=Coupling(**config.student.coupling))


def teacher_of(config: ml_collections.ConfigDict) -> TeacherSettings:
    """The many-step teacher."""
    return _filled(TeacherSettings, config.teacher)


def optimization_of(config: ml_collections.ConfigDict) -> OptimizeSettings:
    """The gradient descent on step parameters."""
    return _filled(OptimizeSettings, config.distill, alignment=_filled(AlignmentSettings, config.distill.alignment))


def model_settings(config: ml_collections.ConfigDict) -> ModelSettings:
    """The network's settings."""
    return _filled(ModelSettings, config.model, unet=_filled(UNetSettings, config.model.unet))


def training_of(config: ml_collections.ConfigDict) -> TrainingSettings:
    """How a network is trained."""
    return _filled(TrainingSettings, config.training)


def sizes_of(config: ml_collections.ConfigDict) -> Sizes:
    """The sizes of the network to train."""
    causal = config.training.loss == "autoregressive"
    sizes = network_sizes(model_settings(config), config.data.vocab_size, tuple(config.data.shape), causal)
    labels = len(TASKS[config.data.name].labels) if config.data.name in TASKS else 0
    if not labels or config.training.loss == "score_entropy" or not isinstance(sizes, DDiTConfig):
        return sizes  # a score is not zero where data have no label: uniform noise puts them everywhere
    return dataclasses.replace(sizes, labels=labels)


def trained_on(card: Mapping[str, Any]) -> Task:
    """The data that a network's card says it was trained on.

    Raises:
        ValueError: it says nothing, or what it says cannot be read here.
    """
    fields = {field.name for field in dataclasses.fields(Data)}
    held = {name: value for name, value in card.get("data", {}).items() if name in fields}
    if not held:
        raise InputError("its card does not say which data it was trained on")
    try:
        return make_task(Data(**held))
    except (ValueError, OSError) as error:
        raise InputError(f"the data on its card cannot be read: {error}") from None


def start_of(config: ml_collections.ConfigDict) -> tuple[Any, str]:
    """The parameters that training starts from, and the SHA-256 of their file.

    Tokens are those of the data on the file's card, by their names.

    Raises:
        ValueError, FileNotFoundError: no such file, or a network that does not fit; the message begins with "start=".
    """
    named = f"start={config.training.start!r}"
    path = weights.resolve(config.training.start)
    known, params, card = weights.load(path, "start")
    try:
        old = trained_on(card)
        names = task_of(config, judged=False).token_names
        place = start.places(names, old.token_names)
        fresh = [name for name, index in zip(names, place) if index < 0]
        logging.info(
            "%s: knows %d of %d tokens; new are %s", named, len(names) - len(fresh), len(names), fresh or "none"
        )
        return start.grown(params, known, sizes_of(config), place), weights.sha256(path)
    except InputError as error:
        raise InputError(f"{named}: {error}") from None


def model_of(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, task: Task | None = None, process: Process | None = None
) -> Diffusion:
    """The frozen diffusion model: loaded and checked, trained below the run directory, or the task's exact denoiser.

    Args:
        process: its noising process, where it is known already.

    Raises:
        ValueError, FileNotFoundError: weights missing, broken, or for another vocabulary or process.
    """
    process, settings = process or process_of(config), model_settings(config)
    if settings.name == "oracle":
        return (task or task_of(config, judged=False)).oracle(process)
    source = settings.weights
    if not source and settings.name in NETWORKS:
        source = weights_path(config, workdir)
        if not source.exists():
            raise FileNotFoundError(
                f"weights='': {str(workdir)!r} holds no trained network yet; run --stage=train first, or --stage=all"
            )
    return load_model(
        settings.name,
        source,
        process,
        dtype=settings.dtype,
        output=settings.output,
        shape=tuple(config.data.shape),
        fix_logistic=settings.unet.fix_logistic,
    )


def weights_path(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """The file of the network's weights: named by the config, or trained into the run directory."""
    return weights.resolve(config.model.weights) if config.model.weights else workdir / TRAINED


def lengths_on_card(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> tuple[float, ...]:
    """The shares of lengths on the card of a network of our own that was trained on the config's data; () elsewhere."""
    if config.model.name not in NETWORKS:
        return ()
    card = weights.card(weights_path(config, workdir))
    data = card.get("data", {})
    if any(data.get(field) != config.data[field] for field in ("name", "path", "sequence_length", "vocab_size")):
        return ()
    return tuple(card.get("process", {}).get("lengths", ()))
