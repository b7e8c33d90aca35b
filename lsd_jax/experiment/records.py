"""The records of a run directory: JSON written whole or not at all, read back as rows, and bound to one config."""

import functools
import importlib.metadata
import json
import math
import pathlib
import platform
import re
import subprocess
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.files import is_partial, write_whole

Row = dict[str, Any]  # a cell's record with its metrics flattened in as (value, low, high)

DATA = "real data"  # the sampler of a task's own row
EXACT = 2**31 - 1  # the budget of samplers that make as many network calls as they need
_OF_NO_RESULT = (
    "config.cpu_devices",
    "config.parameter_shards",
    "config.report",
)  # fields that change no student and no cell
_OF_CELLS = ("config.evaluation", "config.verify")  # fields that change no student
LAYOUT = 2  # of a run directory; an earlier one had evaluation/ or variants/ and a bare config.json

ALIASES = {"transition_tv": "lag1_tv"}  # metrics of earlier records
# Sampler names of earlier records, as (pattern, today's form).
_SAMPLERS = (
    (r"^data$", DATA),
    (r"^LSD\+ student \(ours\)$", "path-KL student"),
    (r"^(LSD\+?) eq\. (\d)", r"\1 (Eq. \2)"),
    (r"^dial ", "KL mix "),
    (r"\bpolished\b", "optimized"),
    (r"\bneighbours\b", "potentials"),
    (r"^cheat: ", "degenerate: "),
    (r"^(Euler|Tweedie) T=", r"\1, T="),
)


def write_json(path: pathlib.Path, record: Any) -> None:
    """Writes a record whole or not at all, and its folder if there is none.

    NaN and infinities are no JSON: null stands for them, and the record's "not_finite" says which one stood where.
    """
    found: dict[str, str] = {}
    record = _told(record, "", found)
    if found and isinstance(record, dict):
        record["not_finite"] = found
    write_whole(path, json.dumps(record, indent=1, allow_nan=False) + "\n")


def _told(record: Any, place: str, found: dict[str, str]) -> Any:
    """The record with null for every number that is not finite; `found` takes its place, joined by dots, and what it was."""
    if isinstance(record, Mapping):
        return {name: _told(value, f"{place}.{name}", found) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [_told(value, f"{place}.{index}", found) for index, value in enumerate(record)]
    if isinstance(record, float) and not math.isfinite(record):
        found[place[1:]] = str(record)
        return None
    return record


def read_json(path: pathlib.Path) -> Any:
    """What `write_json` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r}: no such file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"path={str(path)!r}: not JSON: {error}") from None


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a cell's .npz or a teacher's paths.

    Raises:
        ValueError: the file is damaged; one line that names it.
    """
    try:
        with path.open("rb") as file, np.load(file) as saved:
            return dict(saved)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise InputError(
            f"path={str(path)!r}: is damaged ({error}); delete it and its .json, and evaluate again"
        ) from None


def flatten(record: Mapping[str, Any]) -> Row:
    """A record as a row: metrics beside the other fields, intervals as tuples, earlier names replaced by today's."""
    metrics = {name: value for name, value in record.get("metrics", {}).items() if value and None not in value}
    row = {**record, **metrics}  # a metric that is null is not there: tables show a dash
    for field in ("metrics", "not_finite"):
        row.pop(field, None)
    row = {ALIASES.get(name, name): _interval(value) for name, value in row.items()}
    for field in ("best", "floor"):
        if field in row:
            row[field] = {ALIASES.get(name, name): _interval(value) for name, value in row[field].items()}
    if "sampler" in row:
        row["sampler"] = functools.reduce(lambda name, form: re.sub(*form, name), _SAMPLERS, row["sampler"])
    return row


def read_rows(folder: pathlib.Path) -> list[Row]:
    """Every record (*.json) of a folder as a row, in the order of the file names."""
    records = {file: read_json(file) for file in sorted(folder.glob("*.json"))}
    for file, record in records.items():
        if not isinstance(record, dict) or "sampler" not in record:
            raise InputError(f"path={str(file)!r}: is no record of a cell; delete it to evaluate the cell again")
    return [flatten(record) for record in records.values()]


def read_published(path: pathlib.Path) -> list[Row]:
    """The rows of a table written by any revision (metrics.json, summary.json, earlier rows.json), named as today.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no table of samplers.
    """
    records = read_json(path)
    if not isinstance(records, list) or not all(isinstance(row, dict) and "sampler" in row for row in records):
        raise InputError(f"path={str(path)!r}: not a list of rows with a sampler each")
    rows = []
    for record in records:
        row = {"task": path.stem, "budget": record.get("steps", math.ceil(record["nfe"])), **flatten(record)}
        row = {name: value for name, value in row.items() if name not in ("rank", "ranks", "milliseconds")}
        rows.append(row)  # without what a report computes again
    return rows


def slug(name: str) -> str:
    """A name as that of a file or folder."""
    return re.sub(r"[^a-z0-9.]+", "_", name.lower()).strip("_")


def claim(workdir: pathlib.Path, wanted: Mapping[str, Any]) -> None:
    """Binds a run directory to its config, so that no other experiment resumes from it or writes over it.

    Args:
        wanted: the config as a tree that JSON can hold; kept in config.json beside the layout's number.

    Raises:
        FileExistsError: the directory holds a run of another config or of an earlier layout, or files that are no run.
    """
    if jax.process_index() > 0:
        return
    path, config = workdir / "config.json", json.loads(json.dumps(wanted))
    held = read_json(path) if path.exists() else {"layout": LAYOUT}
    if not isinstance(held, dict):
        raise InputError(f"path={str(path)!r}: holds no config of a run; choose another --workdir")
    if held.get("layout") != LAYOUT or any((workdir / name).exists() for name in ("evaluation", "variants")):
        raise FileExistsError(
            f"workdir={str(workdir)!r}: holds a run of another layout (this code writes layout {LAYOUT}), which cannot be "
            "resumed; choose another --workdir"
        )
    if path.exists():
        changed = sorted(name for name in _differences(held["config"], config) if not name.startswith(_OF_NO_RESULT))
        of_students = [name for name in changed if not name.startswith(_OF_CELLS)]
        if of_students or (changed and any((workdir / "cells").glob("*.json"))):
            remedy = "choose another --workdir, or delete that one"
            if not of_students:
                remedy = (
                    f"delete {workdir / 'cells'} to evaluate again (the students stay), or choose another --workdir"
                )
            raise FileExistsError(
                f"workdir={str(workdir)!r}: holds a run with other values of {', '.join((of_students or changed)[:5])}; {remedy}"
            )
        write_json(path, {"layout": LAYOUT, "config": config})
    elif workdir.exists() and not all(map(is_partial, workdir.iterdir())):
        raise FileExistsError(f"workdir={str(workdir)!r}: is not empty and holds no run; choose another --workdir")
    else:
        write_json(path, {"layout": LAYOUT, "config": config})


def revision() -> str:
    """The code's git revision, with a plus where files differ from it; "unknown" outside a checkout."""
    folder = pathlib.Path(__file__).parents[1]
    try:
        call = functools.partial(subprocess.run, cwd=folder, capture_output=True, text=True, check=True)
        call(
            ["git", "ls-files", "--error-unmatch", __file__]
        )  # else the repository around an installation is someone's own
        head = call(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        return head + ("+" if call(["git", "status", "--porcelain", "--", "."]).stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def environment() -> dict[str, str]:
    """What a result depends on beside the code: versions, the platform, the device and the random generator."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "numpy", "scipy")}
    return versions | {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "prng": str(jax.config.jax_default_prng_impl),
    }


def _interval(value: Any) -> Any:
    """A list of three numbers as (value, low, high); anything else as it is."""
    if isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int | float) for v in value):
        return tuple(value)
    return value


def _differences(old: Any, new: Any, prefix: str = "config") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for name in old.keys() | new.keys():
            found += _differences(old.get(name), new.get(name), f"{prefix}.{name}")
        return found
    later = old is None and not new  # a field that did not exist then, and that is empty now, changes nothing
    return [] if old == new or later else [prefix]
