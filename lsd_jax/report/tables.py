"""Tables for a terminal and for Markdown; a cell may be a value or (value, low, high)."""

from collections.abc import Sequence
from typing import Any

Column = tuple[str, str, str]  # key of the row, heading, format
_MISSING = "–"


def format_cell(value: Any, form: str) -> str:
    """`0.123 [0.120, 0.127]` for an interval, the formatted value where there is none, a dash for nothing."""
    if value is None:
        return _MISSING
    if isinstance(value, tuple):
        middle, low, high = value
        if low == high:  # of one seed
            return form.format(middle)
        return f"{form.format(middle)} [{form.format(low)}, {form.format(high)}]"
    return form.format(value)


def cells_of(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> list[list[str]]:
    """Every row's cells as text."""
    return [[format_cell(row.get(key), form) for key, _, form in columns] for row in rows]


def text_table(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> str:
    """An aligned table for a terminal; the first column flush left, numbers flush right."""
    table = [[heading for _, heading, _ in columns], *cells_of(rows, columns)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    lines = ["  ".join(_align(cell, widths[i], i) for i, cell in enumerate(line)) for line in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown_table(rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> str:
    """A Markdown table."""
    head = [heading for _, heading, _ in columns]
    lines = [head, ["---"] + ["---:"] * (len(columns) - 1), *cells_of(rows, columns)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _align(cell: str, width: int, index: int) -> str:
    return cell.ljust(width) if index == 0 else cell.rjust(width)
