"""The stages train -> distill -> evaluate -> report, and sample and verify; each resumes where it stopped."""

import dataclasses
import json
import pathlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from lsd_jax import agreement, checkpoints, parallel
from lsd_jax.errors import InputError
from lsd_jax.experiment import build, check
from lsd_jax.experiment.lock import locked
from lsd_jax.experiment.records import claim, environment, revision
from lsd_jax.experiment.study import Study
from lsd_jax.experiment.values import check_values
from lsd_jax.files import checked_path, write_whole
from lsd_jax.keys import Stream, named_key, sequence_keys
from lsd_jax.models import weights
from lsd_jax.models.backbones import NETWORKS
from lsd_jax.models.guidance import guided, without
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.continuous import continuous_time_nats
from lsd_jax.samplers.file import load_sampler
from lsd_jax.samplers.kernel import Condition
from lsd_jax.samplers.record import describe, differences
from lsd_jax.samplers.registry import SAMPLERS, get_sampler
from lsd_jax.samplers.sampler import Sampler, check_time, sampler
from lsd_jax.samplers.simulate import draw_and_count
from lsd_jax.tasks.task import Data
from lsd_jax.tasks.tokens import read_tokens
from lsd_jax.training.train import train as train_network

STAGES = ("all", "train", "distill", "evaluate", "report", "verify")


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, stage: str, command: str) -> None:
    """Runs a stage, or all of them.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad input, in one line, before any long work.
    """
    check_values(config)
    _shard_parameters(config)
    provenance = {
        "command": command,
        "revision": revision(),
        "precision": config.model.dtype,
        "environment": environment(),
    }
    study = Study(config, workdir, provenance)
    checkpoints.check_folder("--workdir", workdir)
    agreement.all_or_none(lambda: check.check_study(config, stage, workdir, study.entries))
    if stage == "verify":
        print(verify(config, workdir))
        return
    agreement.from_first(lambda: claim(workdir, json.loads(config.to_json())))
    with locked(workdir):
        _stages(study, stage, provenance)


def _shard_parameters(config: ml_collections.ConfigDict) -> None:
    try:
        parallel.shard_parameters(config.parameter_shards)
    except InputError as error:
        raise InputError(f"config.{error}") from None


def _stages(study: Study, stage: str, provenance: dict[str, Any]) -> None:
    config, workdir = study.config, study.workdir
    if stage == "train" or (stage == "all" and check.trained_here(config)):
        train(config, workdir, {**provenance, "seed": config.seed})
    if stage in ("all", "distill"):
        study.distill()
    if stage in ("all", "evaluate"):
        study.evaluate()
    if stage in ("all", "evaluate", "report") and jax.process_index() == 0:
        print(report(study))


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path, provenance: dict[str, Any]) -> None:
    """Trains the network into the run directory and writes its EMA weights with a card."""
    path = workdir / build.TRAINED
    if agreement.from_first(path.exists):
        logging.info("%s exists: not trained again", path)
        return
    began = time.monotonic()
    task, process, sizes = build.task_of(config, judged=False), build.process_of(config), build.sizes_of(config)
    training = build.training_of(config)
    with check.section("data"):
        batches = task.batches(training.batch_size // jax.process_count(), config.seed)
        validation = task.split("validation")
    with check.section("training"):
        given, digest = build.start_of(config) if config.training.start else (None, "")
        params, result = train_network(training, sizes, process, batches, validation, path.parent, config.seed, given)
    card = {
        "data": config.data.to_dict(),
        "process": {"name": process.name, **describe(process)},
        "training": config.training.to_dict(),
        **({"start_sha256": digest} if digest else {}),
        "hours_of_last_start": round((time.monotonic() - began) / 3600, 2),
        **result,
        **provenance,
    }
    if jax.process_index() == 0:
        weights.save(path, params, sizes, card)
    agreement.barrier("trained")
    logging.info("%s: %.4f +- %.4f bits per token on validation", path, *result.values())


def report(study: Study) -> str:
    """Writes the study's report, and returns the tables for the terminal."""
    # Imported here: a host's settings of matplotlib reach no stage that draws nothing.
    from lsd_jax.experiment.report import page

    config = study.config
    settings = page.ReportSettings(
        ours=config.report.ours,
        figure_samplers=tuple(config.report.figure_samplers),
        frontier_steps=tuple(config.report.frontier_steps),
        frontier_mix=tuple(config.report.frontier_mix),
        frontier_temperatures=tuple(config.report.frontier_temperatures),
    )
    tasks = {entry.name: build.task_of(study.configs[entry.name]) for entry in study.tasks}
    title = f"lsd_jax: {', '.join(dict.fromkeys(task.name for task in tasks.values()))}"
    return page.build(study.workdir, tasks, study.rows(), settings, title)


def verify(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> str:
    """Compares the network's perplexity on known sequences with `config.verify.perplexity`, and says so in one line.

    The perplexity is exp of the continuous-time ELBO in nats per token, which papers report for diffusion models. Sequences come
    from `config.verify.path`, or else are the data's test split.

    Raises:
        ValueError: no sequences, no known perplexity, or the network misses it.
    """
    settings, length = config.verify, config.data.sequence_length
    if not settings.perplexity > 0:
        raise InputError(
            f"config.verify.perplexity={settings.perplexity}: name the perplexity that the weights should have"
        )
    with check.section("verify" if settings.path else "data"):
        data: Data = build.data_of(config)
        rows = read_tokens(settings.path, data) if settings.path else build.task_of(config, judged=False).split("test")
    rows = rows[: settings.sequences]
    if not len(rows):
        raise InputError(
            "config.verify.path='': name a text (with config.data.tokenizer) or a .npy file of tokens to measure on"
        )
    _check_own_network(config, workdir, None)
    with check.section("model"):
        model = build.model_of(config, workdir)
    key = named_key(config.seed, Stream.VERIFY)
    nats = continuous_time_nats(model, key, rows, config.evaluation.batch_size) / length
    found = float(np.exp(nats.mean()))
    error = found * float(nats.std() / np.sqrt(len(nats)))
    measured = f"perplexity {found:.4f} +- {error:.4f} on {len(rows)} sequences of {length} tokens"
    off = found / settings.perplexity - 1
    if not abs(off) <= settings.tolerance:
        raise InputError(
            f"config.model.weights={config.model.weights!r}: {measured}, but {settings.perplexity:g} is known: {off:+.1%}, "
            f"more than config.verify.tolerance={settings.tolerance:g}; another checkpoint, other data, or wrongly read weights"
        )
    return f"verified: {measured}, {off:+.2%} from the known {settings.perplexity:g}"


def sample(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    *,
    student: str = "",
    name: str = "",
    steps: int = 0,
    count: int = 8,
    prompt: str = "",
    guidance: float = 1.0,
    output: str = "",
) -> None:
    """Draws with the config's model, and prints or saves one sequence per line; images also as a PNG.

    Args:
        student: a finished student's file, or empty: then `name`, any kernel or event sampler, in `steps` equal steps (an event
            sampler's budget) at config.student.temperature and top_p.
        count: how many sequences.
        prompt: what every sequence starts with; in text "_" is filled in. Other data needs a tokenizer.
        guidance: strength of a prompt (`guided`); other than 1, an evaluation is two of the network.
        output: a file to write; .png of images.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: no or another student or sampler, a prompt that does not fit, or the
            output exists.
    """
    check_values(config)
    _shard_parameters(config)
    if count < 1:
        raise InputError(f"--num_samples={count}: must be 1 or more")
    if bool(student) == bool(name):
        raise InputError(
            "--stage=sample needs --student=PATH/student.json, or --sampler=NAME --steps=M, one of the two"
        )
    loaded = load_sampler(student) if student else None
    _check_own_network(config, workdir, loaded)
    # Shares of lengths that a file knows need no data set.
    known = describe(loaded.process).get("lengths") if loaded else build.lengths_on_card(config, workdir)
    with check.section("process"):
        process = build.process_of(config, known or ())
    if loaded:
        drawn = _checked(loaded, student, process, config.data.sequence_length)
    else:
        drawn = _by_name(config, process, name, steps)
    target = checked_path("--output", output) if output else None
    if target and target.exists():
        raise FileExistsError(f"--output={output!r} exists; choose another name")
    with check.section("data"):
        task = build.task_of(config, judged=False)
    if guidance != 1 and not prompt:
        raise InputError(f"--guidance={guidance:g}: says how much a prompt counts; give --prompt too")
    try:
        condition = task.condition(prompt, count) if prompt else None
    except InputError as error:
        raise InputError(f"--{error}") from None
    with check.section("model"):
        model = build.model_of(config, workdir, task, process)
        check.check_tokens(config, workdir, task)
    check_time(drawn.kernel, model.time_conditioned)
    if student and drawn.facts["backbone"]["sha256"] != model.identity.sha256:
        logging.warning("the student was distilled from another network: %s", drawn.facts["backbone"])
    if condition is not None and guidance != 1:
        model = _guided(model, condition, guidance)
    drawn = drawn.bound_to(model, task.length)
    batch = min(count, config.evaluation.batch_size)
    keys = sequence_keys(named_key(config.seed, Stream.SAMPLE), count)
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
    tokens, calls = draw_and_count(model, drawn, keys, batch, condition)
    evaluations = calls.mean() * (1 if guidance == 1 else 2)
    text = "\n".join(map(task.decode, tokens))
    images = task.images(tokens) if target and target.suffix == ".png" else None
    if images is not None:
        from lsd_jax.experiment.report import figures

        figures.save(figures.image_rows({f"NFE {evaluations:g}": images}), target.parent, target.stem)
    elif target:
        write_whole(target, text + "\n")
    else:
        print(text)
    logging.info("%d samples, %g network evaluations each", count, evaluations)
    if said := task.remark(tokens):
        logging.info("%s", said)


def _check_own_network(config: ml_collections.ConfigDict, workdir: pathlib.Path, student: Sampler | None) -> None:
    """Raises ValueError where the run directory holds a network of its own, the config names another, and nothing tells which is meant."""
    own = workdir / build.TRAINED
    if config.model.name not in NETWORKS or not config.model.weights or not own.exists():
        return
    named = build.weights_path(config, workdir)
    is_scorer = weights.card(own).get("training", {}).get("loss") == "autoregressive"
    of_named = student and named.exists() and student.facts["backbone"]["sha256"] == weights.sha256(named)
    if not (is_scorer or of_named or named.absolute() == own.absolute()):
        raise InputError(
            f"config.model.weights={config.model.weights!r}: {str(workdir)!r} holds a network that was trained there. To use "
            "it, repeat the flags it was trained with, --config.model.weights= among them; to use the named one, choose another --workdir"
        )


def _guided(model: Diffusion, condition: Condition, strength: float) -> Diffusion:
    """The model to which all that a condition gives, but for pads, counts by a strength."""
    try:
        pads = condition.tokens_BL == getattr(model.process, "pad", None)
        return guided(model, without(model, np.flatnonzero((condition.fixed_BL & ~pads).any(0))), strength)
    except InputError as error:
        raise InputError(f"--guidance={strength:g}: {error}") from None


def _checked(drawn: Sampler, student: str, process: Process, length: int) -> Sampler:
    """The sampler of a file, whose process and length must be the config's."""
    if drawn.length != length:
        raise InputError(f"--student={student!r}: has sequence_length={drawn.length}, this config {length}")
    for field, theirs, value in differences(drawn.process, process):
        raise InputError(f"--student={student!r}: has {field}={theirs}, this config {value}")
    return drawn


def _by_name(config: ml_collections.ConfigDict, process: Process, name: str, steps: int) -> Sampler:
    """A sampler by name, its draws independent, on equal steps."""
    if name not in SAMPLERS:
        raise InputError(f"--sampler={name!r}: choose one of {sorted(SAMPLERS)}")
    if process.name not in (known := get_sampler(name).processes):
        raise InputError(f"--sampler={name!r} is defined for {known}, not for {process.name!r}")
    if steps < 1:
        raise InputError(f"--sampler={name!r} needs --steps=M, one or more")
    with check.section("student"):
        student = config.student
        chosen = {"temperature": student.temperature, "top_p": student.top_p, "threshold": student.threshold or None}
        found = sampler(name, steps, **chosen)
    return dataclasses.replace(found, length=config.data.sequence_length)
