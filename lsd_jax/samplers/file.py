"""The way back from student.json to a sampler: every field is read and checked here (docs/student_format.md)."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.files import checked_path
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.potentials import Factors
from lsd_jax.processes.process import SETTINGS, Process, make_process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import check_kernel
from lsd_jax.samplers.record import FORMATS
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler, check_coupling
from lsd_jax.samplers.schedule import COEFFICIENTS, Schedule, StepParameters

_REQUIRED = (
    "process",
    "noise",
    "kernel",
    "coupling",
    "coefficient",
    "steps",
    "nfe",
    "time_grid",
    "coefficients",
    "temperatures",
    "sequence_length",
    "vocab_size",
    "backbone",
)


def process_of(record: dict[str, Any]) -> Process:
    """The process that a record's fields name; the inverse of `record.describe`."""
    noise = dict(record["noise"])
    settings = {name: record[name] for name in SETTINGS if name in record}
    return make_process(record["process"], record["vocab_size"], make_noise(noise.pop("name"), **noise), **settings)


def load_sampler(path: str | pathlib.Path) -> Sampler:
    """The sampler of a student.json.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a student, or values that make no sampler; the message names the field.
    """
    return from_record(read(checked_path("path", path)))


def from_record(record: dict[str, Any]) -> Sampler:
    """The sampler of a checked record."""
    log = lambda field: jnp.log(jnp.asarray(record[field], jnp.float32))
    learned = log("coefficients"), log("temperatures"), record["coefficient"], _potentials(record)
    schedule = Schedule(
        jnp.asarray(record["time_grid"], jnp.float32), StepParameters(*learned, record.get("top_p", 1.0))
    )
    facts = {name: record[name] for name in ("backbone", "provenance", "metrics") if name in record}
    kernel, coupling = get_kernel(record["kernel"]), Coupling(**record["coupling"])
    return Sampler(schedule, kernel, coupling, record["sequence_length"], process_of(record), facts)


def read(path: pathlib.Path) -> dict[str, Any]:
    """A record that `Sampler.save` wrote, checked field by field.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a student, or values that make no sampler; the message names the field.
    """
    if not path.is_file():
        raise FileNotFoundError(f"student={str(path)!r}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        record = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise InputError(f"student={str(path)!r}: is not JSON: {error}") from None
    if not isinstance(record, dict) or record.get("format") not in FORMATS:
        raise InputError(f"student={str(path)!r}: field 'format' is not one of {FORMATS}")
    if missing := [field for field in _REQUIRED if field not in record]:
        raise InputError(f"student={str(path)!r}: missing fields {missing}")
    try:
        _check(record)
    except InputError as error:
        raise InputError(f"student={str(path)!r}: {error}") from None
    return record


@contextlib.contextmanager
def _field(name: str) -> Iterator[None]:
    """Names the field whose value Python or numpy could not read."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise InputError(f"{name!r} cannot be read: {type(error).__name__}: {error}") from None


def _check(record: dict[str, Any]) -> None:
    """Raises ValueError where the values make no sampler; the message names the field."""
    for field in ("steps", "sequence_length", "vocab_size", "nfe"):
        if type(record[field]) is not int or not 0 < record[field] < 2**31:
            raise InputError(f"{field!r} is not a whole number above 0")
    steps = record["steps"]
    with _field("time_grid"):
        grid = np.asarray(record["time_grid"], float)
        if grid.shape != (steps + 1,) or grid[0] != 1 or grid[-1] != 0 or not (np.diff(grid) < 0).all():
            raise InputError("'time_grid' does not fall from 1 to 0 in steps + 1 values")
    for field in ("coefficients", "temperatures"):
        with _field(field):
            values = np.asarray(record[field], float)
            if values.shape != (steps,) or not ((values > 0) & np.isfinite(values)).all():
                raise InputError(f"{field!r} needs {steps} positive, finite values")
    if record["coefficient"] not in COEFFICIENTS:
        raise InputError(f"'coefficient' is not one of {COEFFICIENTS}")
    with _field("top_p"):
        if not 0 < record.get("top_p", 1.0) <= 1:
            raise InputError("'top_p' is not above 0 and at most 1")
    for field in ("process", "kernel"):
        if not isinstance(record[field], str):
            raise InputError(f"{field!r} is not a name")
    with _field("noise"):
        process = process_of(record)
    kernel = get_kernel(record["kernel"])
    with _field("coupling"):
        coupling = Coupling(**record["coupling"])
    check_kernel(kernel, process)
    process.check_length(record["sequence_length"])
    check_coupling(kernel, coupling)
    coupling.keeps_thresholds(process)
    coupling.check_length(record["sequence_length"])
    with _field("potentials"):
        if len({np.shape(entry.get("left", ())) for entry in _entries(record)}) > 1:
            raise InputError("'potentials' has factors of several ranks, or factors and tables")
        for entry in _entries(record):
            step, distance = entry.get("step"), entry.get("distance")
            farthest = record["sequence_length"] - 1 if process.jumps_once else 1
            if (
                type(step) is not int
                or type(distance) is not int
                or not (0 <= step < steps and 0 < distance <= farthest)
            ):
                raise InputError("'potentials' names a step or distance that does not exist")
            _check_table(entry, process.vocab_size, process.jumps_once)


def _check_table(entry: dict[str, Any], vocab: int, may_be_factors: bool) -> None:
    """Raises ValueError where an entry holds neither a table (S, S) nor, where positions jump once, factors (S, R) and (R, S)."""
    if "left" in entry:
        left, own = (np.asarray(entry.get(name, ()), float) for name in ("left", "own"))
        if not (may_be_factors and left.ndim == 2 and left.shape == own.T.shape and len(left) == vocab):
            raise InputError(f"'potentials' needs factors of {vocab} times R and R times {vocab} values, under masking")
    elif np.asarray(entry.get("log_potential", ()), float).shape != (vocab,) * 2:
        raise InputError(f"'potentials' needs tables of {vocab} times {vocab} values")


def _entries(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables of potentials; files written by earlier versions call them neighbours."""
    return record.get("potentials", record.get("neighbours", ()))


def _potentials(record: dict[str, Any]) -> jnp.ndarray | Factors | None:
    entries = _entries(record)
    if not entries:
        return None
    if "left" not in entries[0]:
        return _stacked(record["steps"], entries, "log_potential")
    return Factors(*(_stacked(record["steps"], entries, name) for name in ("left", "own")))


def _stacked(steps: int, entries: list[dict[str, Any]], field: str) -> jnp.ndarray:
    """The entries' arrays by step and distance, with zeros where there is none."""
    reach, shape = max(entry["distance"] for entry in entries), np.shape(entries[0][field])
    stacked = np.zeros((steps, reach, *shape), np.float32)
    for entry in entries:
        stacked[entry["step"], entry["distance"] - 1] = entry[field]
    return jnp.asarray(stacked)
