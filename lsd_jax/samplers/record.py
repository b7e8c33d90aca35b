"""student.json: a distilled sampler as a readable file that samples again without its run (docs/student_format.md)."""

import dataclasses
import json
import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from lsd_jax.files import write_whole
from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Kernel, StagedKernel
from lsd_jax.samplers.schedule import Schedule

FORMAT = "lsd_jax.student/1"


def to_record(
    process: Process, kernel: Kernel | StagedKernel, coupling: Coupling, schedule: Schedule, length: int
) -> dict[str, Any]:
    """What draws a sample, as a JSON-serializable record."""
    params, spread = schedule.params, dataclasses.asdict(coupling)
    return {
        "format": FORMAT,
        **describe(process),
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


def _tables(log_potential: np.ndarray) -> list[dict[str, Any]]:
    """The potentials that are not all zero, by step and distance."""
    return [
        {"step": k, "distance": d + 1, "log_potential": np.round(np.asarray(table, float), 4).tolist()}
        for k, tables in enumerate(np.asarray(log_potential))
        for d, table in enumerate(tables)
        if table.any()
    ]


def describe(process: Process) -> dict[str, Any]:
    """The fields that name a process."""
    noise = {"name": type(process.noise).__name__.lower(), **dataclasses.asdict(process.noise)}
    settings = {name: value for name, value in dataclasses.asdict(process).items() if name != "noise" and value != ()}
    return {"process": process.name, "noise": noise, **settings}


def write(path: pathlib.Path, record: dict[str, Any]) -> None:
    """Writes a record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(record, indent=1) + "\n")
