"""Figures of a report, each a function of plain data that returns a matplotlib Figure."""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lsd_jax.experiment.records import DATA, EXACT, Row
from lsd_jax.files import write_whole
from lsd_jax.metrics.metric import Column

# Okabe and Ito's palette: distinguishable with any color vision.
COLORS = ("#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#666633", "#333333")
MARKERS = "osD^vPXp"
_GRAY = {"color": "#BBBBBB", "linewidth": 0.8, "marker": ".", "markersize": 3}


class Panel(NamedTuple):
    """One set of axes: a metric of some rows, with a dashed line (name, value) for reference."""

    title: str
    rows: Sequence[Row]
    metric: Column
    reference: tuple[str, float] | None = None


def quality(panels: Sequence[Panel], colored: Sequence[str], x: str = "nfe", label: str = "true NFE") -> Figure:
    """The metric against `x`, one line per sampler with its intervals; samplers that are not `colored` are gray."""
    figure, grid = _grid(len(panels))
    for axes, panel in zip(grid, panels):
        rows = [row for row in panel.rows if row["budget"] and x in row and panel.metric.name in row]
        for name in sorted({row["sampler"] for row in rows}, key=lambda name: _place(name, colored)):
            own = sorted((row for row in rows if row["sampler"] == name), key=lambda row: row["budget"])
            at, middle, low, high = np.array([(row[x], *_interval(row[panel.metric.name])) for row in own]).T
            style, shown = _style(name, colored), name if name in colored else None
            axes.plot(at, middle, label=shown, **style)
            if shown:
                axes.fill_between(at, low, high, color=style["color"], alpha=0.15, linewidth=0)
            elif own[0]["budget"] == EXACT:  # a single gray point says nothing without its name
                ends = [row[x] for row in rows]
                side = "right" if at[0] ** 2 > min(ends) * max(ends) else "left"
                axes.annotate(name, (at[0], middle[0]), (0, 5), textcoords="offset points", fontsize=6, ha=side)
        if panel.reference:
            name, value = panel.reference
            value_label = name if len(panels) > 1 else f"{name}: {value:.4g}"
            axes.axhline(value, color="black", linestyle="--", linewidth=1, label=value_label)
        axes.set_xscale("log", base=2 if x == "nfe" else 10)
        _scale_y(axes, [_interval(row[panel.metric.name])[0] for row in rows], panel.reference)
        _label(axes, panel.title, label, panel.metric.heading)
        if x == "nfe":
            ticks = _calls(rows)
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            _plain_ticks(axes.xaxis)
    _legend(figure, grid)
    return figure


def diversity(panels: Sequence[Panel], colored: Sequence[str], budget: int) -> Figure:
    """The metric against the entropy of a sequence at one budget; real data is a star, what needs no network a cross."""
    figure, grid = _grid(len(panels))
    for axes, panel in zip(grid, panels):
        rows = [row for row in panel.rows if row["budget"] in (0, budget) and panel.metric.name in row]
        for row in rows:
            name, at = row["sampler"], (row["entropy_bits"][0], row[panel.metric.name][0])
            style = _style(name, colored)
            if name == DATA:
                style = {"color": "black", "marker": "*", "markersize": 11, "zorder": 30}
            elif not row["budget"]:
                style = {"color": "#999999", "marker": "x", "markersize": 6}
                axes.annotate(name, at, fontsize=6, xytext=(4, 2), textcoords="offset points")
            shown = name if name in (*colored, DATA) else None
            axes.plot(*at, **(style | {"linestyle": "none"}), label=shown)
        _scale_y(axes, [row[panel.metric.name][0] for row in rows], None)
        _label(axes, f"{panel.title}, NFE {budget}", "entropy of a sequence, bits", panel.metric.heading)
    _legend(figure, grid)
    return figure


def frontier(
    rows: Sequence[Row], steps: Sequence[int], curves: Mapping[str, Sequence[str]], metrics: Sequence[Column]
) -> Figure:
    """Metrics against entropy along `curves` (name -> samplers in order), one panel per metric and step count."""
    figure = Figure(figsize=(4.6 * len(steps), 3.8 * len(metrics)), layout="constrained")
    grid = figure.subplots(len(metrics), len(steps), squeeze=False)
    for (i, metric), (j, budget) in ((a, b) for a in enumerate(metrics) for b in enumerate(steps)):
        axes = grid[i, j]
        for (name, members), color, marker in zip(curves.items(), COLORS, MARKERS):
            own = [row for row in rows if row["budget"] == budget and row["sampler"] in members and metric.name in row]
            own.sort(key=lambda row: members.index(row["sampler"]))
            points = [(row["entropy_bits"][0], row[metric.name][0]) for row in own]
            axes.plot(*np.array(points).reshape(-1, 2).T, color=color, marker=marker, label=name)
            for index, (row, at) in enumerate(zip(own, points)):
                text = row["sampler"].split()[-1] if row["sampler"] != members[0] else "start"
                place = (5, 4 if index % 2 else -9)
                axes.annotate(text, at, place, textcoords="offset points", fontsize=7, color=color)
        axes.margins(0.12)
        _label(axes, f"M = {budget}", "entropy of a sequence, bits", metric.heading)
    _legend(figure, list(grid.flat))
    return figure


def schedules(
    students: Mapping[int, Mapping[str, Any]], parts: Sequence[str], orders: Mapping[int, np.ndarray] | None = None
) -> Figure:
    """What students by M have learned: `parts` (keys of TITLES) against the step, and the step that reveals a position.

    Args:
        students: "time_grid" (M + 1,), "coefficients" (M,) and "temperatures" (M,) each, as in student.json.
        orders: the step, from 1, of every position: (L,) of a sequence or (rows, columns) of an image.
    """
    orders = orders or {}
    plane = any(order.ndim == 2 for order in orders.values())
    heights = [3.4 * bool(parts), (3.2 if plane else 0.5 + 0.42 * len(orders)) * bool(orders)]
    figure = Figure(figsize=(11, sum(heights)), layout="constrained")
    kept = [height for height in heights if height]
    areas = list(np.atleast_1d(figure.subfigures(len(kept), 1, height_ratios=kept)))
    if parts:
        _curves(areas[0].subplots(1, len(parts), squeeze=False)[0], students, parts)
    if orders:
        areas[-1].suptitle(
            "the step in which each position is revealed (dark: first), in one of its orders", fontsize=10
        )
        shape = (1, len(orders)) if plane else (len(orders), 1)
        for axes, (steps, order) in zip(areas[-1].subplots(*shape, squeeze=False).flat, sorted(orders.items())):
            axes.imshow(np.atleast_2d(order), cmap="viridis", vmin=1, vmax=steps, aspect="equal" if plane else "auto")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_ylabel(f"M={steps}", rotation=0 if not plane else 90, ha="right" if not plane else "center")
            for place, step in enumerate(order) if order.ndim == 1 else ():
                ink = "black" if step > 0.6 * steps else "white"
                axes.text(place, 0, str(step), fontsize=6, color=ink, ha="center", va="center")
    return figure


TITLES = {"time_grid": "time grid", "coefficients": "coefficients", "temperatures": "temperatures"}


def learned_parts(students: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """The keys of TITLES in which some student differs from the uniform grid, or from ones."""
    start = {"time_grid": lambda steps: np.linspace(1, 0, steps + 1)}
    return [
        part
        for part in TITLES
        if not all(
            np.allclose(student[part], start.get(part, np.ones)(steps), atol=1e-4)
            for steps, student in students.items()
        )
    ]


def _curves(grid: Sequence[Axes], students: Mapping[int, Mapping[str, Any]], parts: Sequence[str]) -> None:
    for axes, part in zip(grid, parts):
        if part == "time_grid":
            axes.plot([0, 1], [1, 0], color="gray", linestyle=":", label="uniform")
        for index, (steps, student) in enumerate(sorted(students.items())):
            fraction = np.linspace(0, 1, steps + 1)[: len(student[part])]
            axes.plot(fraction, student[part], marker=".", color=COLORS[index % len(COLORS)], label=f"M={steps}")
        _label(axes, TITLES[part], "step / M", "")
    grid[0].legend(frameon=False, fontsize=8)


def trajectory(
    states_KL: np.ndarray, decode_token: Callable[[int], str], mask: int, times: np.ndarray, width: int = 64
) -> Figure:
    """One absorbing-process sample being revealed: one row per time, what is new since the row above in color."""
    states_KL = states_KL[:, :width].astype(int)
    rows, columns = states_KL.shape
    # Margins in inches, so that a short sequence keeps its times and title.
    wide, high = max(0.16 * columns + 1.2, 4.0), 0.26 * rows + 0.5
    figure = Figure(figsize=(wide, high))
    axes = figure.add_axes((0.9 / wide, 0.1 / high, 1 - 1.0 / wide, 1 - 0.5 / high))
    size = 9 if all(len(decode_token(token)) == 1 for token in np.unique(states_KL) if token != mask) else 6
    for k, row in enumerate(states_KL):
        for i, token in enumerate(row):
            new = token != mask and (k == 0 or states_KL[k - 1, i] == mask)
            text, color = ("·", "#BBBBBB") if token == mask else (decode_token(token), "#D55E00" if new else "black")
            style = {"family": "monospace", "weight": "bold" if new else "normal", "fontsize": size, "color": color}
            axes.text(i, k, text, ha="center", va="center", **style)
            if new and text == " ":
                axes.add_patch(Rectangle((i - 0.4, k - 0.35), 0.8, 0.7, color="#D55E00", alpha=0.25, linewidth=0))
        axes.text(-0.8, k, f"t={times[k]:.2f}", fontsize=8, ha="right", va="center", color="gray")
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axis("off")
    figure.suptitle("A sample being revealed (new tokens in color)", fontsize=10)
    return figure


def image_rows(images_by_name: Mapping[str, np.ndarray]) -> Figure:
    """One row per name of its images (n, height, width, channels), uint8; drawings are shown larger than pixels."""
    names, columns = list(images_by_name), max(len(images) for images in images_by_name.values())
    cell = 1.3 if max(images.shape[1] for images in images_by_name.values()) >= 100 else 0.7  # inches
    figure = Figure(figsize=(1.9 + cell * columns, (cell + 0.04) * len(names) + 0.1), layout="constrained")
    for axes in (grid := figure.subplots(len(names), columns, squeeze=False)).flat:
        axes.axis("off")
    for row, name in enumerate(names):
        for column, image in enumerate(images_by_name[name]):
            shown = image[..., 0] if image.shape[-1] == 1 else image
            grid[row, column].imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        place = {"ha": "right", "va": "center", "fontsize": 8, "transform": grid[row, 0].transAxes}
        grid[row, 0].text(-0.1, 0.5, name, **place)
    return figure


def histograms(values_by_name: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Densities of properties (heading -> values (n,)), a panel each and a line per name; the first name, filled, is the data."""
    headings = list(next(iter(values_by_name.values())))
    figure, grid = _grid(len(headings), columns=4)
    for axes, heading in zip(grid, headings):
        found = {name: own[heading] for name, own in values_by_name.items() if len(own[heading])}
        bins = int(np.clip(2 * np.cbrt(min(map(len, found.values()))), 8, 40))  # Rice's rule
        middle = np.quantile(np.concatenate(list(found.values())), [0.002, 0.998])  # a few sequences may have any value
        edges = np.histogram_bin_edges(middle, bins)
        for index, (name, own) in enumerate(found.items()):
            density = np.histogram(own, edges)[0] / len(own) / np.diff(edges)
            color = COLORS[(index - 1) % len(COLORS)] if index else "#CCCCCC"
            axes.stairs(density, edges, label=name, color=color, fill=not index, linewidth=1.4)
        axes.set_yticks([])
        _label(axes, "", heading, "density")
    _legend(figure, grid)
    return figure


def save(figure: Figure, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes a PNG and returns its path."""
    path = folder / f"{name}.png"
    write_whole(path, lambda file: figure.savefig(file, dpi=130, format="png"))
    return path


def _grid(count: int, columns: int = 3) -> tuple[Figure, list[Axes]]:
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    size = (7, 4.6) if count == 1 else (4.2 * columns, 3.4 * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[count:]:
        axes.axis("off")
    return figure, grid[:count]


def _calls(rows: Sequence[Row]) -> list[int]:
    """The budgets, and what exact samplers need where that is not so near to another number that both could not be read."""
    ticks = {row["budget"] for row in rows if row["budget"] != EXACT}
    for exact in sorted({round(row["nfe"]) for row in rows if row["budget"] == EXACT}):
        if all(max(exact, tick) > 1.25 * min(exact, tick) for tick in ticks):
            ticks.add(exact)
    return sorted(ticks)


def _place(name: str, colored: Sequence[str]) -> tuple[int, str]:
    return (list(colored).index(name) if name in colored else len(colored)), name


def _style(name: str, colored: Sequence[str]) -> dict[str, Any]:
    if name not in colored:
        return _GRAY
    index = list(colored).index(name)
    color, marker = COLORS[index % len(COLORS)], MARKERS[(index + index // len(COLORS)) % len(MARKERS)]
    # Samplers of one distribution fall on one line: lower ones are drawn wider, so that all stay visible.
    wider = 0.25 * min(index, len(COLORS))
    return {
        **{"color": color, "marker": marker, "alpha": 0.9, "zorder": 20 - index},
        **{"linewidth": 1.4 + wider, "markersize": 4.5 + wider},
    }


def _scale_y(axes: Axes, values: list[float], reference: tuple[str, float] | None) -> None:
    """A logarithmic axis where the values span a factor of three; where some are not positive, linear below one."""
    values = values + ([reference[1]] if reference else [])
    if values and min(values) > 0 and max(values) > 3 * min(values):
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
    elif values and min(values) <= 0 and max(values) > 10:  # nats, down to none
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _plain_ticks(axis: Axis) -> None:
    """Plain numbers on a logarithmic axis, at 1, 2 and 5 of every decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def _legend(figure: Figure, grid: Sequence[Axes]) -> None:
    """One legend below all panels, or on the axes of a single one if it is short."""
    if len(grid) == 1 and len(grid[0].get_legend_handles_labels()[1]) <= len(COLORS):
        grid[0].legend(framealpha=0.85, edgecolor="none", fontsize=8)
        return
    found = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            found.setdefault(label, handle)
    place = {"loc": "outside lower center", "ncols": 2 * min(len(grid), 3), "fontsize": 8, "frameon": False}
    figure.legend(found.values(), found.keys(), **place)


def _interval(value: Any) -> tuple[float, float, float]:
    return value if isinstance(value, tuple) else (value, value, value)
