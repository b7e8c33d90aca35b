"""One self-contained HTML page: styles inside, figures as base64, nothing fetched."""

import base64
import dataclasses
import html
import pathlib
from collections.abc import Sequence
from typing import Any

from lsd_jax.experiment.report.tables import cells_of
from lsd_jax.files import write_whole
from lsd_jax.metrics.metric import Column

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; } h3 { font-size: 1rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; min-width: 3rem; }
th:first-child, td:first-child { text-align: left; }
tr[data-ours] { background: var(--soft); font-weight: 600; }
figure { margin: 1.5rem 0; } img, svg { max-width: 100%; height: auto; background: white; border-radius: 6px; }
figcaption { color: gray; font-size: .85rem; padding-top: .3rem; }
summary { cursor: pointer; font-weight: 600; margin: .6rem 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--soft); padding: .7rem; border-radius: 6px; }
"""
_OPEN = 12  # samplers whose samples are shown without a click


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows as `tables` takes them; the rows of sampler `ours` are set off."""

    rows: Sequence[dict[str, Any]]
    columns: Sequence[Column]
    title: str = ""
    ours: str = ""


@dataclasses.dataclass(frozen=True)
class Image:
    """A PNG, taken into the page."""

    path: pathlib.Path
    caption: str


@dataclasses.dataclass(frozen=True)
class Samples:
    """Sequences by the sampler that drew them, and SVG elements that show more of them."""

    by_name: dict[str, list[str]]
    drawings: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    body: Sequence[Text | Table | Image | Samples]


def write_report(path: pathlib.Path, title: str, sections: Sequence[Section]) -> None:
    """Writes the page whole or not at all."""
    parts = [f"<h2>{html.escape(s.title)}</h2>" + "".join(_render(block) for block in s.body) for s in sections]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )
    write_whole(path, page)


def _render(block: Text | Table | Image | Samples) -> str:
    if isinstance(block, Text):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Image):
        data = base64.b64encode(block.path.read_bytes()).decode()
        caption = html.escape(block.caption)
        source = f"data:image/png;base64,{data}"
        return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'
    if isinstance(block, Samples):
        state = " open" if len(block.by_name) <= _OPEN else ""
        return "".join(
            f"<details{state}><summary>{html.escape(name)}</summary>"
            + (f"<figure>{block.drawings[name]}</figure>" if block.drawings.get(name) else "")
            + "".join(f"<pre>{html.escape(line)}</pre>" for line in lines)
            + "</details>"
            for name, lines in block.by_name.items()
        )
    head = "".join(f"<th>{html.escape(column.heading)}</th>" for column in block.columns)
    lines = "".join(_table_line(cells, block.ours) for cells in cells_of(block.rows, block.columns))
    title = f"<h3>{html.escape(block.title)}</h3>" if block.title else ""
    return f'{title}<div class="wide"><table><tr>{head}</tr>{lines}</table></div>'


def _table_line(cells: Sequence[str], ours: str) -> str:
    mark = " data-ours" if cells[0] == ours else ""
    return f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
