"""Runs many small steps, and records what the process holds in memory and what it keeps on the disk.

    python -m measurements.soak --steps=10000 --output=FILE.json
    python -m measurements.soak --steps=200000 --minutes=60 --output=docs/results/soak.json

Half of the steps train the network of measurements/faults.py's study, and half optimize its student of 4 steps; a checkpoint every
500 steps, logs as always. With `--minutes` the optimization goes on until then, and is stopped by SIGTERM. Resident memory is read from
/proc (Linux) while the command runs, with the bytes of its logs (its output, metrics.jsonl and TensorBoard's events) and of its
checkpoints. The record is written anew after every sample.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from lsd_jax.checkpoints import STOPPED
from lsd_jax.experiment.records import revision, write_json
from measurements.faults import STUDY

PHASES = {"training": "train", "optimization": "students/M4"}  # their folders below the run's
_ENDLESS = 1_000_000_000  # steps
_EARLY = 0.2  # of a phase: by then its programs are compiled and the first checkpoints are written


def sampled(process: subprocess.Popen, workdir: pathlib.Path, output: pathlib.Path) -> dict[str, Any]:
    """Which step of which phase a process is at, its memory, and what it has written; empty where it has ended."""
    try:
        lines = pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    except (FileNotFoundError, StopIteration):
        return {}
    phase, step = "", 0
    for name, folder in PHASES.items():
        if (told := workdir / folder / "metrics.jsonl").exists() and (written := told.read_text().splitlines()):
            phase, step = name, json.loads(written[-1])["step"]
    sizes = {"logs": output.stat().st_size, "checkpoints": 0}
    for folder, _, names in os.walk(workdir):  # passes over folders that have just been removed
        for name in names:
            kind = "checkpoints" if "checkpoints" in folder else "logs"
            if kind == "checkpoints" or name == "metrics.jsonl" or name.startswith("events.out."):
                with contextlib.suppress(FileNotFoundError):
                    sizes[kind] += os.stat(os.path.join(folder, name)).st_size
    return {
        "phase": phase,
        "step": step,
        "resident_mb": round(resident / 1024, 1),
        "logs_bytes": sizes["logs"],
        "checkpoints_bytes": sizes["checkpoints"],
    }


def growth(samples: Sequence[dict[str, Any]], steps: dict[str, int]) -> dict[str, dict[str, float]]:
    """Of every phase of so many steps: memory after a fifth of it, at its end and at most, and bytes of logs per 1,000 steps."""
    table = {}
    for phase in PHASES:
        own = [sample for sample in samples if sample["phase"] == phase]
        ended = [index for index, sample in enumerate(own) if sample["step"] >= steps[phase]]
        own = own[: ended[0] + 1] if ended else own  # what comes after its last step is another stage's
        later = [sample for sample in own if sample["step"] >= _EARLY * own[-1]["step"]]
        if len(later) < 2 or later[0]["step"] == later[-1]["step"]:
            continue
        first, last = later[0], later[-1]
        thousands = (last["step"] - first["step"]) / 1000
        table[phase] = {
            "from_step": first["step"],
            "to_step": last["step"],
            "resident_mb_early": first["resident_mb"],
            "resident_mb_late": last["resident_mb"],
            "resident_mb_most": max(sample["resident_mb"] for sample in own),
            "logs_bytes_per_1000_steps": round((last["logs_bytes"] - first["logs_bytes"]) / thousands),
            "checkpoints_bytes_most": max(sample["checkpoints_bytes"] for sample in own),
        }
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command to its end and writes the record; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000, help="of both phases together")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so many; 0: after the steps")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two samples")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    half = args.steps // 2
    steps = {"training": half, "optimization": _ENDLESS if args.minutes else half}
    more = [f"--config.training.steps={half}", f"--config.distill.steps={steps['optimization']}"]
    more += [f"--config.{section}.checkpoint_every=500" for section in ("training", "distill")]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lsd_jax_soak_"))
    command = [sys.executable, "-m", "lsd_jax.main", *STUDY, *more, f"--workdir={folder / 'run'}"]
    samples, began = [], time.monotonic()
    with (folder / "output.log").open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    record = {
        "command": f"python -m measurements.soak --steps={args.steps} --minutes={args.minutes:g} --every={args.every:g} "
        f"--output={args.output.name}",
        "revision": revision(),
        "arguments": [*STUDY, *more],
    }
    while process.poll() is None:
        spent = time.monotonic() - began
        if sample := sampled(process, folder / "run", folder / "output.log"):
            samples.append({"seconds": round(spent, 1), **sample})
            record |= {"seconds": round(spent, 1), "growth": growth(samples, steps)}
            write_json(args.output, {**record, "samples": samples[:: max(len(samples) // 200, 1)]})
        if args.minutes and spent > 60 * args.minutes:
            process.terminate()
        time.sleep(args.every)
    wanted = STOPPED if args.minutes else 0
    if process.returncode != wanted:
        print((folder / "output.log").read_text()[-3000:], file=sys.stderr)
    record |= {"exit_code": process.returncode, "seconds": round(time.monotonic() - began, 1)}
    write_json(args.output, {**record, "samples": samples[:: max(len(samples) // 200, 1)]})
    print(json.dumps(record["growth"], indent=1))
    return int(process.returncode != wanted)


if __name__ == "__main__":
    sys.exit(main())
