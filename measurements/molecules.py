"""Samplers of a shipped model of molecules on the field's metrics, with as many molecules as the field takes.

python -m measurements.molecules draw --set=moses --students=RUN --students=RUN --output=FOLDER
python -m measurements.molecules table --set=moses --samples=FOLDER --output=FILE.json

`draw` runs every sampler, best on an accelerator, and writes one file per row: its tokens, its network evaluations, what test
molecules cost it, and with --chemnet the Frechet ChemNet distance, whose network wants an accelerator too. RUN is the run directory of `--stage=distill --config=configs/molecules.py`, one per seed. `table` judges them, on
CPUs: FCD and what belongs to it against the whole test split. A file that is there is not made again.
"""

import argparse
import concurrent.futures
import importlib.metadata
import json
import pathlib
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import lsd_jax as lsd
from lsd_jax.experiment.records import environment, revision, write_json
from lsd_jax.files import write_whole
from lsd_jax.keys import sequence_keys
from lsd_jax.metrics import fid
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.metric import Metrics
from lsd_jax.metrics.molecules import chemistry, fcd
from lsd_jax.metrics.molecules import table as tables
from lsd_jax.models.model import Diffusion
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.likelihood import path_costs
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.simulate import draw_and_count
from lsd_jax.tasks.molecules import Molecules
from lsd_jax.tasks.task import Judge

SETS = {"moses": (25, 56), "qm9": (31, 22)}  # vocab_size, sequence_length
FEW = (4, 8, 16, 32)
_GOLDEN = Coupling("low_discrepancy", "golden")
# Row -> (sampler, settings, its numbers of steps; 0: as many as there are positions).
RIVALS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "Euler": ("euler", {}, (4, 8, 16, 32, 64, 128)),
    "one token at a time (exact)": ("first_hitting", {}, (0,)),
    "one token at a time, surest first": ("margin", {}, (0,)),
    "golden order, cosine grid": ("tweedie", {"grid": "cosine", "coupling": _GOLDEN}, FEW),
    "Tweedie, cosine grid": ("tweedie", {"grid": "cosine"}, FEW),
    "MaskGIT, cosine grid, choice T=1": ("maskgit_cool", {"grid": "cosine"}, FEW),
    "top-k margin": ("margin", {}, FEW),
    "Euler, T=0.8": ("euler", {"temperature": 0.8}, FEW),
    "ReMDM conf, top-p 0.9": ("remdm_conf", {"top_p": 0.9}, FEW),
    "k-Gillespie": ("gillespie", {}, FEW),
    "entropy bound": ("eb", {}, (8, 16)),
}


def rows(length: int, students: list[pathlib.Path]) -> Iterator[tuple[str, int, int, Sampler]]:
    """(name, steps, seed of a student's fit, sampler) of every row."""
    for seed, run in enumerate(students):
        files = sorted(run.glob("students/path_kl_student/M*/student.json"))
        if not files:
            raise SystemExit(f"error: --students={str(run)!r}: holds no student.json")
        for file in files:
            student = lsd.load_sampler(file)
            yield "path-KL student", student.schedule.steps, seed, student
    for name, (kind, settings, budgets) in RIVALS.items():
        for steps in budgets:
            if steps <= 6 * length:
                yield name, steps or length, 0, lsd.sampler(kind, steps or length, **settings)


def draw(args: argparse.Namespace, argv: list[str]) -> None:
    """Writes one .npz per row."""
    vocab_size, length = SETS[args.set]
    task = Molecules(lsd.Data("molecules", path=args.set, vocab_size=vocab_size, sequence_length=length))
    model, held_out = lsd.load_model(args.set), task.split("test")[: args.held_out]
    facts = {"command": " ".join(["python -m measurements.molecules", *argv]), "revision": revision(), **environment()}

    def one(name: str, steps: int, seed: int, sampler: Sampler) -> str:
        path = args.output / f"{name.replace(' ', '_')}-{steps}-{seed}.npz"
        if path.exists():
            return f"{path.name} exists"
        began = time.monotonic()
        bound = sampler.bound_to(model, length)
        keys = sequence_keys(jax.random.key(zlib.crc32(path.name.encode())), args.count)
        tokens, calls = draw_and_count(model, bound, keys, args.batch_size)
        found = {"tokens": tokens, "calls": calls, **_nats(model, bound, held_out, args)}
        found |= _fcd([task.decode(row) for row in tokens], gaussians, args)
        record = json.dumps({**facts, "name": name, "steps": steps, "seed": seed})
        write_whole(path, lambda stream: np.savez_compressed(stream, record=record, **found))
        return f"{path.name}: {time.monotonic() - began:.0f} s"

    gaussians = {}
    for entry in args.chemnet:
        suffix, _, file = entry.partition("=")
        with np.load(file) as saved:
            gaussians["fcd" + suffix] = fid.Gaussian(saved["mean"], saved["covariance"])
    args.output.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(args.threads) as pool:  # programs are compiled beside each other
        wanted = [row for row in rows(length, args.students) if not args.only or f"{row[0]} {row[1]}" in args.only]
        if not wanted:
            raise SystemExit(f'error: --only={args.only}: names no row, which is a sampler and its steps, as "Euler 8"')
        jobs = [pool.submit(one, *row) for row in wanted]
        for job in concurrent.futures.as_completed(jobs):
            print(job.result(), flush=True)


def _nats(model: Diffusion, bound: Sampler, held_out: np.ndarray, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """-log p (n,) of test molecules, nats, of all paths and of a quarter, and the bound; nothing where there is no likelihood."""
    if not len(held_out) or not bound.has_likelihood(model.process):
        return {}
    costs = path_costs(model, bound, jax.random.key(args.seed), held_out, args.paths, args.batch_size)
    found = {"nats": costs.weighted(), "elbo": costs.elbo, "exact": np.array(costs.exact)}
    return found if costs.exact else {**found, "quarter": costs.weighted(max(args.paths // 4, 1))}


def _fcd(smiles: list[str], gaussians: dict[str, fid.Gaussian], args: argparse.Namespace) -> dict[str, np.ndarray]:
    """name -> (value, low, high) of the valid molecules."""
    if not gaussians:
        return {}
    valid = [text for text in chemistry.canonical(smiles) if text]
    if len(valid) < fcd.LEAST:
        return {}
    found = fcd.distances(fcd.features(valid), gaussians, args.seed, args.resamples)
    return {name: np.array(values) for name, values in found.items()}


def table(args: argparse.Namespace, argv: list[str]) -> None:
    """Judges the rows and writes the record; a part of it after every row."""
    vocab_size, length = SETS[args.set]
    data = lsd.Data("molecules", path=args.set, vocab_size=vocab_size, sequence_length=length)
    task = Molecules(data, Judge(references=args.references))
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
            known = "fcd" in saved and len(tokens) <= args.count
            whole = not args.only or (f"{made['name']} {made['steps']}" in args.only and made["seed"] == 0)
            metrics = _judged(task, tokens[: args.count], task.has_fcd and not known, whole, args)
            metrics |= {name: mean_interval(saved[name]) for name in ("nats", "quarter", "elbo") if name in saved}
            metrics |= {name: saved[name].tolist() for name in ("fcd", "fcd_sf") if known and name in saved}
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


def main(argv: list[str] | None = None) -> int:
    """Runs one of the two parts."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("draw", "table"))
    parser.add_argument("--set", choices=SETS, default="moses")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="draw: a folder; table: a JSON file")
    parser.add_argument(
        "--students", action="append", default=[], type=pathlib.Path, help="draw: a run directory; repeat"
    )
    parser.add_argument("--samples", type=pathlib.Path, help="table: the folder that draw wrote")
    parser.add_argument(
        "--only", action="append", default=[], help='a row, for example "Euler 8"; table: that is judged whole; repeat'
    )
    parser.add_argument("--count", type=int, default=10_000, help="molecules per row")
    parser.add_argument("--held_out", type=int, default=256, help="draw: test molecules for the likelihood")
    parser.add_argument("--paths", type=int, default=32, help="draw: orders that it is weighted over")
    parser.add_argument("--batch_size", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=4, help="draw: rows at a time")
    parser.add_argument("--references", type=int, default=0, help="table: test molecules; 0: all")
    parser.add_argument(
        "--chemnet", action="append", default=[], metavar="SUFFIX=FILE", help="draw: ChemNet statistics; repeat"
    )
    parser.add_argument("--resamples", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.part == "table" and args.samples is None:
        parser.error("table needs --samples, the folder that draw wrote")
    (draw if args.part == "draw" else table)(args, argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
