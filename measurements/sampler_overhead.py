"""What a sampler adds to bare network evaluations: time of a whole sampling run over that of as many forward passes.

python -m measurements.sampler_overhead --output=FILE.json

A transformer of 6 blocks and width 256 with random weights, 256 positions, 1,024 tokens, batches of 16, float32. One run of
a sampler is one jitted scan, random numbers and the denoising step included; runs and forward passes take turns, and the
ratio is that of medians.
"""

import argparse
import os
import pathlib
import platform
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.experiment.records import revision, write_json
from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import Schedule, StepParameters, fixed_grid, uniform_schedule
from lsd_jax.samplers.simulate import simulate

S, L, B, STEPS = 1024, 256, 16, 4
LIMIT = 1.10


def student() -> Sampler:
    """A sampler like a distilled one: unequal steps, a coefficient and a temperature each."""
    params = StepParameters(jnp.linspace(-0.1, 0.1, STEPS), jnp.linspace(-0.2, 0.0, STEPS))
    schedule = Schedule(jnp.asarray(fixed_grid("cosine", STEPS), jnp.float32), params)
    return Sampler(schedule, TWEEDIE, Coupling("low_discrepancy"), L)


def samplers() -> dict[str, tuple[str, Sampler]]:
    """(process, sampler) by name."""
    plain = lambda name: Sampler(uniform_schedule(STEPS), get_kernel(name), length=L)
    found = {name: ("absorbing", plain(name)) for name in ("euler", "tweedie", "ancestral")}
    found["student"] = ("absorbing", student())
    return found | {f"{name}, uniform process": ("uniform", plain(name)) for name in ("euler", "tweedie")}


def measure(repetitions: int) -> dict[str, dict[str, float]]:
    """Median seconds of a forward pass, and of every sampler per network evaluation, with the ratio of the two."""
    network = DDiT(DDiTConfig(S, dim=256, depth=6, heads=8, time_conditioned=True))
    x_BL = jnp.zeros((B, L), jnp.int32)
    params = network.init(jax.random.key(0), x_BL, jnp.ones(()))
    shapes, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(shapes))
    # A head of zeros would make every posterior flat.
    params = jax.tree.unflatten(tree, [leaf + 0.02 * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, shapes)])
    forward = jax.jit(lambda params, x_BL: network.apply(params, x_BL, jnp.float32(0.7)))
    draw = jax.jit(lambda model, key, sampler: simulate(key, model, sampler, B).tokens)
    runs = {"forward": lambda: forward(params, x_BL)}
    for name, (process_name, sampler) in samplers().items():
        model = Diffusion.from_flax(network, params, make_process(process_name, S, LogLinear()), "score")
        runs[name] = lambda model=model, sampler=sampler: draw(model, jax.random.key(2), sampler)
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
        print(f"{name:26} {1e3 * result['seconds']:7.1f} ms per evaluation, {result['ratio']:.3f} forward passes")
    record = {
        "command": " ".join(["python -m measurements.sampler_overhead", *argv]),
        "revision": revision(),
        "device": f"{jax.devices()[0].device_kind} ({platform.machine()}), {os.cpu_count()} cores",
        "jax": jax.__version__,
        "sizes": {"vocab": S, "length": L, "batch": B, "steps": STEPS},
        "repetitions": args.repetitions,
        "limit": LIMIT,
        "results": results,
    }
    write_json(args.output, record)
    return int(any(result["ratio"] > LIMIT for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
