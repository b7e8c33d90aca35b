"""Molecules that are asked for a property: how many have it, by the strength of the guidance and the number of evaluations.

    python -m measurements.guidance --property=logP --output=FILE.json

The network reads the bin of the property as the first token of a QM9 molecule (`lsd_jax/tasks/labeled.py`). Every row asks for one value: the
share of all samples that are molecules of its bin, the share that are molecules, and the share of distinct ones among these. Strength 0
says what the lengths of such molecules alone do, and `training_shares` how often molecules lie in the bin that nobody asks for.
Students are distilled once, from the network without a condition; theirs and Euler's rows at a lower temperature are controls of
guidance. A pair of evaluations counts as two wherever the strength is neither
0 nor 1.
"""

import argparse
import json
import pathlib
import sys
import zlib
from typing import Any

import jax
import numpy as np

import lsd_jax as lsd
from lsd_jax.experiment.records import environment, revision
from lsd_jax.files import write_whole
from lsd_jax.keys import sequence_keys
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.molecules import chemistry
from lsd_jax.samplers.simulate import draw_and_count
from lsd_jax.tasks.molecules import Molecules
from measurements.rows import cooled

_QM9 = {"path": "qm9", "vocab_size": 44, "sequence_length": 23}
# Property -> (data, weights, values asked for).
PROPERTIES = {
    "logP": (lsd.Data("molecules_logp", **_QM9), "qm9_logp.safetensors", (-1.25, 0.25, 1.75, 2.75)),
    "QED": (lsd.Data("molecules_qed", **_QM9), "qm9_qed.safetensors", (0.3, 0.425, 0.525, 0.625)),
}
STRENGTHS = (0.0, 1.0, 1.5, 2.0, 3.0)
STUDENTS = (4, 8, 16)
ALONE = "one token at a time"
TEMPERATURE = 0.8  # of the controls, with the condition and no guidance


def samplers(model: lsd.Diffusion, train: np.ndarray) -> dict[str, lsd.Sampler]:
    """name -> sampler, distilled or untuned."""
    students = lsd.distill(model, steps=STUDENTS, data=train)
    found = {f"path-KL student {steps}": student for steps, student in students.items()}
    for steps in STUDENTS:
        coupling = lsd.Coupling("low_discrepancy")
        found[f"golden order, cosine grid {steps}"] = lsd.sampler("tweedie", steps, grid="cosine", coupling=coupling)
    for steps in (*STUDENTS, 64):
        found[f"Euler {steps}"] = lsd.sampler("euler", steps)
    return found | {ALONE: lsd.sampler("any_order", train.shape[1])}


def row(
    task: Molecules, model: lsd.Diffusion, drawn: lsd.Sampler, value: float, seed: int, count: int
) -> dict[str, Any]:
    """The mean number of calls of the model, and the shares of one row, each with its 95 % bootstrap interval."""
    condition, keys = task.condition(f"{task.label}={value}", count), sequence_keys(jax.random.key(seed), count)
    tokens, calls = draw_and_count(model, drawn.bound_to(model, task.length), keys, min(count, 256), condition)
    wanted = task.vocabulary[condition.tokens_BL[0, 0]]
    texts = chemistry.canonical(task.decode(tokens_L) for tokens_L in tokens)
    valid = [text for text in texts if text is not None]
    right_N = [text is not None and task.bin_of(text) == wanted for text in texts]
    shares = {"in_bin": right_N, "valid": [text is not None for text in texts]}
    shares["distinct"] = chemistry.unique(valid, count) if valid else [0.0]
    found = {name: list(mean_interval(values, seed, 1000)) for name, values in shares.items()}
    return {"calls": float(calls.mean()), **found}


def main(argv: list[str] | None = None) -> int:
    """Draws every row, and writes the record; a part of it after every row."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--property", choices=PROPERTIES, default="logP")
    parser.add_argument("--weights", help="of another network than the shipped one")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="a JSON file")
    parser.add_argument("--count", type=int, default=512, help="molecules per row")
    parser.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS)
    parser.add_argument("--values", type=float, nargs="+", help="of the property")
    args = parser.parse_args(argv)
    data, weights, values = PROPERTIES[args.property]
    task, values = lsd.make_task(data), args.values or values
    model = lsd.load_model("ddit", args.weights or weights)
    record = {"command": " ".join(["python -m measurements.guidance", *argv]), "revision": revision()}
    record |= {"property": task.label}
    record |= {"environment": environment(), "network": model.identity._asdict(), "count": args.count, "rows": []}
    train_N = task.split("train")[:, 0]
    record["training_shares"] = {
        str(value): float((train_N == task.condition(f"{task.label}={value}", 1).tokens_BL[0, 0]).mean())
        for value in values
    }
    for name, drawn in samplers(model, task.split("train")).items():
        rows = [(strength, drawn, name) for strength in args.strengths]
        if name.startswith(("Euler", "path-KL")):
            rows.append((1.0, cooled(drawn, TEMPERATURE), f"{name}, T={TEMPERATURE}"))
        for strength, each, label in rows:
            guided = model if strength == 1 else lsd.guided(model, lsd.without(model, [0]), strength)
            for value in values:
                seed = zlib.crc32(f"{label} {strength} {value}".encode())
                found = row(task, guided, each, value, seed, args.count)
                evaluations = found.pop("calls") * (1 if strength in (0, 1) else 2)
                facts = {"sampler": label, "strength": strength, "value": value, "evaluations": evaluations}
                record["rows"].append({**facts, **found})
                write_whole(args.output, json.dumps(record, indent=1))
                print(label, strength, value, {name: round(share[0], 3) for name, share in found.items()}, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
