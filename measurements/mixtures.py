"""-log p of test sequences under a sweep in either direction and under their mixture, exact, with two random patterns as control.

    python -m measurements.mixtures --set=text --steps=4,8,16 --count=64 --output=FILE.json

Every cyclic shift of every pattern is taken. A mixture costs no network evaluation more than one sweep: each sequence takes one of the
two. The record holds the nats of every sequence; differences are paired.
"""

import argparse
import json
import pathlib
import sys
import time
from typing import Any

import jax
import numpy as np

import lsd_jax as lsd
from lsd_jax.experiment.records import environment, revision, write_json
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.samplers.likelihood import PathCosts, path_costs
from measurements.rows import SETS

_BATCH = 64


def pairs(steps: int, seed: int) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Two patterns of `steps` classes each: the sweeps, and two random ones."""
    rng = np.random.default_rng(seed)
    left, right = tuple(range(steps)), (0, *range(steps - 1, 0, -1))
    return {
        "sweeps": (left, right),
        "random patterns": tuple(tuple(map(int, rng.permutation(steps))) for _ in range(2)),
    }


def row(model: lsd.Diffusion, tokens: np.ndarray, name: str, patterns: tuple, seed: int) -> dict[str, Any]:
    """-log p of every sequence under each of two patterns and under their mixture, and paired differences, nats."""
    started, steps = time.perf_counter(), len(patterns[0])
    mixture = lsd.sampler("tweedie", steps, coupling=lsd.Coupling("low_discrepancy", "pattern", patterns))
    bound = mixture.bound_to(model, tokens.shape[1])
    costs = path_costs(model, bound, jax.random.key(seed), tokens, steps, _BATCH, f"{name}, {steps} steps")
    assert costs.exact
    halves = [PathCosts(half, True).weighted() for half in np.split(costs.nats_NK, 2, axis=1)]
    nats = {"first": halves[0], "second": halves[1], "mixture": costs.weighted()}
    better = min(("first", "second"), key=lambda half: nats[half].mean())
    return {
        "patterns": name,
        "steps": steps,
        "elbo": {half: float(own.mean()) for half, own in zip(("first", "second"), np.split(costs.nats_NK, 2, axis=1))},
        "nats": {own: mean_interval(values) for own, values in nats.items()},
        "mixture less the better one": mean_interval(nats["mixture"] - nats[better]),
        "by sequence": {own: np.round(values, 3).tolist() for own, values in nats.items()},
        "seconds": round(time.perf_counter() - started, 1),
    }


def main(argv: list[str] | None = None) -> int:
    """Measures every M and writes the record, a part of it after every row."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", required=True, choices=sorted(SETS), help="a shipped model and its data")
    parser.add_argument("--steps", default="4,8,16", help="numbers of steps, with commas")
    parser.add_argument("--count", type=int, default=64, help="test sequences")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", required=True, type=pathlib.Path, help="a JSON file")
    args = parser.parse_args(argv)
    model, task = lsd.load_model(args.set), lsd.make_task(SETS[args.set])
    tokens = np.random.default_rng(args.seed).permutation(task.split("test"))[: args.count].astype(np.int32)
    record = json.loads(args.output.read_text()) if args.output.exists() else {"rows": []}
    record |= {"command": " ".join(["python -m measurements.mixtures", *argv]), "revision": revision()}
    record["environment"] = environment()
    for steps in map(int, args.steps.split(",")):
        for name, patterns in pairs(steps, args.seed).items():
            found = row(model, tokens, name, patterns, args.seed)
            record["rows"].append({"set": args.set, "count": len(tokens), "seed": args.seed, **found})
            print(
                json.dumps({key: value for key, value in record["rows"][-1].items() if key != "by sequence"}),
                flush=True,
            )
            write_json(args.output, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
