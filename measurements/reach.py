"""What pair potentials between the tokens of a step win, by how far to the left they reach, as tables and in low rank.

    python -m measurements.reach --set=qm9 --steps 4 8 16 --reaches 4 21 --output=FILE.json

The order and the grid are a student's of so many steps, fitted on other training sequences. Potentials are fitted on three quarters
of `--count` sequences, and the last quarter says what they win, in nats per sequence.
"""

import argparse
import pathlib
import sys

import jax
import numpy as np

import lsd_jax as lsd
from lsd_jax.distill.potentials.absorbing import MAX_TABLE, fit
from lsd_jax.distill.problem import Plan
from lsd_jax.experiment.records import environment, revision, write_json
from lsd_jax.keys import sequence_keys
from measurements.rows import SETS


def main(argv: list[str] | None = None) -> int:
    """Writes the record, a row at a time."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path, help="a JSON file")
    parser.add_argument("--steps", type=int, nargs="+", required=True)
    parser.add_argument("--reaches", type=int, nargs="+", required=True)
    parser.add_argument(
        "--count", type=int, default=4096, help="training sequences that potentials are fitted on and judged by"
    )
    parser.add_argument("--train", type=int, default=8192, help="training sequences before them, for orders and grids")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    model, task, length = lsd.load_model(args.set), lsd.make_task(SETS[args.set]), SETS[args.set].sequence_length
    train = task.split("train")
    teacher = lsd.TeacherSettings("data", steps=length, paths=256)
    student = lsd.StudentSettings(grid_points=min(length - 2, 48))
    students = lsd.distill(
        model, args.steps, data=train[: args.train], student=student, teacher=teacher, seed=args.seed
    )
    tokens = train[args.train : args.train + args.count]
    facts = {
        "command": " ".join(["python -m measurements.reach", *argv]),
        "revision": revision(),
        "environment": environment(),
    }
    rows = []
    for steps, sampler in students.items():
        plan = Plan(sampler.coupling, np.asarray(sampler.schedule.time_grid), {})
        for reach in args.reaches:
            for kind, max_table in (("table", MAX_TABLE), ("low rank", 0)):
                keys = sequence_keys(jax.random.key(args.seed), len(tokens))
                found = fit(model, plan, tokens, keys, reach, max_table)
                row = {"steps": steps, "reach": reach, "kind": kind}
                row |= {"independent_nats": found.independent_nats, "nats": found.nats}
                rows.append(row | {"order": str(sampler.coupling)})
                print(row, flush=True)
                write_json(args.output, facts | {"rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
