"""Kills a small study with SIGKILL at random moments, starts it again each time, and compares its end with an undisturbed one.

    python -m measurements.faults --kills=30 --output=docs/results/faults.json

The study trains a network, draws a teacher's paths, plans, optimizes a student, evaluates three samplers and writes the report.
Each run is killed once per stage, at a moment drawn evenly from the time that the stage takes undisturbed, and is started again
in its folder; then the next run begins, until there are enough kills. With several processes one of them is drawn, or all; those
that are left have to end by themselves. Then weights, teacher paths, students, samples, records and the report's table are compared
bit for bit, but for seconds, command, revision and the hash of the weights' file, which holds the hours of training.

The exit code is 1 if something was lost. Programs are compiled once, into a cache beside the runs.
"""

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from lsd_jax.experiment.records import revision, write_json

_SMALL = """
cpu_devices=1 data.vocab_size=8 data.sequence_length=12 data.mix=0.01 model.name=ddit model.dim=16
model.depth=1 model.heads=1 training.steps=100 training.batch_size=8 training.checkpoint_every=20
training.validation_sequences=32 teacher.steps=12 teacher.paths=32 student.grid_points=12 student.steps=(4,)
student.order=fixed distill.steps=60 distill.batch_size=8 distill.checkpoint_every=20 evaluation.num_samples=32
evaluation.batch_size=32 evaluation.held_out=32 evaluation.weighted=0 evaluation.reference_steps=0
evaluation.temperatures=()
"""
STUDY = ("--config=configs/countdown.py", *(f"--config.{field}" for field in _SMALL.split()))
STAGES = ("start", "train", "teacher", "plan", "optimize", "evaluate", "report")
_OF_NO_RESULT = ("seconds", "seconds_per_sequence", "distill_seconds", "command", "revision", "sha256")
_POLL = 0.02  # seconds
_PATIENCE = 120  # seconds in which the processes that are left must end


@dataclasses.dataclass(frozen=True)
class Kill:
    """When to kill, and whom: `delay` seconds after `stage` has begun, the processes of `victims`."""

    stage: str
    delay: float
    victims: tuple[int, ...]


class Start:
    """One start of the study in `workdir` with a number of processes; `logs` is the folder of their output."""

    def __init__(self, workdir: pathlib.Path, logs: pathlib.Path, processes: int, study: Sequence[str] = STUDY):
        self.workdir = workdir
        logs.mkdir(parents=True, exist_ok=True)
        number = len(list(logs.iterdir())) // processes
        self.logs = [logs / f"{number}_{index}.log" for index in range(processes)]
        command = [sys.executable, "-m", "lsd_jax.main", *study, f"--workdir={workdir}"]
        commands = [command]
        if processes > 1:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                address = f"127.0.0.1:{free.getsockname()[1]}"
            command += ["--distributed", f"--coordinator={address}", f"--num_processes={processes}"]
            commands = [[*command, f"--process_id={index}"] for index in range(processes)]
        self.processes = []
        for own, log in zip(commands, self.logs):
            with log.open("w") as stream:
                self.processes.append(subprocess.Popen(own, stdout=stream, stderr=subprocess.STDOUT))

    def stage(self) -> str:
        """What is being made, by the files that are there and by the log of this start."""
        done, log = self.workdir, self.logs[0].read_text(errors="replace")
        if "devices [" not in log or not (done / "config.json").exists():
            return "start"
        if not (done / "train" / "weights.safetensors").exists():
            return "train"
        if not any(done.glob("teacher/*.npz")):
            return "teacher"
        if "all students are distilled" not in log and "distilled M=" not in log:
            return "optimize" if "orders and grids:" in log else "plan"
        return "report" if "network evaluations" in log and _finished(log) else "evaluate"

    def follow(self, kill: Kill | None = None) -> dict[str, float]:
        """Waits for the end, or kills; stage -> seconds since this start at which it was first seen."""
        began, seen = time.monotonic(), {}
        while any(process.poll() is None for process in self.processes):
            stage, now = self.stage(), time.monotonic() - began
            seen.setdefault(stage, now)
            if kill:
                since = [when for name, when in seen.items() if STAGES.index(name) >= STAGES.index(kill.stage)]
                if since and now >= min(since) + kill.delay:
                    for victim in kill.victims:
                        self.processes[victim].kill()
                    break
            time.sleep(_POLL)
        seen["end"] = time.monotonic() - began
        return seen

    def left_to_end(self) -> float:
        """Waits for the processes that were not killed; the seconds that took, or infinity where they had to be killed."""
        began = time.monotonic()
        for process in self.processes:
            try:
                process.wait(max(_PATIENCE - (time.monotonic() - began), 0.1))
            except subprocess.TimeoutExpired:
                for other in self.processes:
                    other.kill()
                    other.wait()
                return float("inf")
        return time.monotonic() - began

    @property
    def codes(self) -> list[int | None]:
        """The exit codes."""
        return [process.returncode for process in self.processes]

    def tail(self) -> str:
        """The ends of the logs."""
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in self.logs)


def _finished(log: str) -> bool:
    """Whether the log says that the last cell is evaluated, or that none was left."""
    counts = re.findall(r"evaluate, network evaluations (\d+)/(\d+)", log)
    return "all cells are evaluated" in log or (bool(counts) and counts[-1][0] == counts[-1][1])


def contents(workdir: pathlib.Path) -> dict[str, str]:
    """What a finished run is compared by: name -> hash of tensors, arrays, or a record without what is of no result."""
    found = {"weights": _hash(load_file(workdir / "train" / "weights.safetensors"))}
    for file in sorted(workdir.glob("teacher/*.npz")):
        found["teacher"] = _hash({name: array for name, array in np.load(file).items() if name != "recipe"})
    for file in sorted(workdir.glob("cells/*.npz")):
        found[f"cells/{file.name}"] = _hash(dict(np.load(file)))
    for file in sorted([*workdir.glob("students/*/student.json"), *workdir.glob("cells/*.json")]):
        found[str(file.relative_to(workdir))] = _hash(_of_result(json.loads(file.read_text())))
    found["report"] = _hash(_of_result(json.loads((workdir / "report" / "metrics.json").read_text())))
    return found


def _of_result(record: Any) -> Any:
    if isinstance(record, dict):
        return {name: _of_result(value) for name, value in record.items() if name not in _OF_NO_RESULT}
    return [_of_result(value) for value in record] if isinstance(record, list) else record


def _hash(tree: Any) -> str:
    if isinstance(tree, dict) and all(isinstance(value, np.ndarray) for value in tree.values()):
        tree = {name: [str(a.dtype), a.shape, a.tobytes().hex()] for name, a in tree.items()}
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def undisturbed(folder: pathlib.Path, processes: int, study: Sequence[str] = STUDY) -> tuple[dict[str, str], dict]:
    """The contents of a run that nobody disturbs, and stage -> its seconds; run twice, since the first one compiles.

    Raises:
        RuntimeError: it fails, or the two differ.
    """
    ends = []
    for name in ("compiling", "undisturbed"):
        start = Start(folder / name, folder / f"{name}_logs", processes, study)
        seen = start.follow()
        if any(start.codes):
            raise RuntimeError(f"the undisturbed run fails:\n{start.tail()}")
        ends.append(contents(folder / name))
    if ends[0] != ends[1]:
        raise RuntimeError(f"two undisturbed runs differ: {differing(*ends)}")
    times = [*seen.values()]
    return ends[1], {stage: end - begin for stage, begin, end in zip(seen, times, times[1:])}


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The names whose contents differ or are on one side only."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def disturbed(
    folder: pathlib.Path,
    processes: int,
    stages: Sequence[str],
    lasts: dict[str, float],
    wanted: dict[str, str],
    rng: random.Random,
    study: Sequence[str] = STUDY,
) -> dict[str, Any]:
    """A run that is killed once in each of `stages`, and its end beside the wanted one.

    Args:
        lasts: stage -> seconds that it takes undisturbed.
        wanted: the contents of the undisturbed run.
    """
    kills, error, began = [], "", time.monotonic()
    for stage in stages:
        victims = rng.choice([(0,)] if processes == 1 else [*((i,) for i in range(processes)), tuple(range(processes))])
        kill = Kill(stage, rng.uniform(0, lasts.get(stage, 1.0)), victims)
        start = Start(folder, folder.with_name(f"{folder.name}_logs"), processes, study)
        seen = start.follow(kill)
        left = start.left_to_end()
        if left == float("inf"):
            error = f"those left did not end within {_PATIENCE} s:\n{start.tail()}"
            break
        if all(start.codes[victim] == -9 for victim in victims):
            *_, last = (name for name in seen if name != "end")
            made = {"stage": last, "seconds_after_start": round(seen["end"], 2), "killed": list(victims)}
            if len(victims) < processes:
                made["the_others_ended_after_seconds"] = round(left, 1)
            kills.append(made)
        elif any(start.codes):  # it failed by itself, before the moment had come
            error = start.tail()
            break
    start = Start(folder, folder.with_name(f"{folder.name}_logs"), processes, study)
    start.follow()
    error = error or (start.tail() if any(start.codes) else "")
    lost = ["the run: " + error] if error else differing(contents(folder), wanted)
    left_over = sum(1 for _ in folder.rglob(".*.partial"))
    seconds = round(time.monotonic() - began, 1)
    return {"processes": processes, "kills": kills, "lost": lost, "partial_files": left_over, "seconds": seconds}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the campaign and writes its record after every run; 1 if something was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="at least so many, for each number of processes")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--minutes", type=float, default=0, help="begin no run after so many; 0: no limit")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, help="of the runs; by default a temporary one")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    folder = (args.folder or pathlib.Path(tempfile.mkdtemp(prefix="lsd_jax_faults_"))).resolve()
    variables = {name: value for name, value in os.environ.items() if name.startswith(("JAX_", "XLA_"))}
    os.environ |= cache_of(folder)
    rng, runs, began = random.Random(args.seed), [], time.monotonic()
    facts = {
        "command": f"python -m measurements.faults --kills={args.kills} --processes {' '.join(map(str, args.processes))} "
        f"--minutes={args.minutes:g} --seed={args.seed} --output={args.output.name}",
        "revision": revision(),
        "seed": args.seed,
        "variables": variables,
        "study": list(STUDY),
        "undisturbed_seconds": {},
    }
    spent = lambda: args.minutes and time.monotonic() - began > 60 * args.minutes
    below = {processes: folder / f"{processes}_processes" for processes in args.processes}
    ends = {processes: undisturbed(own, processes) for processes, own in below.items()}
    for processes, (_, lasts) in ends.items():
        facts["undisturbed_seconds"][processes] = {stage: round(seconds, 2) for stage, seconds in lasts.items()}
    for number in itertools.count():
        for processes, (wanted, lasts) in ends.items():
            if tried(runs, processes) < args.kills and not spent():
                run = below[processes] / f"run{number}"
                runs.append(disturbed(run, processes, STAGES, lasts, wanted, rng))
                write_json(args.output, {**facts, **summary(runs), "runs": runs})
                print(json.dumps(runs[-1])[:2000], flush=True)
        if spent() or not runs[-1]["kills"] or min(tried(runs, processes) for processes in ends) >= args.kills:
            break
    return int(any(run["lost"] for run in runs))


def cache_of(folder: pathlib.Path) -> dict[str, str]:
    """Variables that keep every compiled program below a folder."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def tried(runs: Sequence[dict[str, Any]], processes: int) -> int:
    """How many kills there were with a number of processes."""
    return sum(len(run["kills"]) for run in runs if run["processes"] == processes)


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Faults tried, survived and lost, by number of processes and stage; a run that differs loses all its kills."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for run in runs:
        for kill in run["kills"]:
            stages = table.setdefault("1 process" if run["processes"] == 1 else f"{run['processes']} processes", {})
            row = stages.setdefault(kill["stage"], {"tried": 0, "survived": 0, "lost": 0})
            row["tried"] += 1
            row["lost" if run["lost"] else "survived"] += 1
    return {"table": table}


if __name__ == "__main__":
    sys.exit(main())
