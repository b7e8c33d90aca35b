"""The field's metrics of molecules, for the rows that measurements/rows.py drew.

    python -m measurements.molecules fcd --set=moses --samples=FOLDER        # on an accelerator
    python -m measurements.molecules table --set=moses --samples=FOLDER --output=FILE.json
    python -m measurements.molecules figure --set=moses --samples=FOLDER --output=FILE.png --only="Euler 128" --only="path-KL student 8"

`fcd` writes the Frechet ChemNet distance of every row beside it, since ChemNet wants an accelerator. `table` judges all the rest, on
CPUs, against the whole test split, and the distance too where `fcd` has not written it. A row that is done is not done again.
`figure` draws the properties of rows beside those of the test split.
"""

import argparse
import concurrent.futures
import importlib.metadata
import json
import multiprocessing
import pathlib
import sys
from typing import Any

import numpy as np

from lsd_jax.experiment.records import environment, revision, write_json
from lsd_jax.experiment.report import figures
from lsd_jax.files import write_whole
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.metric import Metrics
from lsd_jax.metrics.molecules import chemistry
from lsd_jax.metrics.molecules import fcd as chemnet
from lsd_jax.metrics.molecules import table as tables
from lsd_jax.tasks.molecules import Molecules
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Judge
from measurements.rows import SETS

_SETS = ("moses", "moses_selfies", "qm9", "qm9_selfies", "qm9_uniform")
_NATS = ("nats", "quarter", "elbo", "alone_nats")


def fcd(args: argparse.Namespace, argv: list[str]) -> None:
    """Writes {"fcd": [value, low, high], ...} of the valid molecules beside every row. RDKit and the roots have processes of their own."""
    task = make_task(SETS[args.set], Judge(references=args.references))
    known = tables.gaussians(task.references)
    todo = [file for file in sorted(args.samples.glob("*.npz")) if not _beside(file).exists()]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(args.processes, mp_context=context) as pool:
        texts = {}
        for file in todo:
            with np.load(file) as saved:
                texts[file] = pool.submit(
                    chemistry.canonical, [task.decode(row) for row in saved["tokens"][: args.count]]
                )
        found = {}
        for file, job in texts.items():
            valid = [text for text in job.result() if text][: args.valid or None]
            if len(valid) >= chemnet.LEAST:
                features = chemnet.features(valid)
                found[file] = pool.submit(chemnet.distances, features, known, args.seed, args.resamples)
                print(file.name, len(valid), flush=True)
        for file, job in found.items():
            write_whole(_beside(file), json.dumps(job.result()))


def _beside(row: pathlib.Path) -> pathlib.Path:
    return row.with_suffix(".fcd.json")


def table(args: argparse.Namespace, argv: list[str]) -> None:
    """Judges the rows and writes the record; a part of it after every row."""
    if args.output is None:
        raise SystemExit("error: --output: table writes a JSON file")
    task = make_task(SETS[args.set], Judge(references=args.references))
    record = {
        "command": " ".join(["python -m measurements.molecules", *argv]),
        "revision": revision(),
        "environment": environment() | {"rdkit": importlib.metadata.version("rdkit")},
        "rows": [],
    }
    if args.output.exists():
        record["rows"] = json.loads(args.output.read_text())["rows"]
    done = {row["file"] for row in record["rows"]}
    if "training" not in done and (not args.only or "training set" in args.only):
        split = task.split("train")
        chosen = split[np.random.default_rng(0).choice(len(split), args.count, replace=False)]
        metrics = _judged(task, chosen, task.has_fcd, True, args)
        record["rows"].append({"file": "training", "name": "training set", "nfe": 0, "metrics": metrics})
    for file in sorted(args.samples.glob("*.npz")):
        if file.name in done:
            continue
        with np.load(file) as saved:
            made, tokens = json.loads(str(saved["record"])), saved["tokens"]
            known = json.loads(_beside(file).read_text()) if _beside(file).exists() else {}
            whole = not args.only or (f"{made['name']} {made['steps']}" in args.only and made["seed"] == 0)
            metrics = _judged(task, tokens[: args.count], task.has_fcd and not known, whole, args)
            metrics |= known | {name: mean_interval(saved[name]) for name in _NATS if name in saved}
            exact, nats = bool(saved.get("exact", False)), saved["nats"].tolist() if "nats" in saved else []
            nfe = float(saved["calls"].mean())
        facts = {"file": file.name, "name": made["name"], "steps": made["steps"], "seed": made["seed"], "drawn": made}
        counted = {"count": min(len(tokens), args.count), "nfe": nfe, "exact": exact}
        record["rows"].append({**facts, **counted, "nats": nats, "metrics": metrics})
        write_json(args.output, record)
        print(
            file.name,
            {name: round(metrics[name][0], 3) for name in ("valid", "fcd", "nats") if name in metrics},
            flush=True,
        )
    write_json(args.output, record)


def _judged(task: Molecules, tokens: np.ndarray, with_fcd: bool, whole: bool, args: argparse.Namespace) -> Metrics:
    """The task's metrics, with or without the distance, which may be known already; or only what strings alone tell."""
    smiles, filters = [task.decode(row) for row in tokens], task.has_filters
    if not whole:
        return tables.of_strings(smiles, task.training, args.seed, args.resamples)[1]
    chosen = {"fcd": with_fcd, "filters": filters, "seed": args.seed, "resamples": args.resamples}
    return tables.measure(smiles, task.references, task.training, **chosen)


def figure(args: argparse.Namespace, argv: list[str]) -> None:
    """Writes a PNG of the properties of test molecules and of the rows named by --only, in their order."""
    if args.output is None or not args.only:
        raise SystemExit("error: --output, --only: figure writes a PNG of the rows that are named")
    task = make_task(SETS[args.set])
    rows = {f"{made['name']} {made['steps']}": file for file, made in _made(args.samples) if made["seed"] == 0}
    if wrong := set(args.only) - set(rows):
        raise SystemExit(f"error: --only={min(wrong)!r}: choose of {sorted(rows)}")
    test = task.split("test")
    chosen = np.random.default_rng(args.seed).choice(len(test), min(len(test), args.count), replace=False)
    found = {"test molecules": task.properties(test[chosen])}
    for name in args.only:
        with np.load(rows[name]) as saved:
            found[f"{name} NFE"] = task.properties(saved["tokens"][: args.count])
    figures.save(figures.histograms(found), args.output.parent, args.output.stem)


def _made(folder: pathlib.Path) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    found = []
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as saved:
            found.append((file, json.loads(str(saved["record"]))))
    return found


def main(argv: list[str] | None = None) -> int:
    """Runs one of the parts."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("fcd", "table", "figure"))
    parser.add_argument("--set", choices=_SETS, default="moses")
    parser.add_argument("--samples", required=True, type=pathlib.Path, help="the folder that measurements.rows wrote")
    parser.add_argument("--output", type=pathlib.Path, help="table: a JSON file; figure: a PNG")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        help='table: a row that is judged whole; figure: one that is drawn; "Euler 8"; repeat',
    )
    parser.add_argument("--count", type=int, default=10_000, help="molecules per row")
    parser.add_argument("--valid", type=int, default=0, help="fcd: of so many valid molecules of every row; 0: of all")
    parser.add_argument("--references", type=int, default=0, help="fcd, table: test molecules; 0: all")
    parser.add_argument("--processes", type=int, default=8, help="fcd: beside ChemNet")
    parser.add_argument("--resamples", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    {"fcd": fcd, "table": table, "figure": figure}[args.part](args, argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
