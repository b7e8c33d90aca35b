"""Assembles the report of a study from its rows and what lies beside them on disk: tables, figures, samples, one page."""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lsd_jax.experiment.records import DATA, EXACT, Row, write_json
from lsd_jax.experiment.report import gallery, html, statistics, tables
from lsd_jax.experiment.report.view import ReportSettings, View, view_of
from lsd_jax.files import write_whole
from lsd_jax.metrics.metric import Column

__all__ = ["ReportSettings", "build"]

_LONG = 24  # rows: a longer table is split by budget
_FACTS = {"seed": "seed", "revision": "revision", "precision": "precision"}


def build(
    workdir: pathlib.Path, tasks: Mapping[str, Any], rows: Sequence[Row], settings: ReportSettings, title: str
) -> str:
    """Writes report/ (index.html, tables.md, metrics.json, with several seeds summary.json, PNG figures).

    Args:
        workdir: of the run: samples are read from cells/<stem>.npz, a teacher's path from teacher/, where they exist.
        tasks: by the name that rows give.
        rows: as `records.read_rows` gives them; their order is that of tables and legends within one budget.

    Returns:
        The tables, and the first sample of each of our students, for the terminal.

    Raises:
        FileNotFoundError: nothing has been evaluated yet.
    """
    if not rows:
        raise FileNotFoundError(f"workdir={str(workdir)!r}: holds no evaluated cells; run --stage=evaluate first")
    view = view_of(workdir, tasks, rows, settings)
    source, several_tasks = _provenance(rows), len(view.by_task) > 1
    results = [_results(view, task) for task in view.by_task]
    first = [_overall(view)] if any("rank" in row for group in view.by_task.values() for row in group) else []
    images = [html.Section("Figures", list(gallery.draw(view)))]
    samples = {task: _samples(view, task) for task in view.by_task}
    sections = [
        html.Section("What this is", [html.Text(text) for text in (_notes(rows), source) if text]),
        *(first + images + results if several_tasks else first + results + images),
        *(section for task in view.by_task for section in _tests(view, task)),
        *(html.Section(view.named("Samples", task), [own]) for task, own in samples.items() if own.by_name),
    ]
    html.write_report(view.folder / "index.html", title, sections)
    write_json(view.folder / "metrics.json", rows)
    if view.several:
        write_json(view.folder / "summary.json", [row for group in view.by_task.values() for row in group])
    write_whole(view.folder / "tables.md", f"# {title}\n\n{_markdown(sections)}\n")
    ours = [
        f"{view.named(name, task)}: {lines[0]}"
        for task, own in samples.items()
        for name, lines in own.by_name.items()
        if name.startswith(settings.ours)
    ]
    printed = [*map(_text, first + results), "\n".join(ours), f"report: {view.folder / 'index.html'}"]
    return "\n\n".join(filter(None, printed))


def _overall(view: View) -> html.Section:
    ranked = {task: group for task, group in view.by_task.items() if any("rank" in row for row in group)}
    columns = [Column("sampler", "sampler", "{}"), *([Column("tasks", "tasks", "{}")] if len(ranked) > 1 else [])]
    budgets = sorted({budget for group in ranked.values() for row in group for budget in row.get("ranks", ())})
    columns += [Column(f"rank{budget}", f"NFE {budget}", "{:.1f}") for budget in budgets]
    text = (
        "Mean rank over a task's metrics, then over all tasks of a noising process, among what has the budget of network "
        "evaluations (NFE) or needs none; 1 is best. A sampler has no rank where some task lacks it, or where it really makes more "
        "evaluations than the budget."
    )
    overall = statistics.overall_ranks(ranked)
    tables = [html.Table(lines, columns, name, view.settings.ours) for name, lines in overall.items()]
    return html.Section("Mean ranks", [html.Text(text), *tables])


def _results(view: View, task: str) -> html.Section:
    """The table of a task, split by budget where it is long; the floor and the data head every part."""
    rows = view.by_task[task]
    data = statistics.data_row(rows) or {}
    head = [{"sampler": "floor", **data["floor"]}] if "floor" in data else []
    head, rest = head + [data] * bool(data), [row for row in rows if row["sampler"] != DATA]
    caption = "Mean and 95 % interval over seeds." if view.several else "Value with its 95 % interval over sequences."
    if "floor" in data:
        caption += (
            " The floor is what an exact sampler scores at this number of sequences: its mean and 95 % range over repeated "
            "draws of the data's own distribution."
        )
    parts = {"": rest}
    if len(rest) > _LONG:
        parts = {_name_of(b): [r for r in rest if r["budget"] == b] for b in dict.fromkeys(r["budget"] for r in rest)}
    body = [html.Text(caption)]
    for name, own in parts.items():
        columns = [column for column in view.columns(task) if any(column.name in row for row in own or head)]
        body.append(html.Table(head + own, columns, name, view.settings.ours))
    return html.Section(view.named("Results", task), body)


def _name_of(budget: int) -> str:
    return {0: "no network", EXACT: "as many network calls as needed"}.get(budget, f"{budget} network calls")


def _tests(view: View, task: str) -> Iterator[html.Section]:
    """Ours against each rival, and others against a temperature sweep at their entropy: where there is data for it."""
    settings, sampler, nfe = view.settings, Column("sampler", "sampler", "{}"), Column("nfe", "NFE", "{:.4g}")
    if found := statistics.rivals(view.workdir / "cells", view.of_task(task), settings.ours):
        columns = [
            sampler._replace(heading=f"{settings.ours} against"),
            nfe,
            Column("difference", "difference, nats per sequence", "{:.2f}"),
            Column("p", "p of chance", "{:.4f}"),
            Column("p_holm", "p, corrected for all tests of this table", "{:.4f}"),
        ]
        text = (
            "Importance-weighted −log p(x) of ours less the rival's on the same held-out sequences, paired permutation test; "
            "Holm's correction for the number of tests. "
            "Where a rival's is not exact it is an upper bound, so that a difference in favor of ours may be too large."
        )
        yield html.Section(view.named("Against each rival", task), [html.Text(text), html.Table(found, columns)])
    metrics, names = view.traded(task), (*view.colored, *settings.frontier_mix)
    sweep, steps = settings.frontier_temperatures, settings.frontier_steps
    if found := statistics.entropy_control(
        view.by_task[task], steps, names, sweep, [metric.name for metric in metrics]
    ):
        columns = [sampler, nfe, view.column(task, "entropy_bits")]
        for metric in metrics:
            heading = f"{metric.heading}: temperature sweep at this entropy"
            columns += [metric, Column(f"matched_{metric.name}", heading, "{}")]
        text = "The control: what a plain temperature sweep scores at a sampler's own entropy."
        yield html.Section(
            view.named("Against a temperature sweep", task), [html.Text(text), html.Table(found, columns)]
        )


def _samples(view: View, task: str, shown: int = 3, drawn: int = 12) -> html.Samples:
    """The first samples of every cell as text, and as drawings of data that have some, unless they are images."""
    noun, samples = view.tasks[task], html.Samples({}, {})
    for name, tokens in () if noun.shape else view.tokens(task, drawn):
        samples.by_name[name] = [noun.decode(row) for row in tokens[:shown]]
        samples.drawings[name] = noun.drawing(tokens)
    return samples


def _of(rows: Sequence[Row], count: str) -> str:
    """ " (16 sequences)", where rows say how many."""
    counts = sorted({row[count] for row in rows if row.get(count)})
    return f" ({', '.join(map(str, counts))} sequences)" if counts else ""


def _notes(rows: Sequence[Row]) -> str:
    """How to read what the rows hold."""
    names = {name for row in rows for name in row}
    sizes = ", ".join(map(str, sorted({row["samples"] for row in rows if "samples" in row})))
    notes = [
        "Few-step samplers of frozen diffusion models are compared at equal true numbers of network evaluations (NFE); samples per "
        f"cell: {sizes}."
    ]
    if "nll_bits" in names:
        counts = sorted({row["paths"] for row in rows if not row.get("exact_likelihood", True)})
        paths = f"over K = {', '.join(map(str, counts))} paths" if counts else "over all paths"
        notes.append(
            f"−log p is that of held-out data{_of(rows, 'weighted')} under the few-step sampler itself, importance-weighted {paths}: exact where the "
            "column of K / 4 paths is empty, else an upper bound in expectation that falls with K; the two columns agree where "
            "it has converged. It is a proper score, which no temperature lowers below the truth."
        )
    if "bound_bits" in names:
        notes.append(
            f"The M-step ELBO{_of(rows, 'held_out')} averages −log p over paths instead of p: an upper bound on −log p of the same "
            "sequences, not equally tight for all samplers, so that it does not compare different kinds of order."
        )
    if "gen_ppl" in names:
        notes.append("Gen-PPL falls with repetition: read it only beside entropy and divergences.")
    if counts := sorted({row["references"] for row in rows if "references" in row}):
        notes.append(
            f"Metrics against real molecules are against {', '.join(map(str, counts))} of them; FCD, SNN, Frag and Scaf of few molecules "
            "compare rows of this page alone, and no published number. In drawings a pink field is a string that is no molecule."
        )
    if features := {row["features"] for row in rows if "features" in row}:
        notes.append(
            f"The Frechet distance is in the features of {', '.join(sorted(features))}: it compares with no number of "
            "another network, reference or sample size."
        )
    return " ".join(notes)


def _provenance(rows: Sequence[Row]) -> str:
    """The command that made the rows, and each other fact of them once."""
    values = {name: dict.fromkeys(str(row[name]) for row in rows if name in row) for name in ("command", *_FACTS)}
    facts = [f"{_FACTS[n]}{'s' * (len(own) > 1)} {', '.join(own)}" for n, own in values.items() if n in _FACTS and own]
    return f"Command: {', '.join(values['command'])} ({'; '.join(facts)})."


def _markdown(sections: Sequence[html.Section]) -> str:
    """The paragraphs and tables of a page."""
    parts = []
    for section in sections:
        found = [block.text for block in section.body if isinstance(block, html.Text)]
        for block in (block for block in section.body if isinstance(block, html.Table)):
            title = [f"**{block.title}**"] if block.title else []
            found += [*title, tables.markdown_table(block.rows, block.columns)]
        parts += [f"## {section.title}", *found] if found else []
    return "\n\n".join(parts)


def _text(section: html.Section) -> str:
    """The tables of a section for a terminal."""
    found = [block for block in section.body if isinstance(block, html.Table)]
    return "\n\n".join(
        f"{section.title}{f' ({table.title})' * bool(table.title)}\n"
        + tables.text_table(tables.without_intervals(table.rows), table.columns)
        for table in found
    )
