"""What text alone tells of the rows that measurements/rows.py drew, and their likelihoods side by side.

    python -m measurements.rows --set=subwords --output=FOLDER --count=1024 --held_out=128 --paths=64    # on an accelerator
    python -m measurements.subwords --samples=FOLDER --output=FILE.json

The record holds every metric of the task with its interval, -log p of each test sequence, its difference from --ours of the same
seed where there is one, and the first samples. A row that is in the record is not judged again.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import lsd_jax as lsd
from lsd_jax.experiment.records import environment, revision, write_json
from lsd_jax.experiment.report.figures import COLORS
from lsd_jax.metrics.bootstrap import mean_interval
from measurements.rows import SETS

_NATS = ("nats", "quarter", "elbo", "alone_nats", "alone_elbo")
_SAMPLES = 4
_SHOWN = {
    "path-KL student": "o-",
    "Euler": "s-",
    "golden order, cosine grid": "D-",
    "Euler, T=0.8": "^-",
    "Tweedie, cosine grid": "v-",
    "one token at a time, surest first": "P",
    "top-k margin": "X-",
}


def judged(file: pathlib.Path, task: lsd.Task, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the record."""
    with np.load(file) as saved:
        made, tokens = json.loads(str(saved["record"])), saved["tokens"][: args.count]
        metrics = {name: list(values) for name, values in task.measure(tokens, args.seed, args.resamples).items()}
        metrics |= {name: mean_interval(saved[name]) for name in _NATS if name in saved}
        nats = np.round(saved["nats"], 3).tolist() if "nats" in saved else []
        facts = {"nfe": float(saved["calls"].mean()), "exact": bool(saved.get("exact", False)), "count": len(tokens)}
    named = {name: made.pop(name) for name in ("name", "steps", "seed")}
    texts = [task.decode(row) for row in tokens[:_SAMPLES]]
    return {"file": file.name, **named, **facts, "metrics": metrics, "nats": nats, "samples": texts, "drawn": made}


def real(task: lsd.Task, args: argparse.Namespace) -> dict[str, Any]:
    """The row of real text: of validation, since the test split is what samples are held against."""
    tokens = task.data_row(args.seed, args.count)
    metrics = {name: list(values) for name, values in task.measure(tokens, args.seed, args.resamples).items()}
    texts = [task.decode(row) for row in tokens[:_SAMPLES]]
    return {
        "file": "",
        "name": "real text",
        "steps": 0,
        "seed": 0,
        "nfe": 0,
        "count": len(tokens),
        "metrics": metrics,
        "samples": texts,
    }


def differences(rows: list[dict[str, Any]], ours: tuple[str, int]) -> None:
    """Adds to every row with a likelihood how many nats per sequence it lies above ours, (mean, standard error), paired."""
    base = [row["nats"] for row in rows if (row["name"], row["steps"]) == ours and row["seed"] == 0]
    for row in rows if base else ():
        if row.get("nats"):
            gap = np.array(row["nats"]) - np.array(base[0])
            row[f"above {ours[0]} {ours[1]}"] = [
                round(float(gap.mean()), 3),
                round(float(gap.std(ddof=1) / len(gap) ** 0.5), 3),
            ]


def figure(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """-log p against network evaluations, one line per sampler; an upper bound where the record does not say exact."""
    drawn = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = drawn.subplots()
    likely = [row for row in rows if row.get("nats")]
    for (name, style), color in zip(_SHOWN.items(), COLORS):
        own = sorted((row for row in likely if row["name"] == name), key=lambda row: row["nfe"])
        found = {row["nfe"]: row["metrics"]["nats"] for row in own}
        axes.plot(list(found), [value[0] for value in found.values()], style, color=color, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks([4, 8, 16, 32, 64, 128], ["4", "8", "16", "32", "64", "128"])
    axes.set_xlabel("network evaluations per sequence of 128 tokens")
    axes.set_ylabel("-log p of test text, nats per sequence")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    drawn.savefig(path, dpi=150)


def main(argv: list[str] | None = None) -> int:
    """Judges the rows and writes the record, a part of it after every row."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", required=True, type=pathlib.Path, help="the folder that measurements.rows wrote")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="a JSON file")
    parser.add_argument("--figure", type=pathlib.Path, help="a PNG file: -log p against network evaluations")
    parser.add_argument("--count", type=int, default=1024, help="samples per row")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    task = lsd.make_task(SETS["subwords"], lsd.Judge(scorer="subwords_scorer.safetensors"))
    record = json.loads(args.output.read_text()) if args.output.exists() else {"rows": [real(task, args)]}
    record |= {"command": " ".join(["python -m measurements.subwords", *argv]), "revision": revision()}
    record["environment"] = environment()
    done = {row["file"] for row in record["rows"]}
    for file in sorted(args.samples.glob("*.npz")):
        if file.name not in done:
            record["rows"].append(judged(file, task, args))
            print(file.name, flush=True)
            write_json(args.output, record)
    for steps in (4, 8, 16, 32):
        differences(record["rows"], ("path-KL student", steps))
    write_json(args.output, record)
    if args.figure:
        figure(record["rows"], args.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
