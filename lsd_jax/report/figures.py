"""Figures of a report, each a function of plain data that returns a matplotlib Figure."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

# Okabe and Ito's palette: distinguishable with any colour vision.
COLOURS = ("#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#666633")
MARKERS = "osD^vPX"


def quality_against_nfe(
    rows: Sequence[dict[str, Any]], metric: str, label: str, reference: dict[str, float] | None = None
) -> Figure:
    """One line a sampler of `metric`, a value or (value, low, high), against true NFE; dashed lines for references."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.add_subplot()
    values = list((reference or {}).values())
    # Ours first, so that it has the first colour whatever else is compared.
    names = sorted({row["sampler"] for row in rows}, key=lambda name: ("student" not in name, name))
    for index, name in enumerate(names):
        points = sorted((row["nfe"], _triple(row[metric])) for row in rows if row["sampler"] == name)
        nfe = [x for x, _ in points]
        middle, low, high = np.array([triple for _, triple in points]).T
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        # Samplers with one law fall on one line: lower ones are drawn wider, so that all stay visible.
        style = {"color": colour, "marker": marker, "linewidth": 1.4 + 0.6 * index, "markersize": 5 + 0.6 * index}
        axes.plot(nfe, middle, label=name, zorder=20 - index, alpha=0.9, **style)
        axes.fill_between(nfe, low, high, color=colour, alpha=0.15, linewidth=0)
        values += list(middle)
    for name, value in (reference or {}).items():
        axes.axhline(value, color="black", linestyle="--", linewidth=1, label=f"{name}: {value:.4g}")
    ticks = sorted({row["nfe"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
    axes.set_xlabel("network evaluations a sample (true NFE)")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0.85, edgecolor="none", fontsize=8)
    return figure


def schedules(students: dict[int, dict[str, Any]]) -> Figure:
    """The learned time grids, coefficients and temperatures of students by M, as in their student.json."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    grid_axes, coefficient_axes, temperature_axes = figure.subplots(1, 3)
    grid_axes.plot([0, 1], [1, 0], color="grey", linestyle=":", label="uniform")
    for index, (steps, student) in enumerate(sorted(students.items())):
        style = {"color": COLOURS[index % len(COLOURS)], "marker": ".", "label": f"M={steps}"}
        fraction = np.linspace(0, 1, steps + 1)
        grid_axes.plot(fraction, student["time_grid"], **style)
        coefficient_axes.plot(fraction[:-1], student["coefficients"], **style)
        temperature_axes.plot(fraction[:-1], student["temperatures"], **style)
    for axes, title in (
        (grid_axes, "time grid"),
        (coefficient_axes, "coefficient $\\Phi_k$"),
        (temperature_axes, "temperature $T_k$"),
    ):
        axes.set_title(title)
        axes.set_xlabel("step / M")
        axes.grid(alpha=0.3)
    grid_axes.legend(frameon=False)
    return figure


def trajectory(
    states_KL: np.ndarray, decode_token: Callable[[int], str], mask: int, times: np.ndarray, width: int = 64
) -> Figure:
    """One absorbing-process sample being revealed: a row a time, what is new since the row above in colour."""
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
            text, colour = ("·", "#BBBBBB") if token == mask else (decode_token(token), "#D55E00" if new else "black")
            weight = "bold" if new else "normal"
            axes.text(
                i, k, text, family="monospace", fontsize=size, color=colour, weight=weight, ha="center", va="center"
            )
            if new and text == " ":
                axes.add_patch(_cell(i, k))
        axes.text(-0.8, k, f"t={times[k]:.2f}", fontsize=8, ha="right", va="center", color="grey")
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axis("off")
    figure.suptitle("A sample being revealed (new tokens in colour)", fontsize=10)
    return figure


def image_rows(images_by_name: dict[str, np.ndarray]) -> Figure:
    """A row a name of its images (n, height, width, channels), uint8."""
    names, columns = list(images_by_name), max(len(images) for images in images_by_name.values())
    figure = Figure(figsize=(1.9 + 0.7 * columns, 0.74 * len(names) + 0.1), layout="constrained")
    for axes in (grid := figure.subplots(len(names), columns, squeeze=False)).flat:
        axes.axis("off")
    for row, name in enumerate(names):
        for column, image in enumerate(images_by_name[name]):
            shown = image[..., 0] if image.shape[-1] == 1 else image
            grid[row, column].imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        place = {"ha": "right", "va": "center", "fontsize": 8, "transform": grid[row, 0].transAxes}
        grid[row, 0].text(-0.1, 0.5, name, **place)
    return figure


def save(figure: Figure, folder: pathlib.Path, name: str) -> pathlib.Path:
    """Writes a PNG and returns its path."""
    path = folder / f"{name}.png"
    figure.savefig(path, dpi=130)
    return path


def _cell(i: int, k: int):
    from matplotlib.patches import Rectangle

    return Rectangle((i - 0.4, k - 0.35), 0.8, 0.7, color="#D55E00", alpha=0.25, linewidth=0)


def _triple(value: Any) -> tuple[float, float, float]:
    return value if isinstance(value, tuple) else (value, value, value)
