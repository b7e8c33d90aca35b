"""What it costs to ask at every step whether a signal has come, on one process and on two.

    python -m measurements.stop_cost --output=docs/results/stop_cost.json

Every process runs the same steps, products of matrices on its devices, as training does: without waiting for them. After each step
it asks nothing, or `StopSignal.agreed(wait=False)` as training does, or `agreed()`, as the optimization of students does every ten
gradient steps. The milliseconds of a step are the least of several rounds; a question costs what it adds to a step without one.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from lsd_jax import startup
from lsd_jax.checkpoints import StopSignal
from lsd_jax.experiment.records import environment, revision, write_json

WAYS: dict[str, Callable[[StopSignal], bool]] = {
    "nothing": lambda stop: False,
    "later": lambda stop: stop.agreed(wait=False),
    "now": lambda stop: stop.agreed(),
}
_ROUNDS = 5


def milliseconds(steps: int, size: int) -> dict[str, float]:
    """Milliseconds of a step by what is asked after it; steps are products of (size, size) matrices."""
    step = jax.jit(lambda state: jnp.tanh(state @ state))
    state = jnp.eye(size)
    found = dict.fromkeys(WAYS, float("inf"))
    for _ in range(_ROUNDS):
        for name, ask in WAYS.items():
            with StopSignal() as stop:
                for count in (3, steps):  # the first few compile
                    began = time.perf_counter()
                    for _ in range(count):
                        state = step(state)
                        if ask(stop):
                            raise SystemExit("stopped")
                    state.block_until_ready()
            found[name] = min(found[name], (time.perf_counter() - began) / steps * 1000)
    return found


def measured(processes: int, steps: int, size: int) -> dict[str, float]:
    """What process 0 of so many measures."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["--worker", address, f"--processes={processes}", f"--steps={steps}", f"--size={size}", "--output=-"]
    commands = [
        [sys.executable, "-m", "measurements.stop_cost", *words, f"--index={index}"] for index in range(processes)
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    told = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise RuntimeError("a process failed; its message is above")
    return json.loads(told[0].splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> None:
    """Measures with every number of processes and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=500, help="of a round")
    parser.add_argument("--size", type=int, default=256, help="of the matrices")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON file to write")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        if args.processes[0] > 1:
            startup.join(args.worker, args.processes[0], args.index, None, 100)
        print(json.dumps(milliseconds(args.steps, args.size)))
        return
    command = f"python -m measurements.stop_cost --steps={args.steps} --size={args.size} --output={args.output.name}"
    record = {
        "command": command,
        "revision": revision(),
        "environment": environment(),
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "milliseconds_per_step": {count: measured(count, args.steps, args.size) for count in args.processes},
    }
    write_json(args.output, record)
    print(json.dumps(record["milliseconds_per_step"], indent=1))


if __name__ == "__main__":
    main()
