"""student.json: a finished student as a readable file that samples again without its run (DESIGN 3)."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from lsd_jax.distill.student import Student
from lsd_jax.processes.score import Process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import COEFFICIENTS, Knobs
from lsd_jax.samplers.simulate import Schedule

FORMAT = "lsd_jax.student/1"
_REQUIRED = (
    *("process", "noise", "kernel", "coupling", "coefficient", "steps", "nfe"),
    *("time_grid", "coefficients", "temperatures", "sequence_length", "vocab_size", "backbone"),
)


def to_record(
    student: Student,
    process: Process,
    sequence_length: int,
    backbone: dict[str, Any],
    provenance: dict[str, Any],
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """The student as a JSON-serialisable record."""
    floats = lambda values: [float(value) for value in np.asarray(values)]  # noqa: E731
    return {
        "format": FORMAT,
        **describe(process),
        "kernel": student.kernel,
        "coupling": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(student.coupling).items()
            if value != ()
        },
        "coefficient": student.coefficient,
        "steps": student.steps,
        "nfe": get_kernel(student.kernel).nfe * (student.steps - 1) + 1,
        "time_grid": floats(student.time_grid),
        "coefficients": floats(jnp.exp(student.log_coefficient)),
        "temperatures": floats(jnp.exp(student.log_temperature)),
        **({"top_p": student.top_p} if student.top_p < 1 else {}),
        **({} if student.log_neighbour is None else {"neighbours": _tables(student.log_neighbour)}),
        "sequence_length": sequence_length,
        "backbone": backbone,
        "provenance": provenance,
        "metrics": metrics,
    }


def _tables(log_neighbour: np.ndarray) -> list[dict[str, Any]]:
    """The potentials that are not all zero, by step and distance."""
    return [
        {"step": k, "distance": d + 1, "log_potential": np.round(np.asarray(table, float), 4).tolist()}
        for k, tables in enumerate(np.asarray(log_neighbour))
        for d, table in enumerate(tables)
        if table.any()
    ]


def describe(process: Process) -> dict[str, Any]:
    """The fields that name a process."""
    noise = {"name": type(process.noise).__name__.lower(), **dataclasses.asdict(process.noise)}
    settings = dataclasses.asdict(process)
    del settings["noise"]
    return {"process": process.name, "noise": noise, **settings}


def write(path: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes a record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(partial, path)


def read(path: pathlib.Path) -> dict[str, Any]:
    """A record that `write` wrote, checked field by field.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a student, or values that make no sampler; the message names the field.
    """
    if not path.is_file():
        raise FileNotFoundError(f"student {str(path)!r}: no such file")
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"student {str(path)!r} is not JSON: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ValueError(f"student {str(path)!r}: field 'format' is not {FORMAT!r}")
    if missing := [field for field in _REQUIRED if field not in record]:
        raise ValueError(f"student {str(path)!r}: missing fields {missing}")
    try:
        _check(record)
    except (TypeError, ValueError) as error:
        raise ValueError(f"student {str(path)!r}: {error}") from None
    return record


def _check(record: dict[str, Any]) -> None:
    """Raises ValueError or TypeError where the values make no sampler."""
    steps, grid = record["steps"], np.asarray(record["time_grid"], float)
    if grid.shape != (steps + 1,) or grid[0] != 1 or grid[-1] != 0 or not (np.diff(grid) < 0).all():
        raise ValueError("'time_grid' does not fall from 1 to 0 in steps + 1 values")
    for field in ("coefficients", "temperatures"):
        values = np.asarray(record[field], float)
        if values.shape != (steps,) or not (values > 0).all():
            raise ValueError(f"{field!r} needs {steps} positive values")
    if record["coefficient"] not in COEFFICIENTS:
        raise ValueError(f"'coefficient' is not one of {COEFFICIENTS}")
    if not 0 < record.get("top_p", 1.0) <= 1:
        raise ValueError("'top_p' is not above 0 and at most 1")
    vocab = record["vocab_size"]
    for entry in record.get("neighbours", ()):
        distance, uniform = entry.get("distance", 0), record["process"] == "uniform"
        if not 0 <= entry.get("step", -1) < steps or distance < 1 or (uniform and distance > 1):
            raise ValueError("'neighbours' names a step or distance that does not exist")
        if np.asarray(entry.get("log_potential", ()), float).shape != (vocab, vocab):
            raise ValueError(f"'neighbours' needs tables of {vocab} times {vocab} values")
    get_kernel(record["kernel"])
    Coupling(**record["coupling"])


def schedule_of(record: dict[str, Any]) -> tuple[Schedule, Coupling]:
    """The schedule and coupling of a record."""
    log = lambda field: jnp.log(jnp.asarray(record[field], jnp.float32))  # noqa: E731
    learned = log("coefficients"), log("temperatures"), record["coefficient"], _potentials(record)
    knobs = Knobs(*learned, record.get("top_p", 1.0))
    return Schedule(jnp.asarray(record["time_grid"], jnp.float32), knobs), Coupling(**record["coupling"])


def _potentials(record: dict[str, Any]) -> jnp.ndarray | None:
    entries, vocab = record.get("neighbours", ()), record["vocab_size"]
    if not entries:
        return None
    reach = max(entry["distance"] for entry in entries)
    tables = np.zeros((record["steps"], reach, vocab, vocab), np.float32)
    for entry in entries:
        tables[entry["step"], entry["distance"] - 1] = entry["log_potential"]
    return jnp.asarray(tables)
