"""Molecules in orders by what the network believes a token to be: parentheses, ring digits and bonds before or after atoms.

    python -m measurements.structure --set=qm9 --output=FILE.json

Which tokens are structure is not known while they are masked, so the order goes by the probability that the network gives to structure, at
no further evaluation. Each order reveals as many positions a step as the top-k margin, which is the first row, and has as exact a likelihood.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import lsd_jax as lsd
from lsd_jax.experiment.records import environment, revision
from lsd_jax.files import write_whole
from lsd_jax.keys import sequence_keys
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.molecules import table
from lsd_jax.samplers.kernels.confidence import MARGIN, margin, ordered
from lsd_jax.samplers.likelihood import path_costs
from lsd_jax.samplers.simulate import draw_and_count
from lsd_jax.tasks.smiles import VOCABULARIES
from measurements.rows import SETS

Measure = Callable[[jax.Array], jax.Array]  # log-probabilities (B, L, S) -> how early a position is revealed (B, L)


def orders(vocabulary: tuple[str, ...]) -> dict[str, Measure]:
    """name -> an order; "class" is structure (parentheses, ring digits, bonds) or atom."""
    structure_S = jnp.array([not (token[0].isalpha() or token[0] == "[") for token in vocabulary])
    mass = lambda log_prob_BLS: jnp.exp(log_prob_BLS)[..., : len(vocabulary)] @ structure_S.astype(jnp.float32)
    return {
        "top-k margin": margin,
        "likeliest structure first": mass,
        "likeliest atoms first": lambda log_prob_BLS: -mass(log_prob_BLS),
        "surest class first": lambda log_prob_BLS: jnp.abs(2 * mass(log_prob_BLS) - 1),
        "structure first, by margin": lambda log_prob_BLS: (mass(log_prob_BLS) > 0.5) + margin(log_prob_BLS),
        "atoms first, by margin": lambda log_prob_BLS: (mass(log_prob_BLS) < 0.5) + margin(log_prob_BLS),
    }


def main(argv: list[str] | None = None) -> int:
    """Draws and judges every order, and writes the record; a part of it after every row."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=tuple(VOCABULARIES), default="qm9")
    parser.add_argument("--output", required=True, type=pathlib.Path, help="a JSON file")
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--count", type=int, default=2000, help="molecules per row")
    parser.add_argument("--held_out", type=int, default=256, help="test molecules for the likelihood")
    parser.add_argument("--batch_size", type=int, default=250)
    args = parser.parse_args(argv)
    task, model = lsd.make_task(SETS[args.set]), lsd.load_model(args.set)
    training, held_out = frozenset(task.training), task.split("test")[: args.held_out]
    record = {"command": " ".join(["python -m measurements.structure", *argv]), "revision": revision()}
    record |= {"environment": environment(), "count": args.count, "rows": []}
    for steps in args.steps:
        plain = []
        for name, measure in orders(VOCABULARIES[args.set]).items():
            kernel = MARGIN._replace(name=name, step=ordered(measure))
            bound = dataclasses.replace(lsd.sampler("margin", steps), kernel=kernel).bound_to(model, task.length)
            keys = sequence_keys(jax.random.key(zlib.crc32(f"{name} {steps}".encode())), args.count)
            tokens, _ = draw_and_count(model, bound, keys, args.batch_size)
            found = table.of_strings([task.decode(row) for row in tokens], training, 0, 1000)[1]
            nats = path_costs(model, bound, jax.random.key(0), held_out, 1, args.batch_size).weighted()
            plain = nats if not len(plain) else plain
            found |= {"nats": mean_interval(nats), "nats_above_margin": mean_interval(nats - plain)}
            record["rows"].append({"name": name, "steps": steps, "metrics": found})
            write_whole(args.output, json.dumps(record, indent=1))
            print(name, steps, {key: np.round(value, 3).tolist() for key, value in found.items()}, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
