"""The stage `sample`: sequences from a finished student or any registered sampler, free or around given characters."""

import pathlib
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from lsd_jax import experiment, parallel
from lsd_jax.data import alphabet
from lsd_jax.data.decode import decoder
from lsd_jax.data.images import to_image
from lsd_jax.distill import artefact
from lsd_jax.evaluation import Sampler, draw_and_count
from lsd_jax.processes.score import Process
from lsd_jax.report import figures
from lsd_jax.samplers import get_kernel, get_sampler
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.simulate import Condition, uniform_schedule


def sample(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    student: str,
    count: int,
    output: str,
    prompt: str = "",
    sampler: str = "",
    steps: int = 0,
) -> None:
    """Draws with the config's backbone, and prints or saves one sequence a line; images also as a PNG.

    Args:
        student: a finished student's file, or empty: then `sampler`, any kernel or event sampler by name, in `steps` equal
            steps (an event sampler's budget) at config.student.temperature and top_p.
        prompt: characters that every sequence starts with; "_" is filled in. Text only.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: no or another student or sampler, a prompt that does not fit, or the
            output exists.
    """
    if bool(student) == bool(sampler):
        raise ValueError(
            "--stage=sample needs --student=PATH/student.json, or --sampler=NAME --steps=M, one of the two"
        )
    process = experiment.process_of(config)
    record = artefact.read(pathlib.Path(student).expanduser()) if student else None
    for field, value in artefact.describe(process).items() if record else ():
        if record[field] != value:
            raise ValueError(f"student {student!r} has {field}={record[field]!r}, this config {value!r}")
    drawn = _recorded(process, record) if record else _registered(config, process, sampler, steps)
    target = pathlib.Path(output).expanduser() if output else None
    if target and target.exists():
        raise FileExistsError(f"--output={output!r} exists; choose another name")
    condition = prompt_condition(config, prompt, count, drawn.length) if prompt else None
    backbone = experiment.backbone_of(config, workdir)
    experiment.check_time(drawn.kernel.name, backbone.time_conditioned)
    if record and record["backbone"]["sha256"] != backbone.identity["sha256"]:
        logging.warning("the student was distilled from another backbone: %s", record["backbone"])
    key = jax.random.fold_in(jax.random.key(config.seed), 5)
    devices = parallel.data_mesh().size
    batch = min(-(-count // devices) * devices, config.evaluation.batch_size)
    tokens, calls = draw_and_count(backbone.model, drawn, sequence_keys(key, count), batch, condition)
    text = "\n".join(map(decoder(config.data), tokens))
    if target and target.suffix == ".png" and config.data.shape:
        target.parent.mkdir(parents=True, exist_ok=True)
        shown = to_image(tokens, tuple(config.data.shape), config.data.vocab_size)
        figures.image_rows({f"NFE {calls.mean():g}": shown}).savefig(target, dpi=130)
    elif target:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")
    else:
        print(text)
    logging.info("%d samples, %g network evaluations each", count, calls.mean())


def _recorded(process: Process, record: dict[str, Any]) -> Sampler:
    """The sampler of a student's record."""
    schedule, coupling = artefact.schedule_of(record)
    return Sampler(process, get_kernel(record["kernel"]), coupling, schedule, record["sequence_length"])


def _registered(config: ml_collections.ConfigDict, process: Process, name: str, steps: int) -> Sampler:
    """A sampler by name, its draws independent, on equal steps."""
    found = get_sampler(name)
    if process.name not in found.processes:
        raise ValueError(f"--sampler={name!r} is defined for {found.processes}, not for {process.name!r}")
    if steps < 1:
        raise ValueError(f"--sampler={name!r} needs --steps=M, one or more")
    schedule = uniform_schedule(steps, config.student.temperature, config.student.top_p)
    return Sampler(process, found, Coupling("iid"), schedule, config.data.sequence_length)


def prompt_condition(config: ml_collections.ConfigDict, prompt: str, count: int, length: int) -> Condition:
    """`count` rows (n, L) that hold the prompt's characters where it is not "_".

    Raises:
        ValueError: no text, a symbol outside the alphabet, or a prompt longer than the sequence.
    """
    if config.data.name not in alphabet.DATASETS:
        raise ValueError(
            f"--prompt needs characters: config.data.name={config.data.name!r} is none of {alphabet.DATASETS}"
        )
    if len(prompt) > length:
        raise ValueError(f"--prompt has {len(prompt)} characters, a sequence {length}")
    if wrong := sorted(set(prompt) - set(alphabet.SYMBOLS + "_")):
        raise ValueError(
            f"--prompt holds {''.join(wrong)!r}: it may hold {alphabet.SYMBOLS!r} and '_' for what is unknown"
        )
    padded = prompt.ljust(length, "_")
    fixed = np.array([symbol != "_" for symbol in padded])
    tokens = alphabet.encode(padded.replace("_", " ")).astype(np.int32)
    return Condition(np.tile(tokens, (count, 1)), np.tile(fixed, (count, 1)))
