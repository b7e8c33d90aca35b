"""Which figures a study has, by what its rows and its run directory hold."""

from collections.abc import Iterator, Mapping

import numpy as np

from lsd_jax.experiment.records import DATA, Row, read_arrays, slug
from lsd_jax.experiment.report import figures, statistics
from lsd_jax.experiment.report.figures import Panel
from lsd_jax.experiment.report.html import Image
from lsd_jax.experiment.report.view import View
from lsd_jax.metrics.metric import LIKELIHOOD_COLUMNS

# The column of K / 4 paths only checks the one of K. A figure of it would leave out samplers whose likelihood is exact.
_LIKELIHOOD = tuple(column.name for column in LIKELIHOOD_COLUMNS if column.name != "nll_quarter_bits")
# Beside the likelihood and the primary metric.
_DRAWN = ("wrong_per_transition", "gen_ppl", "frechet", "entropy_bits", "valid")
_FEW = 100  # tokens: the names of a larger vocabulary do not fit the cells of a trajectory


def draw(view: View) -> Iterator[Image]:
    """Writes the figures of a report and yields them in order."""
    yield from _quality(view)
    for task in view.by_task:
        yield from _frontier(view, task)
        yield from _schedules(view, task)
        yield from _trajectory(view, task)
        yield from _images(view, task)
        yield from _histograms(view, task)


def _saved(view: View, figure: figures.Figure, name: str, caption: str) -> Image:
    return Image(figures.save(figure, view.folder, name), f"{caption}.")


def _quality(view: View) -> Iterator[Image]:
    """Quality against true NFE: of one task a figure per metric; of several a panel per task, and against time and entropy."""
    if len(view.by_task) == 1:
        (task,) = view.by_task
        wanted = (*_LIKELIHOOD, view.primary(task), *_DRAWN)
        shown = {column.name for column in view.columns(task)}
        for metric in dict.fromkeys(name for name in wanted if name in shown):
            panel = _panel(view, task, metric)
            figure = figures.quality([panel], view.colored, label="network evaluations per sample (true NFE)")
            yield _saved(view, figure, f"{metric}_nfe", f"{panel.metric.heading}, against true NFE")
        return
    panels = [_panel(view, task, name) for task in view.by_task if (name := view.primary(task))]
    yield _saved(view, figures.quality(panels, view.colored), "quality_nfe", "Quality against true NFE")
    if timed := [panel for panel in panels if any("milliseconds" in row for row in panel.rows)]:
        figure = figures.quality(timed, view.colored, "milliseconds", "ms per sequence")
        yield _saved(view, figure, "quality_time", "Quality against time")
    if diverse := [panel for panel in panels if all("entropy_bits" in row for row in panel.rows)]:
        figure = figures.diversity(diverse, view.colored, min(statistics.budgets(view.rows)))
        yield _saved(view, figure, "quality_diversity", "Quality against diversity, at the smallest budget")


def _panel(view: View, task: str, metric: str) -> Panel:
    rows, reference = view.by_task[task], None
    data = statistics.data_row(rows)
    if data and metric in data:
        reference = ("continuous-time ELBO" if metric == "bound_bits" else DATA, data[metric][0])
    return Panel(task, [row for row in rows if metric in row], view.column(task, metric), reference)


def _frontier(view: View, task: str) -> Iterator[Image]:
    settings, rows = view.settings, view.by_task[task]
    curves = {
        "forward-reverse KL mix": settings.frontier_mix,
        "plain temperature sweep": settings.frontier_temperatures,
    }
    steps = [m for m in settings.frontier_steps if m in statistics.budgets(rows)]
    if steps and all(curves.values()) and (metrics := view.traded(task)):
        figure = figures.frontier(rows, steps, curves, metrics)
        yield _saved(view, figure, view.file("frontier", task), view.named("Quality against diversity", task))


def _schedules(view: View, task: str) -> Iterator[Image]:
    """What students have learned: ours, or without ours the samplers in color, of the first seed."""
    rows = [row for row in view.of_task(task) if "student" in row]
    rows = [row for row in rows if row["seed"] == rows[0]["seed"]]
    ours = [view.settings.ours] if any(row["sampler"] == view.settings.ours for row in rows) else view.colored
    for name in ours:
        own = {row["steps"]: row for row in rows if row["sampler"] == name}
        students, orders = {steps: row["student"] for steps, row in own.items()}, _orders(own)
        parts = figures.learned_parts(students)
        if parts or orders:  # else they are as they started
            left = [title for part, title in figures.TITLES.items() if part not in parts]
            caption = view.named(f"The schedules of {name}", task)
            caption += f". As they started, and not drawn: {' and '.join(left)}" if left else ""
            figure = figures.schedules(students, parts, orders)
            yield _saved(view, figure, view.file(f"schedules_{name}", task), caption)


def _orders(rows: Mapping[int, Row], width: int = 64) -> dict[int, np.ndarray]:
    """The revealing step of the first positions of a sequence, or of every position of an image."""
    found = {}
    for steps, row in rows.items():
        order = statistics.reveal_steps(row["student"], row["length"])
        if order is not None:
            plane = tuple(row["student"]["coupling"].get("shape", ()))
            found[steps] = order.reshape(plane) if plane else order[:width]
    return found


def _trajectory(view: View, task: str) -> Iterator[Image]:
    """A teacher's path, where one is kept, it starts from masks alone, and its tokens have short names."""
    noun, root = view.tasks[task], view.workdir / "teacher"
    own = root if len(view.by_task) == 1 else root / slug(task)
    files = sorted([*own.glob("*.npz"), *own.glob("*/*.npz")])
    if not files or noun.vocab_size >= _FEW:
        return
    saved = read_arrays(files[0])
    states, grid = saved["states"][0], saved["time_grid"]
    if (states[0] == noun.vocab_size).all():
        index = np.linspace(0, len(grid) - 1, 12).round().astype(int)
        names = [str(token) if noun.shape else noun.token_name(token) for token in range(noun.vocab_size)]
        figure = figures.trajectory(states[index], names.__getitem__, noun.vocab_size, grid[index])
        yield _saved(view, figure, view.file("trajectory", task), view.named("A teacher's path being revealed", task))


def _images(view: View, task: str, count: int = 12) -> Iterator[Image]:
    if not view.tasks[task].shape:
        return  # what is read is shown, and drawn, beside its text
    shown = {name: view.tasks[task].images(tokens) for name, tokens in view.tokens(task, count)}
    if shown:
        figure = figures.image_rows(shown)
        yield _saved(view, figure, view.file("images", task), view.named("The first samples of every sampler", task))


def _histograms(view: View, task: str, count: int = 1000) -> Iterator[Image]:
    """The properties of real data, of ours at every budget, and of the sampler that makes the most evaluations."""
    rows = view.by_task[task]
    others = [row for row in rows if row["budget"] and row["sampler"] != view.settings.ours]
    most = max(others, key=lambda row: row["nfe"], default=None)
    chosen = [row for row in rows if row["sampler"] in (DATA, view.settings.ours) or row is most]
    chosen.sort(key=lambda row: (row["budget"] > 0, row is most, row["nfe"] if row["budget"] else 0))
    found = {name: view.tasks[task].properties(tokens) for name, tokens in view.tokens(task, count, chosen)}
    if found := {name: own for name, own in found.items() if own}:
        figure, caption = figures.histograms(found), view.named("Properties of samples and of real data", task)
        yield _saved(view, figure, view.file("properties", task), caption)
