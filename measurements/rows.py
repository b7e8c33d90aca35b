"""Samplers of a shipped model, each drawn with as many sequences as its field takes and judged by test sequences.

    python -m measurements.rows --set=moses --output=FOLDER

Students are distilled first, by several seeds, with and without pair potentials, on training sequences. Every row, which is a sampler
and its number of steps, becomes one file: its tokens, its network evaluations and what test sequences cost it.
`measurements.molecules` and `measurements.subwords` judge the rows. A file that is there is not made again. Best on an accelerator.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import json
import pathlib
import sys
import time
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

import lsd_jax as lsd
from lsd_jax.experiment.records import environment, revision
from lsd_jax.files import write_whole
from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.likelihood import path_costs
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import uniform_schedule
from lsd_jax.samplers.simulate import draw_and_count
from lsd_jax.samplers.threshold import fit_threshold

# A set's name is that of its model.
SETS = {
    "moses": lsd.Data("molecules", path="moses", vocab_size=25, sequence_length=56),
    "qm9": lsd.Data("molecules", path="qm9", vocab_size=31, sequence_length=22),
    "moses_selfies": lsd.Data("selfies", path="moses", vocab_size=27, sequence_length=56),
    "qm9_selfies": lsd.Data("selfies", path="qm9", vocab_size=31, sequence_length=21),
    "qm9_uniform": lsd.Data("molecules", path="qm9", vocab_size=31, sequence_length=22),
    "subwords": lsd.Data("subwords", vocab_size=1024, sequence_length=128),
    "text": lsd.Data("text", vocab_size=27, sequence_length=128),
}
FEW = (4, 8, 16, 32)
STUDENT = "path-KL student"
PAIRS = f"{STUDENT}, potentials"
MIX = f"{STUDENT}, KL mix 0.5"
JYS = "Tweedie, JYS grid"
COOLED = {f"{STUDENT}, T={temperature}": temperature for temperature in (0.9, 0.8)}
FITTED = "entropy bound, fitted"  # by a threshold that makes the steps the mean; else they are the most, at the published one
_TAIL = 4  # times the mean: the most steps that a fitted threshold allows
_GOLDEN = Coupling("low_discrepancy", "golden")
# Row -> (sampler, settings, its numbers of steps; 0: as many as there are positions).
Rivals = dict[str, tuple[str, dict[str, Any], tuple[int, ...]]]
RIVALS: Rivals = {
    "Euler": ("euler", {}, (4, 8, 16, 32, 64, 128)),
    "one token at a time (exact)": ("first_hitting", {}, (0,)),
    "one token at a time, surest first": ("margin", {}, (0,)),
    "one token at a time (exact), T=0.8": ("first_hitting", {"temperature": 0.8}, (0,)),
    "one token at a time, surest first, T=0.9": ("margin", {"temperature": 0.9}, (0,)),
    "one token at a time, surest first, T=0.8": ("margin", {"temperature": 0.8}, (0,)),
    "golden order, cosine grid": ("tweedie", {"grid": "cosine", "coupling": _GOLDEN}, FEW),
    "Tweedie, cosine grid": ("tweedie", {"grid": "cosine"}, FEW),
    "MaskGIT, cosine grid, choice T=1": ("maskgit_cool", {"grid": "cosine"}, FEW),
    "top-k margin": ("margin", {}, FEW),
    "Euler, T=0.9": ("euler", {"temperature": 0.9}, FEW),
    "Euler, T=0.8": ("euler", {"temperature": 0.8}, FEW),
    "ReMDM conf, top-p 0.9": ("remdm_conf", {"top_p": 0.9}, FEW),
    "k-Gillespie": ("gillespie", {}, FEW),
    "entropy bound": ("eb", {}, (8, 16)),
    FITTED: ("eb", {}, FEW),
}
# Under uniform noise, where tokens change many times and there is no order of reveals.
UNIFORM_RIVALS: Rivals = {
    "Euler": ("euler", {}, (4, 8, 16, 64)),
    "Euler, T=0.8": ("euler", {"temperature": 0.8}, (4, 8, 16)),
    "Tweedie": ("tweedie", {}, (4, 8, 16, 64)),
    "Tweedie, T=0.8": ("tweedie", {"temperature": 0.8}, (4, 8, 16)),
    "Tweedie, cosine grid": ("tweedie", {"grid": "cosine"}, (4, 8, 16)),
    "low-discrepancy draws, cosine grid": ("tweedie", {"grid": "cosine", "coupling": _GOLDEN}, (4, 8, 16)),
    "theta-trapezoidal": ("theta_trapezoidal", {}, (8, 16)),
    "predictor-corrector": ("predictor_corrector", {}, (8, 16)),
    "tau-leaping": ("tau_leaping", {}, (4, 8, 16)),
    "k-Gillespie": ("gillespie", {}, (4, 8, 16)),
    "entropy bound, uniform": ("eb_uniform", {}, (4, 8, 16)),
}


class Row(NamedTuple):
    """A sampler of a table; `seed` is that of a student's fit."""

    name: str
    steps: int
    seed: int
    sampler: Sampler

    @property
    def file(self) -> str:
        return f"{self.name.replace(' ', '_')}-{self.steps}-{self.seed}.npz"


def fitted(process: Process) -> dict[str, tuple[str, ...]]:
    """What is distilled -> the names of its rows."""
    others = (PAIRS, MIX) if process.jumps_once else (JYS,)
    return {STUDENT: (STUDENT, *COOLED), **{name: (name,) for name in others}}


def fits(model: Diffusion, train: np.ndarray, name: str, seed: int, args: argparse.Namespace) -> list[Row]:
    """The students of one seed, which the output folder keeps; with potentials only those of few steps, where they can help."""
    student = lsd.StudentSettings(potentials=args.potentials * (name == PAIRS), grid_points=min(train.shape[1] - 2, 48))
    if not model.process.jumps_once:
        student = dataclasses.replace(student, order="fixed", coupling=IID, grid="jys" if name == JYS else student.grid)
    mix = lsd.OptimizeSettings("kl_mix", steps=100, reverse_share=0.5)
    settings = {
        "student": student,
        "teacher": lsd.TeacherSettings("data", steps=train.shape[1], paths=args.teacher_paths),
        "optimization": mix if name == MIX else lsd.OptimizeSettings(),
        "seed": seed,
        "folder": args.output / "students" / name.replace(" ", "_") / str(seed),
        "provenance": {"revision": revision()},
    }
    budgets = [steps for steps in FEW if steps < train.shape[1] and (steps <= 8 or name != PAIRS)]
    found = lsd.distill(model, budgets, data=train, **settings)
    return [
        Row(row, steps, seed, cooled(sampler, COOLED.get(row, 1.0)))
        for steps, sampler in found.items()
        for row in fitted(model.process)[name]
        if _chosen(steps, args) and _wanted(row, args)
    ]


def cooled(sampler: Sampler, temperature: float) -> Sampler:
    """The same sampler at a lower temperature."""
    params = sampler.schedule.params
    params = dataclasses.replace(params, log_temperature=params.log_temperature + np.log(temperature))
    return dataclasses.replace(sampler, schedule=dataclasses.replace(sampler.schedule, params=params))


def rivals(table: Rivals, length: int, args: argparse.Namespace) -> Iterator[Row]:
    """Every other row."""
    for name, (kind, settings, budgets) in table.items():
        for steps in budgets:
            if steps <= 6 * length and _chosen(steps, args) and _wanted(name, args):
                most = _TAIL * steps if name == FITTED else steps or length
                yield Row(name, steps or length, 0, lsd.sampler(kind, most, **settings))


def _chosen(steps: int, args: argparse.Namespace) -> bool:
    return not steps or not args.steps or steps in args.steps


def _wanted(name: str, args: argparse.Namespace) -> bool:
    return not args.only or name in args.only


def made(model: Diffusion, length: int, row: Row, held_out: np.ndarray, args: argparse.Namespace) -> dict[str, Any]:
    """What a row's file holds."""
    drawn = row.sampler
    if row.name == FITTED:
        key = jax.random.key(args.seed)
        drawn = fit_threshold(model, drawn, row.steps, key, length=length)
    bound = drawn.bound_to(model, length)
    keys = sequence_keys(jax.random.key(zlib.crc32(row.file.encode())), args.count)
    tokens, calls = draw_and_count(model, bound, keys, args.batch_size)
    found = {"tokens": tokens, "calls": calls, **nats(model, bound, held_out, args)}
    if args.skip_alone or row.seed or row.name != STUDENT or not model.process.jumps_once:
        return found
    # The same order, one token at a time: what is left above it is the price of drawing a step's tokens independently.
    slow = dataclasses.replace(bound, schedule=uniform_schedule(4 * length))
    return found | {f"alone_{name}": value for name, value in nats(model, slow, held_out, args).items()}


def nats(model: Diffusion, bound: Sampler, held_out: np.ndarray, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """-log p (n,) of test sequences in nats, of all paths and of a quarter, and the bound; nothing without a likelihood."""
    if not len(held_out) or not bound.has_likelihood(model.process):
        return {}
    costs = path_costs(model, bound, jax.random.key(args.seed), held_out, args.paths, args.batch_size)
    found = {"nats": costs.weighted(), "elbo": costs.elbo, "exact": np.array(costs.exact)}
    return found if costs.exact else {**found, "quarter": costs.weighted(max(args.paths // 4, 1))}


def main(argv: list[str] | None = None) -> int:
    """Draws the rows and writes them."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", choices=SETS, required=True)
    parser.add_argument("--output", required=True, type=pathlib.Path, help="a folder")
    parser.add_argument("--only", action="append", default=[], help='a name of rows, for example "Euler"; repeat')
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[], help="only rows of so many; one token at a time is always made"
    )
    parser.add_argument("--fits", type=int, default=3, help="seeds of students")
    parser.add_argument("--train", type=int, default=8192, help="training sequences that students are fitted on")
    parser.add_argument("--teacher_paths", type=int, default=256, help="of them, for orders and grids")
    parser.add_argument("--potentials", type=int, default=4096, help="of them, for pair potentials")
    parser.add_argument("--count", type=int, default=10_000, help="sequences per row")
    parser.add_argument("--held_out", type=int, default=256, help="test sequences for the likelihood")
    parser.add_argument("--paths", type=int, default=32, help="orders that it is weighted over")
    parser.add_argument("--skip_alone", action="store_true", help="no -log p of students' orders one token at a time")
    parser.add_argument("--batch_size", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=4, help="rows at a time")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    model = lsd.load_model(args.set)
    groups = fitted(model.process)
    table = RIVALS if model.process.jumps_once else UNIFORM_RIVALS
    known = (*itertools.chain(*groups.values()), *table)
    if wrong := set(args.only) - set(known):
        parser.error(f"--only={min(wrong)!r}: choose of {known}")
    if wrong := set(args.steps) - {steps for _, _, budgets in table.values() for steps in budgets if steps}:
        parser.error(f"--steps={min(wrong)}: no row has so many")
    length, task = SETS[args.set].sequence_length, lsd.make_task(SETS[args.set])
    train, held_out = task.split("train")[: args.train], task.split("test")[: args.held_out]
    facts = {"command": " ".join(["python -m measurements.rows", *argv]), "revision": revision(), **environment()}
    args.output.mkdir(parents=True, exist_ok=True)

    def one(row: Row) -> str:
        path, began = args.output / row.file, time.monotonic()
        if path.exists():
            return f"{path.name} exists"
        found = made(model, length, row, held_out, args)
        record = json.dumps({**facts, "name": row.name, "steps": row.steps, "seed": row.seed})
        write_whole(path, lambda stream: np.savez_compressed(stream, record=record, **found))
        return f"{path.name}: {time.monotonic() - began:.0f} s"

    def students(name: str, seed: int) -> str:
        return "\n".join(map(one, fits(model, train, name, seed, args)))

    with concurrent.futures.ThreadPoolExecutor(args.threads) as pool:  # programs are compiled beside each other
        names = [name for name, rows in groups.items() if any(_wanted(row, args) for row in rows)]
        jobs = [pool.submit(students, name, seed) for seed in range(args.fits) for name in names]
        jobs += [pool.submit(one, row) for row in rivals(table, length, args)]
        for job in concurrent.futures.as_completed(jobs):
            print(job.result(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
