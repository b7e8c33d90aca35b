"""Every sampler on every task at every NFE, each cell resumable and its record complete.

A task changes the experiment (data, noise, network), an entry of `samplers` changes the student. A student that is left as
it starts is the plain sampler of its kernel; one that is planned or polished is distilled first. Samplers without a time
grid, and cheats that use no network at all, run through the same metrics.
"""

import dataclasses
import json
import pathlib
import time
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from absl import logging

from lsd_jax import cells, evaluation, experiment, workflow
from lsd_jax.ablation import resolve, slug
from lsd_jax.baselines import cheats
from lsd_jax.data import alphabet, loader
from lsd_jax.distill import artefact
from lsd_jax.distill.student import init_student
from lsd_jax.evaluation import Sampler
from lsd_jax.metrics import suite
from lsd_jax.progress import Progress
from lsd_jax.report import benchmark as report
from lsd_jax.report.benchmark import DATA, EXACT
from lsd_jax.samplers import EVENT_SAMPLERS, get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.grids import FIXED_GRIDS, fixed_grid
from lsd_jax.samplers.simulate import uniform_schedule

_FLOOR_DRAWS = 10


class Cell(NamedTuple):
    """One sampler at one budget of network evaluations on one task; a budget of 0 needs no network."""

    task: str
    sampler: str
    budget: int

    @property
    def stem(self) -> str:
        return f"{slug(self.task)}__{slug(self.sampler)}__{self.budget}"


def list_cells(config: ml_collections.ConfigDict) -> list[Cell]:
    """The cells of a benchmark; a sampler that is not defined for a task's process has none there."""
    found = []
    for task in config.tasks:
        own = resolve(config, task, config.seed)
        names = [DATA, *(cheats.CHEATS if own.data.name in alphabet.DATASETS else ())]  # they imitate a language
        found += [Cell(task[0], name, 0) for name in names]
        for entry in config.samplers:
            student = resolve(own, entry, config.seed).student
            if own.process.name in _kernel(student.kernel).processes:
                found += [Cell(task[0], entry[0], budget) for budget in _budgets(config, student.kernel)]
    return found


def check(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Every mistake that can be told before long work.

    Raises:
        ValueError, FileNotFoundError: one line naming the field or file.
    """
    if not config.nfe or min(config.nfe) < 1:
        raise ValueError(f"config.nfe={config.nfe}: name at least one number of network evaluations, each 1 or more")
    for task in config.tasks:
        own = resolve(config, task, config.seed)
        for entry in config.samplers:
            student = resolve(own, entry, config.seed)
            if (
                student.student.kernel in EVENT_SAMPLERS
                or own.process.name not in _kernel(student.student.kernel).processes
            ):
                continue
            student.student.steps = tuple(_steps(student.student.kernel, budget) for budget in config.nfe)
            experiment.check(student, "all", workdir)


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, stage: str, provenance: dict[str, Any]) -> str:
    """Evaluates what has no record yet, and returns the tables for the terminal."""
    folder = workdir / "cells"
    if stage in ("all", "evaluate"):
        jax.config.update("jax_compilation_cache_dir", str(workdir / "xla"))  # cells of one task compile alike
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        todo = [cell for cell in list_cells(config) if not (folder / f"{cell.stem}.json").exists()]
        progress, context = Progress("benchmark, cells", len(todo), every=0.0), None
        for done, cell in enumerate(todo):
            if done and cell.sampler != todo[done - 1].sampler:
                jax.clear_caches()  # programs nobody calls again keep memory maps, of which a process has 65,530
            if context is None or context.name != cell.task:
                context = _context(config, cell.task, workdir)
            record = _evaluate(config, context, cell, workdir, provenance)
            if jax.process_index() == 0:
                artefact.write(folder / f"{cell.stem}.json", record)
            progress(done + 1)
    if jax.process_index() > 0:
        return ""
    return report.build(config, workdir, read(config, folder))


def read(config: ml_collections.ConfigDict, folder: pathlib.Path) -> list[dict[str, Any]]:
    """The records of the benchmark's cells that exist, metrics flattened in as (value, low, high)."""
    rows = []
    for cell in list_cells(config):
        file = folder / f"{cell.stem}.json"
        if file.exists():
            record = json.loads(file.read_text())
            rows.append({**record, **{name: tuple(value) for name, value in record.pop("metrics").items()}})
    return rows


def _kernel(name: str):
    return EVENT_SAMPLERS[name] if name in EVENT_SAMPLERS else get_kernel(name)


def _steps(kernel: str, budget: int) -> int:
    """How many steps of a kernel the budget pays for, the last of which makes one call."""
    return (budget - 1) // _kernel(kernel).nfe + 1


def _budgets(config: ml_collections.ConfigDict, kernel: str) -> list[int]:
    """The budgets at which a kernel has a sampler of its own: two steps at least; an exact sampler has one."""
    if kernel in EVENT_SAMPLERS:
        return [EXACT] if EVENT_SAMPLERS[kernel].exact else list(config.nfe)
    return [budget for budget in config.nfe if _steps(kernel, budget) >= 2]


class _Context(NamedTuple):
    """What the cells of one task share."""

    name: str
    cells: cells.Context
    task: suite.Task


def _context(config: ml_collections.ConfigDict, name: str, workdir: pathlib.Path) -> _Context:
    own = resolve(config, next(entry for entry in config.tasks if entry[0] == name), config.seed)
    return _Context(name, cells.make_context(own, workdir), suite.make_task(own))


def _evaluate(config, context: _Context, cell: Cell, workdir: pathlib.Path, provenance) -> dict[str, Any]:
    """The record of one cell; its samples and bounds go beside it as npz."""
    began, own, shared = time.monotonic(), context.cells.config, context.cells
    entry = next((entry for entry in config.samplers if entry[0] == cell.sampler), None)
    arrays, metrics, facts = {}, {}, {"nfe": 0.0}
    if entry is None:
        arrays["tokens"] = _without_network(own, cell.sampler)
    else:
        own = resolve(own, entry, config.seed)
        sampler = _sampler(own, cell, workdir, provenance)
        key_draw, key_bound = jax.random.split(cells.cell_key(own, cell.sampler))
        arrays["tokens"], facts = _timed_draw(shared.model, sampler, key_draw, own.evaluation)
        facts |= {"steps": sampler.schedule.steps, "kernel": own.student.kernel}
        nats = cells.bound_of(shared, sampler, key_bound)
        if nats is not None:
            arrays["bound_nats"] = nats
        metrics = cells.likelihood_metrics(shared, sampler, nats)
    metrics |= suite.suite(context.task, arrays["tokens"], own.seed, own.evaluation.resamples)
    if cell.sampler == DATA:
        facts |= {
            "best": dict(context.task.best),
            "floor": suite.floor(context.task, len(arrays["tokens"]), _FLOOR_DRAWS),
        }
    if jax.process_index() == 0:
        (workdir / "cells").mkdir(parents=True, exist_ok=True)
        np.savez_compressed(workdir / "cells" / f"{cell.stem}.npz", **arrays)
    sizes = {"samples": len(arrays["tokens"]), "held_out": len(shared.held_out), "length": own.data.sequence_length}
    seconds = {"seconds": round(time.monotonic() - began, 2)}
    return {**cell._asdict(), "stem": cell.stem, **facts, **sizes, "metrics": metrics, **seconds, **provenance}


def _without_network(own: ml_collections.ConfigDict, name: str) -> np.ndarray:
    if name == DATA:
        return cells.data_samples(own)
    rng, train = np.random.default_rng([own.seed, 12]), loader.load_split(own.data, "train")
    return cheats.CHEATS[name](rng, train, own.evaluation.num_samples, own.data.sequence_length)


def _sampler(own, cell: Cell, workdir: pathlib.Path, provenance) -> Sampler:
    """The sampler of a cell: as it starts, or distilled for every budget of its task at once."""
    student, process, length = own.student, experiment.process_of(own), own.data.sequence_length
    if student.kernel in EVENT_SAMPLERS:
        budget = 1 if cell.budget == EXACT else cell.budget  # which an exact sampler does not read
        schedule = uniform_schedule(budget, student.temperature, student.top_p)
        return Sampler(process, EVENT_SAMPLERS[student.kernel], Coupling("iid"), schedule, length)
    kernel, steps = get_kernel(student.kernel), _steps(student.kernel, cell.budget)
    if student.grid in FIXED_GRIDS and student.order == "fixed" and not own.distill.steps:
        plain = init_student(
            *(student.kernel, experiment.coupling_of(own), student.coefficient, steps),
            *(fixed_grid(student.grid, steps), student.temperature),
        )
        plain = dataclasses.replace(plain, top_p=student.top_p)
        return Sampler(process, kernel, plain.coupling, plain.schedule(), length)
    folder = workdir / "students" / slug(cell.task) / slug(cell.sampler)
    own.student.steps = tuple(sorted({_steps(student.kernel, budget) for budget in own.nfe} - {1}))
    workflow.distill(own, folder, provenance, teacher_folder=workdir / "teacher" / slug(cell.task))
    schedule, coupling = artefact.schedule_of(artefact.read(workflow.student_path(folder, steps)))
    return Sampler(process, kernel, coupling, schedule, length)


def _timed_draw(model, sampler: Sampler, key: jax.Array, settings) -> tuple[np.ndarray, dict[str, float]]:
    """Samples, the mean of the calls really made, and seconds a sequence, the first batch (compilation) left out."""
    keys, batch = sequence_keys(key, settings.num_samples), settings.batch_size
    tokens, calls = evaluation.draw_and_count(model, sampler, keys[:batch], batch)
    began = time.perf_counter()
    more_tokens, more_calls = evaluation.draw_and_count(model, sampler, keys[batch:], batch)
    seconds = (time.perf_counter() - began) / len(more_tokens)
    calls = np.concatenate([calls, more_calls])
    timing = {"nfe": float(calls.mean()), "seconds_per_sequence": seconds}
    logging.info("%s: %.1f network evaluations, %.2g s a sequence", sampler.kernel.name, *timing.values())
    return np.concatenate([tokens, more_tokens]), timing
