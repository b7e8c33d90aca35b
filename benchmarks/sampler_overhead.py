"""What a sampler adds to bare network evaluations: time of a whole sampling run over that of as many forward passes.

python -m benchmarks.sampler_overhead --output=FILE.json

A transformer of 6 blocks and width 256 with random weights, 256 positions, 1,024 tokens, batches of 16, float32. One run of
a sampler is one jitted scan, random numbers and the denoising step included; runs and forward passes take turns, and the
ratio is that of medians.
"""

import argparse
import json
import os
import pathlib
import platform
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.models.score_fn import network_score_fn
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.grids import fixed_grid
from lsd_jax.samplers.kernel import Knobs
from lsd_jax.samplers.simulate import Schedule, simulate, uniform_schedule
from lsd_jax.workflow import revision

S, L, B, STEPS = 1024, 256, 16, 4
LIMIT = 1.10


def student() -> Schedule:
    """A schedule like a distilled one's: unequal steps, a coefficient and a temperature each."""
    knobs = Knobs(jnp.linspace(-0.1, 0.1, STEPS), jnp.linspace(-0.2, 0.0, STEPS))
    return Schedule(jnp.asarray(fixed_grid("cosine", STEPS), jnp.float32), knobs)


def samplers() -> dict[str, tuple]:
    """(process, kernel, coupling, schedule) by name."""
    iid, spread = Coupling("iid"), Coupling("low_discrepancy")
    found = {name: ("absorbing", name, iid, uniform_schedule(STEPS)) for name in ("euler", "tweedie", "ancestral")}
    found["student"] = ("absorbing", "tweedie", spread, student())
    found |= {
        f"{name}, uniform process": ("uniform", name, iid, uniform_schedule(STEPS)) for name in ("euler", "tweedie")
    }
    return found


def measure(repetitions: int) -> dict[str, dict[str, float]]:
    """Median seconds of a forward pass, and of every sampler a network evaluation, with the ratio of the two."""
    model = DDiT(DDiTConfig(S, dim=256, depth=6, heads=8, time_conditioned=True))
    x_BL = jnp.zeros((B, L), jnp.int32)
    params = model.init(jax.random.key(0), x_BL, jnp.ones(()))
    shapes, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(shapes))
    # A head of zeros would make every posterior flat.
    params = jax.tree.unflatten(tree, [leaf + 0.02 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, shapes)])
    forward = jax.jit(lambda params, x_BL: model.apply(params, x_BL, jnp.float32(0.7)))
    runs = {"forward": lambda: forward(params, x_BL)}
    for name, (process_name, kernel, coupling, schedule) in samplers().items():
        process = make_process(process_name, S, make_noise("loglinear"))

        def draw(params, key, schedule, process=process, kernel=kernel, coupling=coupling):
            score_fn = network_score_fn(process, model, params, "score")
            return simulate(key, process, get_kernel(kernel), score_fn, schedule, coupling, B, L).tokens

        compiled = jax.jit(draw)
        runs[name] = lambda compiled=compiled, schedule=schedule: compiled(params, jax.random.key(2), schedule)
    seconds = {name: [] for name in runs}
    for repetition in range(repetitions + 1):  # the first compiles
        for name, run in runs.items():
            for _ in range(STEPS if name == "forward" else 1):
                start = time.perf_counter()
                jax.block_until_ready(run())
                if repetition:
                    seconds[name].append((time.perf_counter() - start) / (1 if name == "forward" else STEPS))
    median = {name: float(np.median(times)) for name, times in seconds.items()}
    return {name: {"seconds": value, "ratio": value / median["forward"]} for name, value in median.items()}


def main(argv: list[str] | None = None) -> int:
    """Prints the ratios and writes the record; 1 if one is above the limit."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--repetitions", type=int, default=9)
    args = parser.parse_args(argv)
    results = measure(args.repetitions)
    for name, result in results.items():
        print(f"{name:26} {1e3 * result['seconds']:7.1f} ms an evaluation, {result['ratio']:.3f} forward passes")
    record = {
        "command": " ".join(["python -m benchmarks.sampler_overhead", *argv]),
        "revision": revision(),
        "device": f"{jax.devices()[0].device_kind} ({platform.machine()}), {os.cpu_count()} cores",
        "jax": jax.__version__,
        "sizes": {"vocab": S, "length": L, "batch": B, "steps": STEPS},
        "repetitions": args.repetitions,
        "limit": LIMIT,
        "results": results,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n")
    return int(any(result["ratio"] > LIMIT for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
