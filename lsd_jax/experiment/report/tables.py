"""Tables for a terminal and for Markdown; a cell is a value or (value, low, high)."""

from collections.abc import Mapping, Sequence
from typing import Any

from lsd_jax.metrics.metric import Column

_MISSING = "–"


def format_cell(value: Any, form: str) -> str:
    """`0.123 [0.120, 0.127]` for an interval, the formatted value where there is none, a dash for nothing."""
    if value is None:
        return _MISSING
    if isinstance(value, tuple):
        middle, low, high = value
        if low == high:
            return form.format(middle)
        return f"{form.format(middle)} [{form.format(low)}, {form.format(high)}]"
    return form.format(value)


def cells_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> list[list[str]]:
    """Every row's cells as text."""
    return [[format_cell(row.get(column.name), column.form) for column in columns] for row in rows]


def text_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """An aligned table for a terminal under short headings; the first column flush left, numbers flush right."""
    table = [[column.short or column.heading for column in columns], *cells_of(rows, columns)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    lines = ["  ".join(_align(cell, widths[i], i) for i, cell in enumerate(line)) for line in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """A Markdown table."""
    head = [column.heading for column in columns]
    lines = [head, ["---"] + ["---:"] * (len(columns) - 1), *cells_of(rows, columns)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def without_intervals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the middle of every interval alone, for a terminal."""
    return [{name: v[0] if isinstance(v, tuple) else v for name, v in row.items()} for row in rows]


def _align(cell: str, width: int, index: int) -> str:
    return cell.ljust(width) if index == 0 else cell.rjust(width)
