"""What every part of a report reads: the rows of a study, their tasks, and what the study chose about its report."""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lsd_jax.experiment.records import DATA, Row, read_arrays, slug
from lsd_jax.experiment.report import statistics
from lsd_jax.metrics.metric import LIKELIHOOD_COLUMNS, Column

_FIRST = (
    Column("sampler", "sampler", "{}"),
    Column("nfe", "true NFE", "{:.4g}", "NFE"),
    Column("nfe_95", "NFE, 95th percentile", "{:.4g}", "NFE 95 %"),
    Column("seeds", "seeds", "{}"),
    Column("milliseconds", "ms per sequence", "{:.3g}", "ms"),
    Column("rank", "mean rank", "{:.1f}", "rank"),
)
_RANKED = 6  # samplers: more than these are ranked


@dataclasses.dataclass(frozen=True)
class ReportSettings:
    """What a study chooses about its report.

    Attributes:
        ours: the sampler that is set off, and that is tested against every other.
        figure_samplers: drawn in color, in this order; the others are gray. Empty: all in color.
        frontier_steps: step counts at which quality is drawn against diversity; empty: not drawn.
        frontier_mix: the samplers along the forward-reverse KL mix, in order.
        frontier_temperatures: the samplers of a plain temperature sweep, in order.
    """

    ours: str = "path-KL student"
    figure_samplers: tuple[str, ...] = ()
    frontier_steps: tuple[int, ...] = ()
    frontier_mix: tuple[str, ...] = ()
    frontier_temperatures: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class View:
    """A study's rows as its report shows them.

    Attributes:
        workdir: of the run.
        tasks: by name; `columns`, `primary`, `vocab_size`, `shape`, `decode`, `images` and `properties` are read.
        rows: one per cell and seed.
        several: whether there are several seeds.
        by_task: one row per line of a task's table, in the table's order: by budget, by rank where more than six samplers are
            compared, and as the rows came.
        colored: the samplers that figures show in color.
    """

    workdir: pathlib.Path
    tasks: Mapping[str, Any]
    rows: Sequence[Row]
    several: bool
    by_task: Mapping[str, list[Row]]
    colored: tuple[str, ...]
    settings: ReportSettings

    @property
    def folder(self) -> pathlib.Path:
        """Where the report lies."""
        return self.workdir / "report"

    def named(self, name: str, task: str) -> str:
        """A heading, with the task where there are several."""
        return name if len(self.by_task) == 1 else f"{name}: {task}"

    def file(self, name: str, task: str) -> str:
        """A file's name, with the task where there are several."""
        return "_".join(map(slug, (name,) if len(self.by_task) == 1 else (name, task)))

    def of_task(self, task: str) -> list[Row]:
        """The rows of a task, one per seed."""
        return [row for row in self.rows if row["task"] == task]

    def primary(self, task: str) -> str | None:
        """The metric that stands for a task in figures: its own choice, or how likely samplers find given sequences."""
        names = [self.tasks[task].primary, *(column.name for column in LIKELIHOOD_COLUMNS)]
        return next((name for name in names if any(name in row for row in self.by_task[task])), None)

    def column(self, task: str, name: str) -> Column:
        """The column of a task's metric."""
        return next(column for column in (*LIKELIHOOD_COLUMNS, *self.tasks[task].columns) if column.name == name)

    def columns(self, task: str) -> list[Column]:
        """The columns of a task's table: those that its rows have, and that say something."""
        rows = self.by_task[task]
        hidden = {"seeds"} if len({row.get("seeds") for row in rows}) == 1 else set()
        if all(row.get("gap_nats") == row.get("path_kl_nats") for row in rows):
            hidden.add("gap_nats")  # with an exact network both are the divergence from the data's own distribution
        columns = (*_FIRST, *LIKELIHOOD_COLUMNS, *self.tasks[task].columns)
        shown = [column for column in columns if column.shown and column.name not in hidden]
        return [column for column in shown if any(column.name in row for row in rows)]

    def traded(self, task: str) -> list[Column]:
        """What is held against diversity: the task's primary metric, and a proper score where every row has one."""
        rows = [row for row in self.by_task[task] if row["budget"] in self.settings.frontier_steps]
        names = dict.fromkeys([self.primary(task), "nll_bits", "path_kl_nats", "bound_bits"])
        present = [name for name in names if rows and all(name in row and "entropy_bits" in row for row in rows)]
        return [self.column(task, name) for name in present[:2]]

    def tokens(self, task: str, count: int, rows: Sequence[Row] | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """The first samples (count, L) of the rows (of all) that kept them, by sampler and NFE; none of several seeds."""
        for row in () if self.several else self.by_task[task] if rows is None else rows:
            file = self.workdir / "cells" / f"{row['stem']}.npz"
            if file.exists():
                tokens = read_arrays(file)["tokens"][:count]
                yield f"{row['sampler']}, NFE {row['nfe']:.4g}" if row["budget"] else row["sampler"], tokens


def view_of(workdir: pathlib.Path, tasks: Mapping[str, Any], rows: Sequence[Row], settings: ReportSettings) -> View:
    """Rows as `records.read_rows` gives them, summarized over seeds and put in order."""
    several = len({row["seed"] for row in rows}) > 1
    lines = statistics.summarize(rows) if several else rows
    by_task = {name: _ready(own) for name in tasks if (own := [row for row in lines if row["task"] == name])}
    names = dict.fromkeys(row["sampler"] for row in rows if row["budget"])
    colored = settings.figure_samplers or tuple(sorted(names, key=lambda name: name != settings.ours))
    return View(workdir, tasks, rows, several, by_task, colored, settings)


def _ready(rows: Sequence[Row]) -> list[Row]:
    names = {row["sampler"] for row in rows if row["budget"]}
    if len(names) > _RANKED and "best" in (statistics.data_row(rows) or {}):
        rows = statistics.ranked(rows)
    timed = "seconds_per_sequence"
    rows = [row | ({"milliseconds": 1000 * row[timed]} if timed in row else {}) for row in rows]
    return sorted(rows, key=lambda row: (row["budget"], row["sampler"] != DATA, row.get("rank", 0)))
