"""The report of a benchmark: a table a task, an overall ranking, who beats whom, and figures with a panel a task."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import ml_collections
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lsd_jax.distill import artefact
from lsd_jax.metrics.compare import compare
from lsd_jax.metrics.suite import overall_rank
from lsd_jax.report import figures, html, tables

FIRST = [
    ("sampler", "sampler", "{}"),
    ("nfe", "true NFE", "{:.4g}"),
    ("milliseconds", "ms a sequence", "{:.3g}"),
    ("rank", "mean rank", "{:.1f}"),
    ("bound_bits", "M-step bound, bits/token", "{:.3f}"),
    ("gap_nats", "above many-step, nats/seq", "{:.2f}"),
]
METRICS = [
    ("exact_tv", "TV from the exact law", "{:.4f}"),
    ("exact_kl_nats", "KL from the exact law, nats", "{:.4f}"),
    ("wrong_per_transition", "token error", "{:.4f}"),
    ("transition_kl_nats", "transition KL, nats", "{:.4f}"),
    ("lag1_tv", "bigram TV", "{:.4f}"),
    ("lag2_tv", "lag-2 TV", "{:.4f}"),
    ("lag4_tv", "lag-4 TV", "{:.4f}"),
    ("lag8_tv", "lag-8 TV", "{:.4f}"),
    ("tv2", "2-gram TV", "{:.3f}"),
    ("tv3", "3-gram TV", "{:.3f}"),
    ("tv4", "4-gram TV", "{:.3f}"),
    ("mauve_like", "MAUVE-like", "{:.3f}"),
    ("energy", "energy distance", "{:.4f}"),
    ("chain_nats", "cost under the chain, nats/token", "{:.3f}"),
    ("gen_ppl", "gen-PPL (our scorer)", "{:.2f}"),
    ("entropy_bits", "entropy, bits", "{:.3f}"),
    ("rep4", "repeated 4-grams", "{:.3f}"),
    ("longest_run", "longest run", "{:.3f}"),
]
PRIMARY = ("exact_tv", "lag1_tv", "tv3")  # what figures show: the first that a task has
DATA, EXACT = "real data", 2**31 - 1  # what is no sampler; the budget of samplers that make as many calls as they need


def build(config: ml_collections.ConfigDict, workdir: pathlib.Path, rows: list[dict[str, Any]]) -> str:
    """Writes report/ (index.html, tables.md, rows.json, PNG figures) and returns the tables as text.

    Raises:
        FileNotFoundError: nothing has been evaluated yet.
    """
    if not rows:
        raise FileNotFoundError(f"{str(workdir)!r} holds no evaluated cells: run --stage=evaluate first")
    folder = workdir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [name for name, _ in config.tasks if any(row["task"] == name for row in rows)]
    by_task = {task: _ranked([row for row in rows if row["task"] == task]) for task in tasks}
    sections, markdown, printed = [], [], []
    for task, group in by_task.items():
        columns = [column for column in [*FIRST, *METRICS] if any(column[0] in row for row in group)]
        shown = [*_floor(group), *group]
        body = [html.Table(shown, columns, _CAPTION)]
        markdown.append(f"**{task}**\n\n{tables.markdown_table([_middle(row) for row in shown], columns)}")
        printed.append(f"{task}\n{tables.text_table([_middle(row) for row in shown], columns)}")
        if rival := _rivals(config, workdir, group):
            body.append(html.Table(rival, _RIVALS, _RIVALS_CAPTION))
            markdown.append(f"{_RIVALS_CAPTION}\n\n{tables.markdown_table(rival, _RIVALS)}")
        sections.append(html.Section(task, body))
    overall, columns = overall_table(by_task)
    caption = "Mean rank over a task's metrics, then over tasks, among what costs at most the budget; 1 is best."
    sections.insert(0, html.Section("Overall", [html.Text(_source(rows)), html.Table(overall, columns, caption)]))
    markdown.insert(0, f"{caption}\n\n{tables.markdown_table(overall, columns)}")
    printed.append(f"{caption}\n{tables.text_table(overall, columns)}")
    images = [
        html.Image(figures.save(figure, folder, name), text)
        for name, text, figure in (
            ("quality_nfe", "Quality against true NFE.", panels(by_task, config, "nfe", "true NFE")),
            ("quality_time", "Quality against time.", panels(by_task, config, "milliseconds", "ms a sequence")),
            ("quality_diversity", "Quality against diversity.", diversity(by_task, config)),
        )
    ]
    sections.insert(1, html.Section("Figures", images))
    html.write_report(folder / "index.html", "lsd_jax: benchmark", sections)
    artefact.write(folder / "rows.json", [row for group in by_task.values() for row in group])
    (folder / "tables.md").write_text("\n\n".join([_source(rows), *markdown]) + "\n")
    return "\n\n".join([*printed, f"report: {folder / 'index.html'}"])


_CAPTION = (
    "Value with its 95 % bootstrap interval over sequences. The floor is what an exact sampler scores at this number of "
    "sequences: its mean and 95 % range over repeated draws of the data's own law. The M-step bound of top-k margin and "
    "entropy is their exact -log p."
)


def _floor(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The floor as a row, of a task whose data row says it."""
    found = [row["floor"] for row in group if row["sampler"] == DATA]
    return [{"sampler": "floor", **{name: tuple(value) for name, value in floor.items()}} for floor in found]


def overall_table(by_task: dict[str, list[dict[str, Any]]]) -> tuple[list[dict[str, Any]], list[tables.Column]]:
    """Samplers by their mean rank over the tasks that they are defined for, a column a budget."""
    budgets = _budgets(row for group in by_task.values() for row in group)
    names = dict.fromkeys(row["sampler"] for group in by_task.values() for row in group if row["sampler"] != DATA)
    found = []
    for name in names:
        own = [row for group in by_task.values() for row in group if row["sampler"] == name]
        line = {"sampler": name, "tasks": len({row["task"] for row in own})}
        for budget in budgets:
            ranks = [row["ranks"][budget] for row in own if budget in row["ranks"]]
            if ranks:
                line[f"rank{budget}"] = float(np.mean(ranks))
        found.append(line)
    found.sort(key=lambda line: line.get(f"rank{budgets[0]}", np.inf))
    columns = [("sampler", "sampler", "{}"), ("tasks", "tasks", "{}")]
    return found, columns + [(f"rank{budget}", f"NFE {budget}", "{:.1f}") for budget in budgets]


def _budgets(rows: Iterable[dict[str, Any]]) -> list[int]:
    """The numbers of network evaluations at which samplers are compared."""
    return sorted({row["budget"] for row in rows} - {0, EXACT})


def _ranked(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A task's rows with their mean ranks, by budget; what needs no network is ranked at every budget."""
    data = next((row for row in group if row["sampler"] == DATA), None)
    ranks: dict[int, dict[int, float]] = {id(row): {} for row in group}
    for budget in _budgets(group) if data else ():
        rivals = [row for row in group if row["budget"] in (0, budget) and row is not data]
        for row, rank in zip(rivals, overall_rank(rivals, data["best"])):
            ranks[id(row)][budget] = float(rank)
    ready = []
    for row in sorted(group, key=lambda row: (row["budget"], row["sampler"] != DATA)):
        own = ranks[id(row)]
        more = {"ranks": own, **({"rank": min(own.values())} if own else {})}
        if "seconds_per_sequence" in row:
            more["milliseconds"] = 1000 * row["seconds_per_sequence"]
        ready.append(row | more)
    return sorted(ready, key=lambda row: (row["budget"], row.get("rank", 0)))


_RIVALS = [
    ("sampler", "ours against", "{}"),
    ("nfe", "NFE", "{}"),
    ("difference", "difference, nats a sequence", "{:.2f}"),
    ("p", "p of chance", "{:.4f}"),
]
_RIVALS_CAPTION = "M-step bound of ours less the rival's on the same held-out sequences, paired permutation test."


def _rivals(config, workdir: pathlib.Path, group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whether ours beats each sampler that has a bound, at equal budget."""
    nats = {}
    for row in group:
        with np.load(workdir / "cells" / f"{row['stem']}.npz") as saved:
            if "bound_nats" in saved:
                nats[row["sampler"], row["budget"]] = saved["bound_nats"]
    found = []
    for (name, budget), theirs in nats.items():
        ours = nats.get((config.ours, budget))
        if name != config.ours and ours is not None:
            effect, low, high, p = compare(ours, theirs, paired=True)
            found.append({"sampler": name, "nfe": budget, "difference": (effect, low, high), "p": p})
    return found


def panels(by_task: dict[str, list[dict[str, Any]]], config, x: str, label: str) -> Figure:
    """The primary metric against `x`, a panel a task; named samplers in colour, the others grey."""
    figure, axes = _grid(len(by_task))
    for axis, (task, group) in zip(axes, by_task.items()):
        metric = primary(group)
        for name in dict.fromkeys(row["sampler"] for row in group if row["budget"]):
            points = sorted((row[x], row[metric][0]) for row in group if row["sampler"] == name and row["budget"])
            axis.plot(*zip(*points), **_style(config, name), label=name if name in config.figure_samplers else None)
        data = next((row for row in group if row["sampler"] == DATA), None)
        if data:
            axis.axhline(data[metric][0], color="black", linestyle="--", linewidth=1, label=DATA)
        axis.set_xscale("log", base=2 if x == "nfe" else 10)
        axis.set_yscale("log")
        _label(axis, task, label, _name(metric))
        _ticks(axis.yaxis)
        if x == "nfe":
            exact = {round(row[x]) for row in group if row["budget"] == EXACT}
            axis.set_xticks(ticks := sorted({*_budgets(group), *exact}), [str(tick) for tick in ticks])
            axis.xaxis.set_minor_locator(NullLocator())
        else:
            _ticks(axis.xaxis)
    _legend(figure, axes)
    return figure


def diversity(by_task: dict[str, list[dict[str, Any]]], config) -> Figure:
    """The primary metric against the entropy of a sequence at the smallest budget; real data as a star."""
    figure, axes = _grid(len(by_task))
    for axis, (task, group) in zip(axes, by_task.items()):
        metric, budget = primary(group), _budgets(group)[0]
        for row in group:
            if row["budget"] not in (0, budget):
                continue
            at, style = (row["entropy_bits"][0], row[metric][0]), _style(config, row["sampler"])
            if row["sampler"] == DATA:
                style = {"color": "black", "marker": "*", "markersize": 11, "zorder": 30}
            elif not row["budget"]:
                style = {"color": "#999999", "marker": "x", "markersize": 6}
            shown = row["sampler"] in (*config.figure_samplers, DATA)
            axis.plot(*at, **(style | {"linestyle": "none"}), label=row["sampler"] if shown else None)
            if not row["budget"] and row["sampler"] != DATA:
                axis.annotate(row["sampler"], at, fontsize=6, xytext=(4, 2), textcoords="offset points")
        axis.set_yscale("log")
        _label(axis, f"{task}, NFE {budget}", "entropy of a sequence, bits", _name(metric))
        _ticks(axis.yaxis)
    _legend(figure, axes)
    return figure


def primary(group: Sequence[dict[str, Any]]) -> str:
    """The metric that figures of a task show."""
    return next(name for name in PRIMARY if any(name in row for row in group))


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows + 0.9), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis in axes[count:]:
        axis.axis("off")
    return figure, list(axes[:count])


def _style(config, name: str) -> dict[str, Any]:
    if name not in config.figure_samplers:
        return {"color": "#BBBBBB", "linewidth": 0.8, "marker": ".", "markersize": 3}
    index = list(config.figure_samplers).index(name)
    marker, colour = figures.MARKERS[index % len(figures.MARKERS)], figures.COLOURS[index % len(figures.COLOURS)]
    return {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.5, "zorder": 20 - index}


def _label(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(x, fontsize=8)
    axis.set_ylabel(y, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)


def _ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, at 1, 2 and 5 of every decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _legend(figure: Figure, axes: list[Axes]) -> None:
    found = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels()):
            found.setdefault(label, handle)
    figure.legend(
        found.values(), found.keys(), loc="outside lower center", ncols=2 * min(len(axes), 3), fontsize=8, frameon=False
    )


def _name(metric: str) -> str:
    return next(heading for name, heading, _ in METRICS if name == metric)


def _source(rows: list[dict[str, Any]]) -> str:
    first = rows[0]
    return f"Command: {first['command']} (seed {first['seed']}, revision {first['revision']}, {first['precision']})."


def _middle(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value[0] if isinstance(value, tuple) else value for name, value in row.items()}
