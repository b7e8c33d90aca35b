"""A study: cells of tasks x samplers x budgets x seeds, each evaluated once and resumable, all in one record format.

A plain run is a study of one task.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from absl import logging

from lsd_jax import agreement
from lsd_jax.distill.distill import distill
from lsd_jax.errors import InputError
from lsd_jax.experiment import build
from lsd_jax.experiment.check import section
from lsd_jax.experiment.context import Context, timed_draw
from lsd_jax.experiment.entries import Entry, default_samplers, find_kernel, is_distilled, resolve
from lsd_jax.experiment.records import DATA, EXACT, read_rows, slug, write_json
from lsd_jax.files import write_whole
from lsd_jax.keys import cell_key
from lsd_jax.progress import Progress
from lsd_jax.samplers.kernel import EventSampler
from lsd_jax.samplers.registry import get_sampler
from lsd_jax.samplers.sampler import Sampler, nfe_of, sampler, steps_within
from lsd_jax.samplers.threshold import fit_threshold

_OF_SAMPLERS = ("student", "teacher", "distill")  # the sections of a config that an entry of samplers may change
_TAIL = 4  # times the mean: the most network evaluations that an adaptive sampler may take for a sequence
_SEVERAL = 8  # samplers: above it programs are kept on disk, and dropped from memory when no cell calls them again


class Cell(NamedTuple):
    """One sampler at one budget of network evaluations on one task with one seed; a budget of 0 needs no network."""

    task: str
    sampler: str
    budget: int
    steps: int
    seed: int

    @property
    def stem(self) -> str:
        """The name of its files."""
        return f"{slug(self.task)}__{slug(self.sampler)}__{self.budget}__seed{self.seed}"


class Study:
    """The cells of a config and what they share; evaluated cell by cell."""

    def __init__(self, config: ml_collections.ConfigDict, workdir: pathlib.Path, provenance: Mapping[str, Any]):
        self.config, self.workdir, self.provenance = config, workdir, provenance
        self.tasks = [Entry(*entry) for entry in config.tasks] or [Entry(config.data.name, (), config.data.name)]
        self.samplers = [Entry(*entry) for entry in config.samplers] or default_samplers(config)
        self.seeds = tuple(config.seeds) or (config.seed,)
        for field, entries in (("tasks", self.tasks), ("samplers", self.samplers)):
            slugs = [slug(entry.name) for entry in entries]
            if nameless := [entry.name for entry, file in zip(entries, slugs) if not file.strip(".")]:
                raise InputError(f"config.{field}: {nameless[0]!r} names no file; a name needs a letter or a digit")
            if same := sorted({entry.name for entry in entries if slugs.count(slug(entry.name)) > 1}):
                raise InputError(f"config.{field}: {same} would share their files; give them different names")
        self.configs = {task.name: resolve(config, task, "tasks") for task in self.tasks}
        if len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"config.seeds={self.seeds}: each seed once; cells of equal seeds would share their files")
        self._contexts: dict[str, Context] = {}

    @functools.cached_property
    def entries(self) -> dict[tuple[str, str], tuple[ml_collections.ConfigDict, bool]]:
        """(task, sampler) -> its config and whether it is distilled; a sampler not defined for a process has none there.

        Raises:
            ValueError: an entry changes a field that does not exist, or names no sampler.
        """
        found = {}
        for task in self.tasks:
            for entry in self.samplers:
                if other := sorted({name for name, _ in entry.changes if name.split(".")[0] not in _OF_SAMPLERS}):
                    raise InputError(
                        f"config.samplers: {entry.name!r} changes {other}; a sampler changes {_OF_SAMPLERS} only"
                    )
                own = resolve(self.configs[task.name], entry)
                with section("student"):
                    kernel = find_kernel(own.student.kernel)
                # What a plain run is about is never left out: its check says what does not fit.
                ours = not self.config.samplers and entry.name == self.config.report.ours
                if ours or own.process.name in kernel.processes:
                    if "student.steps" in dict(entry.changes):
                        own.nfe = ()  # an entry with steps of its own keeps them
                    if own.nfe:
                        steps = sorted({steps_within(kernel, budget) for budget in own.nfe})
                        own.student.steps = tuple(m for m in steps if m > 1 or isinstance(kernel, EventSampler))
                    found[task.name, entry.name] = own, ours or is_distilled(own)
        names, ours = [entry.name for entry in self.samplers], self.config.report.ours
        if ours not in names:
            raise InputError(f"config.report.ours={ours!r}: choose one of config.samplers: {names}")
        return found

    def cells(self) -> Iterator[Cell]:
        """Every cell: the data's own row and degenerate baselines first, then the samplers by task and seed."""
        for task in self.tasks:
            data = build.task_of(self.configs[task.name], judged=False)
            names = [DATA] if data.has_data else []
            names += data.baselines() if self.config.evaluation.degenerate else []
            yield from (Cell(task.name, name, 0, 0, self.seeds[0]) for name in names)
            for seed in self.seeds:
                for entry in self.samplers:
                    if (task.name, entry.name) in self.entries:
                        own, _ = self.entries[task.name, entry.name]
                        yield from (Cell(task.name, entry.name, *pair, seed) for pair in self._budgets(own))

    def _budgets(self, own: ml_collections.ConfigDict) -> Iterator[tuple[int, int]]:
        """(budget, steps) of a sampler; an exact sampler makes as many calls as it needs."""
        kernel = get_sampler(own.student.kernel)
        if isinstance(kernel, EventSampler):
            yield from [(EXACT, 1)] if kernel.exact else [(steps, steps) for steps in own.nfe or own.student.steps]
        elif own.nfe:
            pairs = ((budget, steps_within(kernel, budget)) for budget in own.nfe)
            yield from (pair for pair in pairs if pair[1] > 1)
        else:
            yield from ((nfe_of(kernel, steps), steps) for steps in own.student.steps)

    def path(self, cell: Cell) -> pathlib.Path:
        """A cell's record."""
        return self.workdir / "cells" / f"{cell.stem}.json"

    def distill(self) -> None:
        """Distills every student that is not there yet."""
        self._keep_programs()
        for (task, name), (own, distilled) in self.entries.items():
            for seed in self.seeds if distilled else ():
                self.students(task, name, own, seed)

    def students(self, task: str, name: str, own: ml_collections.ConfigDict, seed: int) -> dict[int, Sampler]:
        """The distilled samplers of one entry, task and seed by their number of steps; made where they are not there yet."""
        context = self.context(task)
        teacher = build.teacher_of(own)
        return distill(
            context.model,
            tuple(own.student.steps),
            length=own.data.sequence_length,
            data=context.train if teacher.source == "data" else None,
            seed=seed,
            student=build.student_of(own),
            teacher=teacher,
            optimization=build.optimization_of(own),
            folder=self.student_folder(task, name, seed),
            teacher_folder=self.workdir / "teacher" / (slug(task) if len(self.tasks) > 1 else ""),
            provenance={**self.provenance, "seed": seed},
        )

    def student_folder(self, task: str, name: str, seed: int) -> pathlib.Path:
        """Where an entry's students lie: below students/, with the task, sampler and seed where there are several."""
        distilled = {sampler for (_, sampler), (_, distilled) in self.entries.items() if distilled}
        parts = (task, len(self.tasks)), (name, len(distilled)), (f"seed{seed}", len(self.seeds))
        return self.workdir.joinpath("students", *[slug(part) for part, count in parts if count > 1])

    def evaluate(self) -> None:
        """Evaluates every cell that has no record yet."""
        cells = {cell.stem: cell for cell in self.cells()}
        missing = agreement.from_first(lambda: [stem for stem, cell in cells.items() if not self.path(cell).exists()])
        todo = [cells[stem] for stem in missing]
        if not todo:
            logging.info("all cells are evaluated")
            return
        several = self._keep_programs()
        # The work of a cell is its network evaluations: counted in them, the remaining time holds from the first cell on.
        work = {cell: self._work(cell) for cell in todo}
        done, progress = 0, Progress("evaluate, network evaluations", sum(work.values()), every=0.0)
        for index, cell in enumerate(todo):
            if several and index and cell.sampler != todo[index - 1].sampler:
                jax.clear_caches()  # programs that nobody calls again keep memory maps, of which a process has 65,530
            record = self._record(cell)
            if jax.process_index() == 0:
                write_json(self.path(cell), record)
            agreement.barrier(cell.stem)
            done += work[cell]
            progress(done, seconds=record["seconds"])

    def _keep_programs(self) -> bool:
        """Keeps compiled programs on disk where cells or students of one task compile alike; says whether they do."""
        several = len(self.samplers) > _SEVERAL or len(self.seeds) > 1 or len(self.tasks) > 1
        if several:
            jax.config.update("jax_compilation_cache_dir", str(self.workdir / "xla"))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        return several

    def _work(self, cell: Cell) -> int:
        return self.configs[cell.task].data.sequence_length if cell.budget == EXACT else max(cell.budget, 1)

    def _record(self, cell: Cell) -> dict[str, Any]:
        """The record of one cell; its samples and likelihoods go beside it as npz."""
        began, context = time.monotonic(), self.context(cell.task)
        task, settings = context.judged, context.config.evaluation
        arrays: dict[str, np.ndarray] = {}
        if cell.budget == 0:
            arrays["tokens"], facts, metrics = context.without_network(cell.sampler, cell.seed, settings.num_samples)
        else:
            own, distilled = self.entries[cell.task, cell.sampler]
            drawn, facts = self._sampler(cell, own, distilled)
            key_draw, key_bound = jax.random.split(cell_key(cell.seed, self._stream(cell)))
            arrays["tokens"], timing = timed_draw(context.model, drawn, key_draw, settings)
            facts |= timing
            nats, costs = context.elbo(drawn, key_bound), context.path_costs(drawn, key_bound)
            if nats is not None:
                arrays["bound_nats"] = nats
            if costs is not None:
                arrays["nll_nats"] = costs.weighted()
                weighted, paths = costs.nats_NK.shape
                facts |= {"weighted": weighted, "paths": paths, "exact_likelihood": costs.exact}
                facts["effective_paths"] = float(costs.effective_paths.mean())
            metrics = context.likelihood_metrics(drawn, nats, costs)
        metrics |= task.measure(arrays["tokens"], cell.seed, settings.resamples)
        if jax.process_index() == 0:
            write_whole(self.path(cell).with_suffix(".npz"), lambda file: np.savez_compressed(file, **arrays))
        return {
            **cell._asdict(),
            "stem": cell.stem,
            "process": context.model.process.name,
            **facts,
            "samples": len(arrays["tokens"]),
            "held_out": len(context.held_out),
            "length": task.length,
            "metrics": metrics,
            "seconds": round(time.monotonic() - began, 2),
            **task.facts(),
            **self.provenance,
            "seed": cell.seed,
        }

    def _stream(self, cell: Cell) -> str:
        """The name of a cell's random stream."""
        stream = next(entry.stream for entry in self.samplers if entry.name == cell.sampler)
        return self.config.stream.format(name=stream, slug=slug(stream), steps=cell.steps, seed=cell.seed)

    def _sampler(self, cell: Cell, own: ml_collections.ConfigDict, distilled: bool) -> tuple[Sampler, dict[str, Any]]:
        """The sampler of a cell, as its kernel is or distilled, and what its record says of it."""
        context, student, kernel = self.context(cell.task), own.student, get_sampler(own.student.kernel)
        facts: dict[str, Any] = {"kernel": student.kernel}
        if not distilled:
            chosen = {"temperature": student.temperature, "top_p": student.top_p}
            if not isinstance(kernel, EventSampler):
                chosen |= {"grid": student.grid, "coupling": build.student_of(own).coupling}
            if kernel.threshold and not student.threshold:  # compared at an equal mean, with room for a tail
                found = sampler(student.kernel, _TAIL * cell.steps, **chosen)
                key, batch = cell_key(cell.seed, "threshold"), own.evaluation.batch_size
                length = own.data.sequence_length
                found = fit_threshold(
                    context.model, found, cell.steps, key, length=length, count=batch, batch_size=batch
                )
            else:
                found = sampler(student.kernel, cell.steps, **chosen, threshold=student.threshold or None)
            if kernel.threshold:
                facts["threshold"] = float(found.schedule.params.threshold[0])
        else:
            found = self.students(cell.task, cell.sampler, own, cell.seed)[cell.steps]
            record = found.record()
            shown = (
                "process",
                "noise",
                "time_grid",
                "coefficient",
                "coefficients",
                "temperatures",
                "coupling",
                "metrics",
            )
            facts["student"] = {name: record[name] for name in shown}
            facts["distill_seconds"] = record["metrics"]["seconds"]
        facts["coupling"] = dataclasses.asdict(found.coupling)
        return found.bound_to(context.model, own.data.sequence_length), facts

    def context(self, task: str) -> Context:
        """What the cells of one task share; one task's at a time, since networks and data take memory."""
        if task not in self._contexts:
            self._contexts = {task: Context(self.configs[task], self.workdir, self.seeds[0])}
        return self._contexts[task]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of the cells that have a record, in the order of the cells."""
        place = {cell.stem: index for index, cell in enumerate(self.cells())}
        rows = [row for row in read_rows(self.workdir / "cells") if row["stem"] in place]
        return sorted(rows, key=lambda row: place[row["stem"]])
