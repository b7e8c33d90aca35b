"""Searches the settings of MaskGIT and ReMDM that their papers chose for other data.

    python -m measurements.rivals --output=FILE.json

MaskGIT's choice temperature on its cosine grid, and ReMDM's eta with and without its nucleus of 0.9, on the shipped text (Jensen-Shannon
divergence of 3-grams from the *validation* split; the benchmark judges by the test split) and on countdown with its exact denoiser
(token error, by countdown's own rule).
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import lsd_jax as lsd
from lsd_jax.experiment.records import environment, revision
from lsd_jax.files import write_whole
from lsd_jax.keys import sequence_keys
from lsd_jax.metrics.ngram import jensen_shannon, ngram_distribution
from lsd_jax.processes.process import Process
from lsd_jax.samplers.kernel import StagedKernel
from lsd_jax.samplers.kernels.confidence import maskgit
from lsd_jax.samplers.kernels.remdm import remdm_rescale
from lsd_jax.samplers.simulate import draw_and_count
from lsd_jax.tasks.task import Task
from measurements.rows import SETS

CHOICE_TEMPERATURES = (0.0, 0.5, 1.0, 2.0, 4.5, 9.0, 18.0, 1000.0)  # published: 4.5
ETAS = (0.0, 0.015, 0.05, 0.1, 0.2, 0.4, 0.8)  # published: 0.015
COUNTDOWN = lsd.Data("countdown", vocab_size=32, sequence_length=256)


def candidates() -> dict[str, tuple[StagedKernel, dict[str, Any]]]:
    """name -> the kernel, and what else its sampler is made with."""
    found = {
        f"MaskGIT, cosine grid, choice T={value:g}": (maskgit("maskgit", value), {"grid": "cosine"})
        for value in CHOICE_TEMPERATURES
    }
    for top_p in (1.0, 0.9):
        for eta in ETAS:
            found[f"ReMDM rescale, eta={eta:g}, top-p {top_p:g}"] = (
                remdm_rescale(eta),
                {"top_p": top_p},
            )
    return found


def judges(process: Process) -> dict[str, tuple[lsd.Diffusion, Task, Callable[[np.ndarray], float]]]:
    """Task -> its model, the task, and what is minimized."""
    text, countdown = lsd.make_task(SETS["text"]), lsd.make_task(COUNTDOWN)
    real = ngram_distribution(text.split("validation"), 3, text.vocab_size)
    return {
        "text": (
            lsd.load_model("text"),
            text,
            lambda tokens: jensen_shannon(ngram_distribution(tokens, 3, text.vocab_size), real),
        ),
        "countdown": (
            countdown.oracle(process),
            countdown,
            lambda tokens: countdown.measure(tokens, resamples=0)["wrong_per_transition"][0],
        ),
    }


def main(argv: list[str] | None = None) -> int:
    """Draws every candidate with every seed, and writes the record; a part of it after every row."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=pathlib.Path, help="a JSON file")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--count", type=int, default=128, help="sequences per row and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=128)
    args = parser.parse_args(argv)
    record = {"command": " ".join(["python -m measurements.rivals", *argv]), "revision": revision()}
    record |= {"environment": environment(), "count": args.count, "rows": []}
    for name, (model, task, minimized) in judges(lsd.Absorbing(COUNTDOWN.vocab_size, lsd.LogLinear())).items():
        for label, (kernel, settings) in candidates().items():
            for steps in args.steps:
                plain = lsd.sampler(kernel.name, steps, **settings)
                bound = dataclasses.replace(plain, kernel=kernel).bound_to(model, task.length)
                values = []
                for seed in range(args.seeds):
                    key = jax.random.key(zlib.crc32(f"{label} {steps} {seed}".encode()))
                    tokens, _ = draw_and_count(model, bound, sequence_keys(key, args.count), args.batch_size)
                    values.append(minimized(tokens))
                record["rows"].append({"task": name, "sampler": label, "nfe": steps, "values": values})
                write_whole(args.output, json.dumps(record, indent=1))
                print(name, label, steps, np.round(values, 4).tolist(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
