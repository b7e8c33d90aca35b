"""Every mistake in a config that can be told before long work, each in one line that names the config's field."""

import contextlib
import pathlib
import re
from collections.abc import Iterator

import jax
import ml_collections

from lsd_jax.distill import check as distillation
from lsd_jax.distill.objectives.registry import check_objective
from lsd_jax.distill.optimize import check_sizes
from lsd_jax.experiment import build
from lsd_jax.models.backbones import NETWORKS, PUBLISHED
from lsd_jax.models.ddit import DTYPES
from lsd_jax.processes.process import Process
from lsd_jax.samplers.registry import KERNELS, get_kernel
from lsd_jax.samplers.sampler import check_time
from lsd_jax.tasks.task import Task

_PARAMETER = re.compile(r"[A-Za-z_][\w.]*=")


@contextlib.contextmanager
def section(name: str) -> Iterator[None]:
    """Adds a config's section to errors of the library, which begin with the parameter: "grid='x': ..."."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        if not _PARAMETER.match(message) or message.startswith("config."):
            raise
        raise type(error)(f"config.{name}.{message}") from None


def check(config: ml_collections.ConfigDict, stage: str, workdir: pathlib.Path) -> None:
    """Checks a config of one task and one student for a stage.

    Raises:
        ValueError, FileNotFoundError: one line naming the field or file.
    """
    if config.seed < 0:
        raise ValueError(f"config.seed={config.seed}: must be 0 or more")
    with section("process"):
        process = build.process_of(config)
    task = _check_task(config, stage, process)
    _check_model(config, stage, process, workdir, task)
    if stage in ("all", "train"):
        _check_training(config, stage, process)
    _check_student(config, process)
    if stage in ("all", "distill", "evaluate"):
        check_distillation(config, process, task)


def _check_task(config: ml_collections.ConfigDict, stage: str, process: Process) -> Task:
    with section("data"):
        task = build.task_of(config, judged=False)
        if config.data.sequence_length < 1:
            raise ValueError(f"sequence_length={config.data.sequence_length}: must be 1 or more")
        task.prepare()
    if stage in ("all", "evaluate"):
        with section("evaluation"):
            for field, least in (("num_samples", 1), ("batch_size", 1), ("held_out", 0), ("resamples", 0)):
                if config.evaluation[field] < least:
                    raise ValueError(f"{field}={config.evaluation[field]}: must be {least} or more")
            for temperature in config.evaluation.temperatures:
                if not temperature > 0:
                    raise ValueError(f"temperatures={config.evaluation.temperatures}: each must be positive")
            if config.evaluation.batch_size % jax.device_count():
                raise ValueError(
                    f"batch_size={config.evaluation.batch_size}: is not divisible by {jax.device_count()} devices"
                )
            build.task_of(config)
    if process.ordered and not task.shape:
        raise ValueError(f"config.process.name='gaussian': is for ordered values, not for {config.data.name!r}")
    return task


def _check_model(
    config: ml_collections.ConfigDict, stage: str, process: Process, workdir: pathlib.Path, task: Task
) -> None:
    name = config.model.name
    if name not in (names := (*NETWORKS, *PUBLISHED, "oracle")):
        raise ValueError(f"config.model.name={name!r}: choose one of {names}")
    if config.model.dtype not in DTYPES:
        raise ValueError(f"config.model.dtype={config.model.dtype!r}: choose one of {DTYPES}")
    if name == "unet" and not task.shape:
        raise ValueError(f"config.model.name='unet': is for images; config.data.name is {config.data.name!r}")
    with section("model"):
        if trained_here(config) and stage in ("all", "train"):
            build.sizes_of(config)
            time_conditioned = config.model.time_conditioned or name == "unet"
        else:
            time_conditioned = build.model_of(config, workdir, task).time_conditioned
    with section("student"):
        check_time(get_kernel(config.student.kernel), time_conditioned)


def trained_here(config: ml_collections.ConfigDict) -> bool:
    """Whether the network is trained by this run, since the config names no weights."""
    return config.model.name in NETWORKS and not config.model.weights


def _check_training(config: ml_collections.ConfigDict, stage: str, process: Process) -> None:
    if config.training.loss == "autoregressive" and stage != "train":
        raise ValueError("config.training.loss='autoregressive': trains a scorer; it goes with --stage=train only")
    if process.ordered and config.training.loss != "denoising":
        raise ValueError(f"config.training.loss={config.training.loss!r}: the gaussian process trains by 'denoising'")


def _check_student(config: ml_collections.ConfigDict, process: Process) -> None:
    with section("student"):
        distillation.check_student(process, config.data.sequence_length, build.student_of(config))


def check_distillation(config: ml_collections.ConfigDict, process: Process, task: Task) -> None:
    """Checks what a distillation reads: student, teacher, objective and their sizes."""
    with section("student"):
        student = build.student_of(config)
    teacher, optimization = build.teacher_of(config), build.optimization_of(config)
    with section("teacher"):
        rows = None
        if teacher.source == "data":
            rows = len(task.split("train"))
        distillation.check_teacher(teacher, rows)
    with section("student"):
        distillation.check_steps(tuple(config.student.steps), student, teacher)
        distillation.check_potentials(process, student, teacher, optimization, rows)
    with section("distill"):
        check_objective(optimization, process, get_kernel(student.kernel), student.coupling)
        check_sizes(optimization, teacher.paths, jax.device_count())


def check_study(config: ml_collections.ConfigDict, stage: str, workdir: pathlib.Path, entries: dict) -> None:
    """Checks every task with every sampler that is a student of it.

    Args:
        entries: (task, sampler) -> its config, and whether it is distilled.
    """
    if config.nfe and min(config.nfe) < 1:
        raise ValueError(f"config.nfe={config.nfe}: each number of network evaluations must be 1 or more")
    seen = set()
    for (task, _), (own, distilled) in entries.items():
        if own.student.kernel not in KERNELS:
            continue
        if task not in seen:
            check(own, stage, workdir)
            seen.add(task)
            continue
        with section("process"):
            process = build.process_of(own)
        _check_student(own, process)
        if own.student.steps and min(own.student.steps) < 1:
            raise ValueError(f"config.student.steps={own.student.steps}: each must be 1 or more")
        if distilled:
            check_distillation(own, process, build.task_of(own, judged=False))
