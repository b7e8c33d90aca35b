"""student.json: a distilled sampler as a readable file that samples again without its run (docs/student_format.md)."""

import dataclasses
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from lsd_jax.files import write_whole
from lsd_jax.processes.potentials import Factors
from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Kernel, StagedKernel
from lsd_jax.samplers.schedule import Schedule

# A reader of the first alone would misread a file of the second, which has sequences of several lengths.
FORMATS = ("lsd_jax.student/1", "lsd_jax.student/2")


def to_record(
    process: Process, kernel: Kernel | StagedKernel, coupling: Coupling, schedule: Schedule, length: int
) -> dict[str, Any]:
    """What draws a sample, as a JSON-serializable record."""
    params, spread, described = schedule.params, dataclasses.asdict(coupling), describe(process)
    return {
        "format": FORMATS["lengths" in described],
        **described,
        "kernel": kernel.name,
        "coupling": {
            name: list(value) if isinstance(value, tuple) else value for name, value in spread.items() if value != ()
        },
        "coefficient": params.coefficient,
        "steps": schedule.steps,
        "nfe": kernel.nfe * (schedule.steps - 1) + 1,
        "time_grid": _floats(schedule.time_grid),
        "coefficients": _floats(jnp.exp(params.log_coefficient)),
        "temperatures": _floats(jnp.exp(params.log_temperature)),
        **({"top_p": params.top_p} if params.top_p < 1 else {}),
        **({} if params.log_potential is None else {"potentials": _tables(params.log_potential)}),
        "sequence_length": length,
        "backbone": {"kind": "", "id": "", "sha256": ""},
        "provenance": {},
        "metrics": {},
    }


def _floats(values: Any) -> list[float]:
    return [float(value) for value in np.asarray(values)]


def _tables(log_potential: np.ndarray | Factors) -> list[dict[str, Any]]:
    """The potentials that are not all zero, by step and distance: tables, or the two factors of each."""
    whole = not isinstance(log_potential, Factors)
    parts = (
        {"log_potential": log_potential} if whole else {"left": log_potential.left_DSR, "own": log_potential.own_DRS}
    )
    rounded = {name: np.round(np.asarray(part, float), 4) for name, part in parts.items()}
    steps, reach = next(iter(rounded.values())).shape[:2]
    return [
        {"step": k, "distance": d + 1, **{name: part[k, d].tolist() for name, part in rounded.items()}}
        for k in range(steps)
        for d in range(reach)
        if all(part[k, d].any() for part in rounded.values())
    ]


def describe(process: Process) -> dict[str, Any]:
    """The fields that name a process."""
    noise = {"name": type(process.noise).__name__.lower(), **dataclasses.asdict(process.noise)}
    settings = {name: value for name, value in dataclasses.asdict(process).items() if name != "noise" and value != ()}
    return {"process": process.name, "noise": noise, **settings}


def differences(own: Process, other: Process) -> list[tuple[str, str, str]]:
    """(field, own value, the other's value) of every field in which two processes differ, each value short."""
    mine, theirs = describe(own), describe(other)
    fields = [field for field in {**mine, **theirs} if mine.get(field) != theirs.get(field)]
    return [(field, _short(mine.get(field)), _short(theirs.get(field))) for field in fields]


def _short(value: Any) -> str:
    """A value of `describe` in a few words: shares of lengths are as many as a sequence has tokens."""
    if not isinstance(value, tuple):
        return repr(value)
    return f"shares of 0 ... {len(value) - 1} tokens (mean {np.dot(value, np.arange(len(value))):.2f})"


def write(path: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes a record whole or not at all."""
    write_whole(path, json.dumps(record, indent=1) + "\n")
