"""Students of text beside untuned orders by -log p, with enough orders to see how far a bound may still fall.

    python -m measurements.untuned --student=STUDENT.json --student=ANOTHER.json --output=FILE.json

Every student meets untuned orders with as many evaluations as its own, on the same test sequences. A student's -log p is exact where
its orders are few; that of the others is weighted over `--paths` orders, and over fewer of the same ones.
"""

import argparse
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np

import lsd_jax as lsd
from lsd_jax.experiment.records import environment, revision
from lsd_jax.files import write_whole
from lsd_jax.samplers.likelihood import PathCosts, path_costs

_ORDERS = {"golden": "golden", "dilated": "van_der_corput"}
_GRIDS = ("uniform", "cosine")


def rivals(steps: int) -> dict[str, lsd.Sampler]:
    """Untuned orders by name."""
    return {
        f"{name} order, {grid} grid": lsd.sampler(
            "tweedie", steps, grid=grid, coupling=lsd.Coupling("low_discrepancy", generator)
        )
        for name, generator in _ORDERS.items()
        for grid in _GRIDS
    }


def row(name: str, steps: int, costs: PathCosts, ours: np.ndarray) -> dict[str, Any]:
    """Mean -log p by the number of orders, and ours less it where all are used, with one standard error."""
    counts = [1] if costs.exact else [count for count in (4, 16, 64, 256) if count <= costs.nats_NK.shape[1]]
    nats = {count: costs.weighted(0 if costs.exact else count) for count in counts}
    less = ours - nats[counts[-1]]
    facts = {"sampler": name, "nfe": steps, "exact": costs.exact, "effective": float(costs.effective_paths.mean())}
    difference = [float(less.mean()), float(less.std(ddof=1) / np.sqrt(len(less)))]
    return {
        **facts,
        "nats": {str(count): float(values.mean()) for count, values in nats.items()},
        "ours_less": difference,
    }


def main(argv: list[str] | None = None) -> int:
    """Measures every row, and writes the record; a part of it after every row."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", action="append", required=True, help="a student.json of the text model; repeat")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="a JSON file")
    parser.add_argument("--held_out", type=int, default=64, help="test sequences")
    parser.add_argument("--paths", type=int, default=64, help="orders")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    model, task = lsd.load_model("text"), lsd.make_task(lsd.Data("text"))
    test, key = task.split("test")[: args.held_out], jax.random.key(args.seed)
    record = {"command": " ".join(["python -m measurements.untuned", *argv]), "revision": revision(), "rows": []}
    record |= {"environment": environment(), "held_out": args.held_out}
    for path in args.student:
        student = lsd.load_sampler(path)
        steps = student.schedule.steps
        ours = path_costs(model, student.bound_to(model, task.length), key, test, args.paths, args.batch_size)
        record["rows"].append(row("path-KL student", steps, ours, ours.weighted()))
        for name, rival in rivals(steps).items():
            costs = path_costs(model, rival.bound_to(model, task.length), key, test, args.paths, args.batch_size)
            record["rows"].append(row(name, steps, costs, ours.weighted()))
            write_whole(args.output, json.dumps(record, indent=1) + "\n")
            print(record["rows"][-1], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
