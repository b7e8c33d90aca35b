"""Statistics of a study's rows: summaries over seeds, mean ranks, paired tests against rivals, and the entropy control.

A row is a cell's record with its metrics flattened in as (value, low, high); see experiment/records.py.
"""

import pathlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import scipy.stats

from lsd_jax.experiment.records import DATA, EXACT, Row, read_arrays
from lsd_jax.metrics.compare import compare, holm
from lsd_jax.metrics.ranks import overall_rank
from lsd_jax.samplers.coupling import Coupling

_DEARER = 1.05  # a row whose true NFE is more than so many times the budget has no rank at it
_OF_ONE_SEED = ("seed", "stem", "student")


def budgets(rows: Iterable[Row]) -> list[int]:
    """The numbers of network evaluations at which samplers are compared."""
    return sorted({row["budget"] for row in rows} - {0, EXACT})


def data_row(rows: Iterable[Row]) -> Row | None:
    """The row of the data itself."""
    return next((row for row in rows if row["sampler"] == DATA), None)


def summarize(rows: Sequence[Row]) -> list[Row]:
    """One row per task, sampler and budget: (mean, low, high) of every metric over the seeds, 95 % by Student's t.

    One seed has no interval. Other fields that are floats are averaged, and `seeds` counts.
    """
    cells = defaultdict(list)
    for row in rows:
        cells[row["task"], row["sampler"], row["budget"]].append(row)
    summary = []
    for group in cells.values():
        row = {"seeds": len(group)}
        for name, value in group[0].items():
            if name in _OF_ONE_SEED or not all(name in cell for cell in group):
                continue
            if isinstance(value, tuple):
                row[name] = _mean_over_seeds(np.array([cell[name][0] for cell in group]))
            else:
                row[name] = float(np.mean([cell[name] for cell in group])) if isinstance(value, float) else value
        summary.append(row)
    return summary


def _mean_over_seeds(values: np.ndarray) -> tuple[float, float, float]:
    middle, half, count = float(values.mean()), 0.0, len(values)
    if count > 1:
        half = float(scipy.stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
    return middle, middle - half, middle + half


def ranked(rows: Sequence[Row]) -> list[Row]:
    """A task's rows, each with its mean rank over the metrics of the data row's `best`, by budget.

    Rank 1 is the nearest to the best value; ties share their rank. Only metrics count that every ranked row has. `ranks`
    maps a budget to the mean rank among all that cost so much, or no network call at all; `rank` is the smallest of them.
    A sampler that really makes more calls than the budget, as some do under uniform noise, has no rank there, nor has one
    that nothing is compared with.
    """
    data = data_row(rows)
    ranks: dict[int, dict[int, float]] = {id(row): {} for row in rows}
    for budget in budgets(rows) if data else ():
        rivals = [row for row in rows if row["budget"] in (0, budget) and row is not data]
        if len(rivals) == 1:
            continue
        rivals = [row for row in rivals if row.get("nfe", 0) <= _DEARER * budget]
        best = {name: value for name, value in data["best"].items() if all(name in row for row in rivals)}
        for row, rank in zip(rivals, overall_rank(rivals, best) if best else ()):
            ranks[id(row)][budget] = float(rank)
    smallest = {row: {"rank": min(own.values())} for row, own in ranks.items() if own}
    return [row | {"ranks": ranks[id(row)]} | smallest.get(id(row), {}) for row in rows]


def overall_ranks(by_task: Mapping[str, Sequence[Row]]) -> dict[str, list[dict[str, Any]]]:
    """Noising process -> samplers by their mean rank over its tasks: `sampler`, `tasks` and a `rank{budget}` per budget.

    A mean is taken over the same tasks for all: a sampler that some task of the process lacks has none.
    """
    by_process = defaultdict(dict)
    for task, rows in by_task.items():
        process = next((row["process"] for row in rows if "process" in row), "")  # older records do not say it
        by_process[process][task] = rows
    return {process: _over_tasks(own) for process, own in by_process.items()}


def _over_tasks(by_task: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    rows = [row for group in by_task.values() for row in group]
    found, steps = [], budgets(rows)
    for name in dict.fromkeys(row["sampler"] for row in rows if row["sampler"] != DATA):
        own = [row for row in rows if row["sampler"] == name]
        line = {"sampler": name, "tasks": len({row["task"] for row in own})}
        for budget in steps:
            ranks = [row["ranks"][budget] for row in own if budget in row["ranks"]]
            if len(ranks) == len(by_task):
                line[f"rank{budget}"] = float(np.mean(ranks))
        found.append(line)
    return sorted(found, key=lambda line: line.get(f"rank{steps[0]}", np.inf))


def rivals(folder: pathlib.Path, rows: Sequence[Row], ours: str) -> list[dict[str, Any]]:
    """Whether `ours` is better than each sampler at equal budget: paired permutation tests of -log p(x).

    Args:
        folder: where the cells' npz files lie, of which those with `nll_nats` (n,) of the same sequences are read.
        rows: one task's, not summarized; a sequence's nats are averaged over the seeds.
    """
    nats = defaultdict(list)
    for row in rows:
        file = folder / f"{row['stem']}.npz"
        if not file.exists():
            continue
        if "nll_nats" in (saved := read_arrays(file)):
            nats[row["sampler"], row["budget"]].append(saved["nll_nats"])
    found = []
    for (name, budget), theirs in sorted(nats.items(), key=lambda item: item[0][1]):
        own = nats.get((ours, budget))
        if name != ours and own:
            effect, low, high, p = compare(np.mean(own, 0), np.mean(theirs, 0), paired=True)
            found.append({"sampler": name, "nfe": budget, "difference": (effect, low, high), "p": p})
    corrected = holm([line["p"] for line in found])
    return [line | {"p_holm": float(value)} for line, value in zip(found, corrected)]


def entropy_control(
    rows: Sequence[Row], steps: Sequence[int], names: Iterable[str], sweep: Sequence[str], metrics: Sequence[str]
) -> list[Row]:
    """The rows of samplers `names`, each with what the temperature sweep scores at its entropy (`matched_{metric}`)."""
    found = []
    for row in rows:
        swept = any(other["sampler"] in sweep for other in rows if other["budget"] == row["budget"])
        if row["budget"] not in steps or row["sampler"] not in {*names} - {*sweep} or not swept:
            continue
        matched = {}
        for metric in metrics:
            value, inside = matched_in_entropy(rows, row["budget"], row["sampler"], sweep, metric)
            matched[f"matched_{metric}"] = f"{value:.4f}" + ("" if inside else " (its nearest end)")
        found.append(row | matched)
    return found


def matched_in_entropy(
    rows: Sequence[Row], budget: int, name: str, sweep: Sequence[str], metric: str
) -> tuple[float, bool]:
    """What a plain temperature sweep scores at the entropy of sampler `name`, linear between its temperatures, and whether
    that entropy lies within the sweep; outside, the value is that of the nearest end."""
    at = {row["sampler"]: row for row in rows if row["budget"] == budget}
    points = sorted((at[member]["entropy_bits"][0], at[member][metric][0]) for member in sweep if member in at)
    entropies, values = np.array(points).T
    own = at[name]["entropy_bits"][0]
    return float(np.interp(own, entropies, values)), bool(entropies[0] <= own <= entropies[-1])


def reveal_steps(student: Mapping[str, Any], length: int) -> np.ndarray | None:
    """The step (L,), from 1, in which a student of the absorbing process reveals each position, in one of its orders.

    A position is revealed in the first step whose survival prod_k (1 - Phi_k (m_k - m_{k+1}) / m_k) falls to its threshold
    or below. The mask probability m(t) is taken to be proportional to t, as it is under loglinear noise.

    Returns:
        None where no order is learned: thresholds that are not of low discrepancy, or not kept for the whole path.
    """
    coupling = student.get("coupling", {})
    if coupling.get("name") != "low_discrepancy" or student.get("process", "absorbing") != "absorbing":
        return None
    grid, coefficients = np.asarray(student["time_grid"]), np.asarray(student["coefficients"])
    if student.get("coefficient", "score") != "score":
        coefficients = np.ones_like(coefficients)  # it multiplies the log-score: which token, not when
    survival = np.cumprod(np.clip(1 - coefficients * (1 - grid[1:] / grid[:-1]), 0, 1))
    survival[-1] = 0.0  # the last step denoises: it reveals all that is left
    threshold_L = np.asarray(Coupling(**coupling).thresholds(jax.random.key(0)[None], length))[0]
    return np.searchsorted(-survival, -threshold_L, side="left") + 1
