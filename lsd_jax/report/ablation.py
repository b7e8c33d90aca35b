"""The report of an ablation: one table a step count, quality against NFE, and quality against diversity."""

import pathlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np
import scipy.stats
from matplotlib.figure import Figure

from lsd_jax import experiment
from lsd_jax.distill import artefact
from lsd_jax.report import figures, html, tables

COLUMNS = [
    ("sampler", "variant", "{}"),
    ("nfe", "NFE", "{}"),
    ("seeds", "seeds", "{}"),
    ("bound_bits", "M-step bound, bits/token", "{:.4f}"),
    ("path_kl_nats", "path KL, nats/seq", "{:.2f}"),
    ("gap_nats", "above many-step, nats/seq", "{:.2f}"),
    ("wrong_per_transition", "token error", "{:.4f}"),
    ("transition_tv", "bigram TV", "{:.4f}"),
    ("tv3", "3-gram TV", "{:.3f}"),
    ("tv4", "4-gram TV", "{:.3f}"),
    ("entropy_bits", "entropy, bits", "{:.3f}"),
    ("gen_ppl", "gen-PPL (our scorer)", "{:.2f}"),
]


def build(config: ml_collections.ConfigDict, workdir: pathlib.Path, rows: list[dict[str, Any]]) -> str:
    """Writes report/ (index.html, tables.md, summary.json, PNG figures) and returns the tables as text.

    Raises:
        FileNotFoundError: nothing has been evaluated yet.
    """
    if not rows:
        raise FileNotFoundError(f"{str(workdir)!r} holds no evaluated cells: run --stage=evaluate first")
    folder = workdir / "report"
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarize(rows, [name for name, _ in config.variants])
    columns = [column for column in COLUMNS if any(column[0] in row for row in summary)]
    whole = len({row["seeds"] for row in summary}) == 1
    hidden = ("tv3", "tv4", "gap_nats", "bound_bits") if experiment.has_exact_chain(config) else ()
    columns = [column for column in columns if column[0] not in hidden and not (whole and column[0] == "seeds")]
    quality = next(name for name in ("wrong_per_transition", "transition_tv", "bound_bits") if name in summary[0])
    main = [row for row in summary if row["sampler"] in config.figure_variants]
    label = dict((name, heading) for name, heading, _ in COLUMNS)
    images = []
    for metric in dict.fromkeys([quality, "path_kl_nats", "gap_nats"]):
        drawn = [row for row in main if metric in row]
        if drawn:
            figure = figures.quality_against_nfe(drawn, metric, label[metric])
            images.append(html.Image(figures.save(figure, folder, f"{metric}_against_nfe"), f"{label[metric]} by NFE."))
    trade = frontier(summary, config, quality, label)
    if trade:
        images.append(html.Image(figures.save(trade, folder, "frontier"), "Quality against diversity."))
    groups = defaultdict(list)
    for row in summary:
        groups[row["steps"]].append(row)
    body = [
        html.Table(group, columns, f"M = {steps}: mean and 95 % interval over seeds.")
        for steps, group in groups.items()
    ]
    first = rows[0]
    source = f"Command: {first['command']} (seeds {config.seeds}, revision {first['revision']}, {first['precision']})."
    sections = [html.Section("Results", [html.Text(source), *body]), html.Section("Figures", images)]
    markdown = "\n\n".join(
        f"**M = {steps}**\n\n{tables.markdown_table(group, columns)}" for steps, group in groups.items()
    )
    if control := entropy_control(summary, config, quality):
        heading = "The control: what a plain temperature sweep scores at a variant's own entropy"
        columns = [
            *(("sampler", "variant", "{}"), ("nfe", "NFE", "{}"), ("entropy_bits", "entropy, bits", "{:.3f}")),
            *((quality, label[quality], "{:.4f}"), ("matched", "temperature sweep at this entropy", "{}")),
        ]
        sections[0].body.append(html.Table(control, columns, f"{heading}."))
        markdown += f"\n\n**{heading}**\n\n{tables.markdown_table(control, columns)}"
    html.write_report(folder / "index.html", f"lsd_jax: ablation on {config.data.name}", sections)
    artefact.write(folder / "summary.json", summary)
    (folder / "tables.md").write_text(f"{source}\n\n{markdown}\n")
    text = "\n\n".join(tables.text_table([_middle(row) for row in group], columns) for group in groups.values())
    return f"{text}\n\nreport: {folder / 'index.html'}"


def summarize(rows: list[dict[str, Any]], order: list[str]) -> list[dict[str, Any]]:
    """(mean, low, high) of every metric over the seeds of a cell: 95 % by Student's t; one seed has no interval."""
    cells = defaultdict(list)
    for row in rows:
        cells[row["steps"], row["sampler"]].append(row)
    summary = []
    for (steps, name), group in sorted(cells.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        row = {"sampler": name, "steps": steps, "nfe": group[0]["nfe"], "seeds": len(group)}
        for metric in dict.fromkeys(
            name for name, _, _ in COLUMNS if name in group[0] and name not in ("sampler", "nfe")
        ):
            values = np.array([cell[metric] for cell in group])
            half = 0.0
            if len(values) > 1:
                half = scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
            row[metric] = (float(values.mean()), float(values.mean() - half), float(values.mean() + half))
        row["distill_seconds"] = float(np.mean([cell["distill_seconds"] for cell in group]))
        summary.append(row)
    return summary


def frontier(summary, config, quality: str, label: dict[str, str]) -> Figure | None:
    """Quality against entropy: the dial's settings and the plain temperature sweep, a panel a step count."""
    curves = {"dial, 0 to 1": config.frontier.dial, "plain temperature sweep": config.frontier.temperatures}
    counts = [steps for steps in config.frontier.steps if any(row["steps"] == steps for row in summary)]
    if not counts or not all(curves.values()):
        return None
    figure = Figure(figsize=(4.6 * len(counts), 4), layout="constrained")
    for axes, steps in zip(np.atleast_1d(figure.subplots(1, len(counts))), counts):
        for (name, members), colour, marker in zip(curves.items(), ("#D55E00", "#0072B2"), "os"):
            points = [row for row in summary if row["steps"] == steps and row["sampler"] in members and quality in row]
            points.sort(key=lambda row: members.index(row["sampler"]))
            axes.plot(
                [row["entropy_bits"][0] for row in points],
                [row[quality][0] for row in points],
                color=colour,
                marker=marker,
                label=name,
            )
            for index, row in enumerate(points):
                at, start = (row["entropy_bits"][0], row[quality][0]), "0" if marker == "o" else "T=1"
                text = row["sampler"].split()[-1] if row["sampler"] != members[0] else start
                offset = (5, 4) if index % 2 else (5, -9)
                axes.annotate(text, at, fontsize=7, xytext=offset, textcoords="offset points")
        axes.set_title(f"M = {steps}")
        axes.set_xlabel(label["entropy_bits"])
        axes.set_ylabel(label[quality])
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    return figure


def entropy_control(summary: list[dict[str, Any]], config: ml_collections.ConfigDict, quality: str) -> list[dict]:
    """Every drawn variant beside the temperature sweep at its entropy, at the step counts of the frontier."""
    sweep, rows = config.frontier.temperatures, []
    names = {*config.figure_variants, *config.frontier.dial} - {*sweep}
    swept = {row["steps"] for row in summary if row["sampler"] in sweep} & set(config.frontier.steps)
    for row in summary:
        if row["steps"] in swept and row["sampler"] in names and quality in row:
            value, inside = matched_in_entropy(summary, row["steps"], row["sampler"], sweep, quality)
            rows.append(row | {"matched": f"{value:.4f}" + ("" if inside else " (its nearest end)")})
    return rows


def matched_in_entropy(
    summary: list[dict[str, Any]], steps: int, name: str, sweep: Sequence[str], metric: str
) -> tuple[float, bool]:
    """What a plain temperature sweep scores at the entropy of variant `name`, linear between its temperatures, and whether
    that entropy lies within the sweep; outside, the value is that of the nearest end."""
    rows = {row["sampler"]: row for row in summary if row["steps"] == steps}
    points = sorted((rows[member]["entropy_bits"][0], rows[member][metric][0]) for member in sweep if member in rows)
    entropies, values = np.array(points).T
    own = rows[name]["entropy_bits"][0]
    return float(np.interp(own, entropies, values)), bool(entropies[0] <= own <= entropies[-1])


def _middle(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value[0] if isinstance(value, tuple) else value for name, value in row.items()}
