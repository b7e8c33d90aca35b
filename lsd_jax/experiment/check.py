"""Every mistake in a config that can be told before long work, each in one line that names the config's field."""

import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping

import jax
import ml_collections

from lsd_jax.distill import check as distillation
from lsd_jax.distill.objectives.registry import check_objective
from lsd_jax.distill.optimize import check_sizes
from lsd_jax.errors import InputError
from lsd_jax.experiment import build
from lsd_jax.experiment.entries import find_kernel
from lsd_jax.models import weights
from lsd_jax.models.backbones import NETWORKS, PUBLISHED
from lsd_jax.models.ddit import DTYPES
from lsd_jax.models.model import OUTPUTS
from lsd_jax.processes.process import Process
from lsd_jax.samplers.registry import EVENT_SAMPLERS, get_kernel
from lsd_jax.samplers.sampler import check_sharpness, check_threshold, check_time
from lsd_jax.tasks.task import Task
from lsd_jax.training.train import LOSSES

Entries = Mapping[tuple[str, str], tuple[ml_collections.ConfigDict, bool]]  # (task, sampler) -> config, distilled
# A section's check may be about another one's field.
_ELSEWHERE = {
    ("distill", "kernel"): "student",
    ("distill", "coupling.name"): "student",
    ("process", "vocab_size"): "data",
    ("process", "path"): "data",
    ("process", "sequence_length"): "data",
    ("model", "sequence_length"): "data",
}
_PARAMETER = re.compile(r"[A-Za-z_][\w.]*=")


@contextlib.contextmanager
def section(name: str) -> Iterator[None]:
    """Adds a config's section to errors of the library, which begin with the parameter: "grid='x': ..."."""
    try:
        yield
    except (InputError, FileNotFoundError) as error:
        message = str(error)
        if not _PARAMETER.match(message) or message.startswith("config."):
            raise
        owner = _ELSEWHERE.get((name, message.partition("=")[0]), name)
        raise type(error)(f"config.{owner}.{message}") from None


def check(config: ml_collections.ConfigDict, stage: str, workdir: pathlib.Path, distilled: bool = True) -> bool:
    """Checks a config of one task and one student for a stage.

    Args:
        distilled: whether the student is distilled; a plain sampler reads no teacher.

    Returns:
        Whether the network reads the time.

    Raises:
        ValueError, FileNotFoundError: one line naming the field or file.
    """
    _check_length(config, workdir)
    with section("process"):
        process = build.process_of(config)
    task = _check_task(config, stage, process)
    time_conditioned = _check_model(config, stage, process, workdir, task)
    if stage in ("all", "train"):
        _check_training(config, stage, process, workdir)
    _check_student(config, process, time_conditioned)
    if distilled and stage in ("all", "distill", "evaluate"):
        check_distillation(config, process, task)
    return time_conditioned


def _check_length(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Raises ValueError where a network that counts pads is for another length, before a data set of that length is made."""
    if config.model.name not in NETWORKS:
        return
    known = len(weights.card(build.weights_path(config, workdir)).get("process", {}).get("lengths", ())) - 1
    if known > 0 and known != config.data.sequence_length:
        raise InputError(
            f"config.data.sequence_length={config.data.sequence_length}: weights={config.model.weights!r} are for {known} tokens, pads "
            "included"
        )


def _check_task(config: ml_collections.ConfigDict, stage: str, process: Process) -> Task:
    with section("data"):
        task = build.task_of(config, judged=False)
        task.prepare()
    if stage in ("all", "evaluate"):
        with section("evaluation"):
            build.task_of(config)
    if process.ordered and not task.shape:
        raise InputError(f"config.process.name='gaussian': is for ordered values, not for {config.data.name!r}")
    return task


def _check_model(
    config: ml_collections.ConfigDict, stage: str, process: Process, workdir: pathlib.Path, task: Task
) -> bool:
    """Checks the network; returns whether it reads the time."""
    name = config.model.name
    if name not in (names := (*NETWORKS, *PUBLISHED, "oracle")):
        raise InputError(f"config.model.name={name!r}: choose one of {names}")
    if config.model.output not in ("", *OUTPUTS):
        raise InputError(f"config.model.output={config.model.output!r}: choose one of {OUTPUTS}, or leave it empty")
    if config.model.dtype not in DTYPES:
        raise InputError(f"config.model.dtype={config.model.dtype!r}: choose one of {DTYPES}")
    if name == "unet" and not task.shape:
        raise InputError(f"config.model.name='unet': is for images; config.data.name is {config.data.name!r}")
    if name in PUBLISHED and process.name not in PUBLISHED[name].processes:
        known = PUBLISHED[name].processes
        raise InputError(f"config.process.name={process.name!r}: {name.upper()} networks know {known}")
    if name == "oracle":
        if config.model.weights:
            raise InputError(
                f"config.model.weights={config.model.weights!r}: the exact denoiser has none; leave it empty"
            )
        with section("data"):
            return task.oracle(process).time_conditioned
    with section("model"):
        if trained_here(config) and stage in ("all", "train"):
            build.sizes_of(config)
            return config.model.time_conditioned or name == "unet"
        time_conditioned = build.model_of(config, workdir, task).time_conditioned
        check_tokens(config, workdir, task)
        return time_conditioned


def check_tokens(config: ml_collections.ConfigDict, workdir: pathlib.Path, task: Task) -> None:
    """Raises ValueError where a network knows as many tokens as the data has, but others."""
    if config.model.name not in NETWORKS:
        return
    try:
        known = build.trained_on(weights.card(build.weights_path(config, workdir))).token_names
    except InputError:
        return  # of other data that is not here, nothing can be told
    if wrong := [pair for pair in zip(known, task.token_names) if pair[0] != pair[1]]:
        raise InputError(
            f"weights={config.model.weights!r}: knows other tokens than the data has; the first is {wrong[0][0]!r}, in the data "
            f"{wrong[0][1]!r}. Take the network's own vocabulary, or --config.model.weights= to train another"
        )


def trained_here(config: ml_collections.ConfigDict) -> bool:
    """Whether the network is trained by this run, since the config names no weights."""
    return config.model.name in NETWORKS and not config.model.weights


def _check_training(config: ml_collections.ConfigDict, stage: str, process: Process, workdir: pathlib.Path) -> None:
    training, devices = config.training, jax.device_count()
    if training.loss not in LOSSES:
        raise InputError(f"config.training.loss={training.loss!r}: choose one of {LOSSES}")
    if (stage == "train" or trained_here(config)) and training.batch_size % (devices * max(training.microbatch, 1)):
        raise InputError(
            f"config.training.batch_size={training.batch_size}: must be a multiple of {devices} devices times "
            f"microbatch={training.microbatch}"
        )
    if start := config.training.start:
        if stage != "train" and not trained_here(config):
            raise InputError(
                f"config.training.start={start!r}: no network is trained, since config.model.weights names one; leave one of them empty"
            )
        if not (workdir / build.TRAINED).exists():
            with section("training"):
                build.start_of(config)
    if config.training.loss == "autoregressive" and stage != "train":
        raise InputError("config.training.loss='autoregressive': trains a scorer; it goes with --stage=train only")
    if process.ordered and config.training.loss != "denoising":
        raise InputError(f"config.training.loss={config.training.loss!r}: the gaussian process trains by 'denoising'")


def _check_student(config: ml_collections.ConfigDict, process: Process, time_conditioned: bool) -> None:
    with section("student"):
        student = build.student_of(config)
        if config.student.threshold:
            check_threshold(find_kernel(student.kernel), config.student.threshold)
        if student.kernel in EVENT_SAMPLERS:
            check_sharpness(student.temperature, student.top_p)
            return
        distillation.check_student(process, config.data.sequence_length, student)
        check_time(get_kernel(student.kernel), time_conditioned)


def check_distillation(config: ml_collections.ConfigDict, process: Process, task: Task) -> None:
    """Checks what a distillation reads: student, teacher, objective and their sizes."""
    student, teacher, optimization = build.student_of(config), build.teacher_of(config), build.optimization_of(config)
    rows = None
    if teacher.source == "data":
        with section("data"):
            rows = len(task.split("train"))
    with section("teacher"):
        distillation.check_teacher(teacher, rows)
    with section("student"):
        distillation.check_steps(tuple(config.student.steps), student, teacher)
        distillation.check_potentials(process, student, teacher, optimization, rows)
    with section("distill"):
        check_objective(optimization, process, get_kernel(student.kernel), student.coupling)
        check_sizes(optimization, teacher.paths, jax.device_count())


def check_study(config: ml_collections.ConfigDict, stage: str, workdir: pathlib.Path, entries: Entries) -> None:
    """Checks every task with every sampler of a study.

    Args:
        entries: (task, sampler) -> its config, and whether it is distilled.
    """
    if len(config.tasks) > 1 and any(trained_here(own) for own, _ in entries.values()):
        raise InputError("config.model.weights='': a study of several tasks trains no network; name weights for each")
    tasks: dict[str, tuple[bool, Process, Task]] = {}
    for (name, _), (own, distilled) in entries.items():
        if name not in tasks:
            time_conditioned = check(own, stage, workdir, distilled)
            tasks[name] = time_conditioned, build.process_of(own), build.task_of(own, judged=False)
            continue
        time_conditioned, process, task = tasks[name]
        _check_student(own, process, time_conditioned)
        if distilled and stage in ("all", "distill", "evaluate"):
            check_distillation(own, process, task)
