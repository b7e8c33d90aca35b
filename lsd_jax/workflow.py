"""The stages train -> distill -> evaluate -> report; each resumes where it stopped and never writes over a result."""

import dataclasses
import functools
import json
import pathlib
import subprocess
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from lsd_jax import cells, experiment
from lsd_jax.data import loader
from lsd_jax.distill import artefact, loop
from lsd_jax.distill.neighbours import with_neighbours
from lsd_jax.distill.plan import make_plans
from lsd_jax.distill.redraws import denoising_cost, with_redraws
from lsd_jax.distill.student import Student, init_student
from lsd_jax.distill.teacher import TeacherPaths, bridged_teacher, cached_teacher, sample_teacher
from lsd_jax.models import weights
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.report import build
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import sequence_keys
from lsd_jax.sampling import sample
from lsd_jax.training.train import train as train_network
from lsd_jax.verify import verify

__all__ = ["run", "sample"]

STAGES = ("all", "train", "distill", "evaluate", "report", "verify")


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, stage: str, command: str) -> None:
    """Runs a stage, or all of them.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad input, in one line, before any long work.
    """
    provenance = {"command": command, "seed": config.seed, "revision": revision(), "precision": config.model.dtype}
    if config.variants:
        from lsd_jax import ablation  # which runs this module's stages

        for entry in config.variants:
            experiment.check(ablation.resolve(config, entry, config.seeds[0]), stage, workdir)
        claim(config, workdir)
        print(ablation.run(config, workdir, stage, provenance))
        return
    if config.tasks:
        from lsd_jax import benchmark  # likewise

        benchmark.check(config, workdir)
        claim(config, workdir)
        print(benchmark.run(config, workdir, stage, provenance))
        return
    experiment.check(config, stage, workdir)
    if stage == "verify":
        print(verify(config, workdir))
        return
    claim(config, workdir)
    if stage == "train" or (stage == "all" and config.model.name in experiment.TRAINABLE and not config.model.weights):
        train(config, workdir, provenance)
    if stage in ("all", "distill"):
        distill(config, workdir, provenance)
    if stage in ("all", "evaluate"):
        cells.evaluate(config, workdir, provenance)
    if stage in ("all", "evaluate", "report") and jax.process_index() == 0:
        print(build.build_report(config, workdir))


def claim(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Binds a run directory to its config, so that no other experiment resumes from it or writes over it.

    Raises:
        FileExistsError: the directory holds a run with another config, or files that are no run.
    """
    if jax.process_index() > 0:
        return
    record = workdir / "config.json"
    wanted = json.loads(config.to_json())
    if record.exists():
        changed = sorted(_differences(json.loads(record.read_text()), wanted))
        if changed:
            raise FileExistsError(
                f"{str(workdir)!r} holds a run with other values of {', '.join(changed[:5])}; "
                "choose another --workdir, or delete that one"
            )
    elif workdir.exists() and any(workdir.iterdir()):
        raise FileExistsError(f"{str(workdir)!r} is not empty and holds no run; choose another --workdir")
    else:
        workdir.mkdir(parents=True, exist_ok=True)
        artefact.write(record, wanted)


def _differences(old: Any, new: Any, prefix: str = "config") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in old.keys() | new.keys():
            found += _differences(old.get(name), new.get(name), f"{prefix}.{name}")
        return found
    return [] if old == new else [prefix]


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path, provenance: dict[str, Any]) -> None:
    """Trains the network into the run directory and writes its EMA weights with a card."""
    path = workdir / experiment.TRAINED
    if path.exists():
        logging.info("%s exists: not trained again", path)
        return
    began = time.monotonic()
    sizes, process = experiment.network_of(config), experiment.process_of(config)
    params, result = train_network(config.data, config.training, sizes, process, path.parent, config.seed)
    card = {
        "data": config.data.to_dict(),
        "process": {**artefact.describe(process), "name": process.name, **dataclasses.asdict(process.noise)},
        "training": config.training.to_dict(),
        "hours_of_last_start": round((time.monotonic() - began) / 3600, 2),
        **result,
        **provenance,
    }
    if jax.process_index() == 0:
        weights.save(path, params, sizes, card)
    logging.info("%s: %.4f +- %.4f bits a token on validation", path, *result.values())


def teacher_paths(config: ml_collections.ConfigDict, folder: pathlib.Path, backbone) -> TeacherPaths:
    """The teacher's paths under the students' coupling, from the cache in `folder` or drawn."""
    process, coupling = experiment.process_of(config), experiment.coupling_of(config)
    recipe = {
        "process": config.process.to_dict(),
        "backbone": backbone.identity,
        "kernel": config.student.kernel,
        "coupling": dataclasses.asdict(coupling),
        "teacher": {name: config.teacher[name] for name in ("source", "steps", "paths")},
        "data": config.data.to_dict(),
        "length": config.data.sequence_length,
        "seed": config.seed,
    }
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    kernel = get_kernel(config.student.kernel).stand_in

    def from_data() -> TeacherPaths:
        rows = loader.load_split(config.data, "train")
        chosen = np.random.default_rng([config.seed, 1]).choice(len(rows), config.teacher.paths, replace=False)
        return bridged_teacher(key, process, coupling, config.teacher.steps, rows[chosen])

    draw = functools.partial(
        sample_teacher,
        key,
        process,
        kernel,
        backbone.model,
        coupling,
        config.teacher.steps,
        config.teacher.paths,
        config.data.sequence_length,
    )
    draw = from_data if config.teacher.source == "data" else draw
    return cached_teacher(folder, recipe, draw, config.teacher.cache)


def neighbour_sequences(config: ml_collections.ConfigDict, paths: TeacherPaths) -> tuple[np.ndarray, jax.Array]:
    """Sequences (P, L) and keys that potentials are fitted on: training data, or what the teacher drew."""
    key, count = jax.random.fold_in(jax.random.key(config.seed), 8), config.student.neighbours
    if config.teacher.source == "samples":
        return paths.tokens[:count].astype(np.int32), sequence_keys(key, count)
    rows = loader.load_split(config.data, "train")
    if count > len(rows):
        raise ValueError(f"config.student.neighbours={count} is more than the {len(rows)} training sequences")
    chosen = np.random.default_rng([config.seed, 8]).choice(len(rows), count, replace=False)
    return rows[chosen].astype(np.int32), sequence_keys(key, count)


def distill(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    provenance: dict[str, Any],
    teacher_folder: pathlib.Path | None = None,
) -> None:
    """One student for every M: order and grid from cost tables, then its numbers polished by gradients."""
    todo = [steps for steps in config.student.steps if not student_path(workdir, steps).exists()]
    if not todo:
        logging.info("all students are distilled")
        return
    process, backbone = experiment.process_of(config), experiment.backbone_of(config, workdir)
    began = time.monotonic()
    paths = teacher_paths(config, teacher_folder or workdir / "teacher", backbone)
    logging.info("teacher: %d paths of %d steps, %.1f s", *paths.states.shape[:2], time.monotonic() - began)
    kernel, coupling = get_kernel(config.student.kernel), experiment.coupling_of(config)
    stand_in = kernel.stand_in
    plan = functools.partial(make_plans, process, stand_in, backbone.model, coupling, paths, config.student, todo)
    if not config.student.neighbours:
        plans = plan()
    else:
        tokens, keys = neighbour_sequences(config, paths)
        if isinstance(process, Absorbing):
            plans = {m: with_neighbours(process, backbone.model, own, m, tokens, keys) for m, own in plan().items()}
        else:
            known = (process, stand_in, backbone.model)
            judged = paths.repeated(config.student.draws)
            last = denoising_cost(*known, tokens, keys, judged) if config.student.grid == "optimal" else None
            plans = plan(denoising_cost=last)
            plans = {m: with_redraws(*known, own, tokens, keys) for m, own in plans.items()}
    logging.info("orders and grids: %.1f s", time.monotonic() - began)
    for steps, plan in plans.items():
        start = init_student(
            config.student.kernel,
            plan.coupling,
            config.student.coefficient,
            steps,
            plan.times,
            config.student.temperature,
            plan.log_neighbour,
        )
        folder = student_path(workdir, steps).parent
        student, gain = loop.polish(start, process, backbone.model, paths, config.distill, folder)
        student = dataclasses.replace(student, top_p=config.student.top_p)
        metrics = {"seconds": round(time.monotonic() - began, 1), "polish_gain": gain, **plan.metrics}
        if jax.process_index() == 0:
            record = to_record(config, process, backbone, student, provenance, metrics)
            artefact.write(student_path(workdir, steps), record)
    logging.info("distilled M=%s in %.1f s", tuple(todo), time.monotonic() - began)


def to_record(config, process, backbone, student: Student, provenance, metrics) -> dict[str, Any]:
    """A student's artefact with where it came from."""
    source = {
        "objective": config.distill.objective,
        "grid": config.student.grid,
        "order": config.student.order,
        "teacher_steps": config.teacher.steps,
        "teacher_paths": config.teacher.paths,
        **provenance,
    }
    return artefact.to_record(student, process, config.data.sequence_length, backbone.identity, source, metrics)


def student_path(workdir: pathlib.Path, steps: int) -> pathlib.Path:
    """Where the student of M steps lies in a run directory."""
    return workdir / "students" / f"M{steps}" / "student.json"


def revision() -> str:
    """The code's git revision, with a plus where files differ from it; "unknown" outside a checkout."""
    folder = pathlib.Path(__file__).parent
    try:
        call = functools.partial(subprocess.run, cwd=folder, capture_output=True, text=True, check=True)
        head = call(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        return head + ("+" if call(["git", "status", "--porcelain", "--", "."]).stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
