"""Runs variants of one experiment x step counts x seeds, each cell resumable, and reports means with intervals over seeds.

Every row is a student: a baseline is one that is left as it starts. What a variant changes is written in the config.
"""

import dataclasses
import json
import pathlib
import re
import time
from typing import Any

import jax
import ml_collections
from absl import logging

from lsd_jax import cells, experiment, workflow
from lsd_jax.distill import artefact
from lsd_jax.evaluation import Sampler
from lsd_jax.progress import Progress
from lsd_jax.report import ablation as report
from lsd_jax.samplers import get_kernel


def variant(name: str, **changes: Any) -> tuple:
    """A variant as a config holds it: `student__grid="uniform"` sets config.student.grid."""
    return name, tuple((field.replace("__", "."), value) for field, value in sorted(changes.items()))


def resolve(config: ml_collections.ConfigDict, entry: tuple, seed: int) -> ml_collections.ConfigDict:
    """The config of one variant and seed.

    Raises:
        ValueError: the variant changes a field that does not exist.
    """
    name, changes = entry
    resolved = config.copy_and_resolve_references()
    for field, value in changes:
        *sections, last = field.split(".")
        section = resolved
        for part in sections:
            section = section[part] if part in section else {}
        if last not in section:
            raise ValueError(f"config.variants: {name!r} changes config.{field}, which does not exist")
        section[last] = tuple(value) if isinstance(value, list) else value
    resolved.seed, resolved.variants, resolved.seeds = seed, (), ()
    return resolved


def slug(name: str) -> str:
    """A variant's name as a folder's."""
    return re.sub(r"[^a-z0-9.]+", "_", name.lower()).strip("_")


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, stage: str, provenance: dict[str, Any]) -> str:
    """Distils and evaluates what has no record yet, and returns the table for the terminal."""
    entries = {entry[0]: entry for entry in config.variants}
    folder = workdir / "cells"
    if stage in ("all", "evaluate"):
        jax.config.update("jax_compilation_cache_dir", str(workdir / "xla"))  # seeds and variants compile alike
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        todo = [
            (name, seed)
            for seed in config.seeds
            for name in entries
            if not all(
                _cell(folder, name, m, seed).exists() for m in resolve(config, entries[name], seed).student.steps
            )
        ]
        progress = Progress("ablation, variants x seeds", len(todo), every=0.0)
        context = None
        for done, (name, seed) in enumerate(todo):
            jax.clear_caches()  # programs nobody calls again keep memory maps, of which a process has 65,530
            own = resolve(config, entries[name], seed)
            context = context or cells.make_context(own, workdir)
            context = dataclasses.replace(context, config=own)
            _distill_and_evaluate(own, context, name, workdir, provenance | {"seed": seed})
            progress(done + 1)
    return report.build(config, workdir, read(folder))


def _distill_and_evaluate(config, context, name: str, workdir: pathlib.Path, provenance) -> None:
    own = workdir / "variants" / slug(name) / f"seed{config.seed}"
    began = time.monotonic()
    workflow.distill(config, own, provenance, teacher_folder=workdir / "teacher")
    seconds = {"distill_seconds": round(time.monotonic() - began, 2)}
    process = experiment.process_of(config)
    for steps in config.student.steps:
        file = _cell(workdir / "cells", name, steps, config.seed)
        if file.exists():
            continue
        record = artefact.read(workflow.student_path(own, steps))
        schedule, coupling = artefact.schedule_of(record)
        kernel = get_kernel(record["kernel"])
        sampler = Sampler(process, kernel, coupling, schedule, config.data.sequence_length)
        began = time.monotonic()
        result = cells.evaluate_cell(context, file.stem, sampler, file.parent)
        result |= {"sampler": name, "seconds": round(time.monotonic() - began, 2), **seconds, **provenance}
        result["student"] = {key: record[key] for key in ("time_grid", "coefficients", "temperatures", "metrics")}
        if jax.process_index() == 0:
            artefact.write(file, result)
    logging.info("%s, seed %d: done", name, config.seed)


def _cell(folder: pathlib.Path, name: str, steps: int, seed: int) -> pathlib.Path:
    return folder / f"{slug(name)}_M{steps}_seed{seed}.json"


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
    """Every record, its metrics' values flattened in (the intervals of one seed are dropped)."""
    rows = []
    for file in sorted(folder.glob("*.json")):
        record = json.loads(file.read_text())
        rows.append({**record, **{name: value[0] for name, value in record.pop("metrics").items()}})
    return rows
