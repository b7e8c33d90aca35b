"""Measures what a device holds where a network's parameters are in parts, what gathering them costs, and how work grows with devices.

    python -m measurements.parameter_shards --output=docs/results/parameter_shards.json

On a CPU that is split into devices, so that memory per device is real and time is not: all devices share the CPU's cores. Time is
therefore CPU time per sequence, and wall time times cores per sequence. Every case runs in a process of its own.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.distill.cost_table import cost_rows
from lsd_jax.experiment.records import environment, revision, write_json
from lsd_jax.keys import sequence_keys
from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.sampler import Sampler, sampler
from lsd_jax.samplers.simulate import simulate
from lsd_jax.training.train import SequenceLoss, with_noise

COUNTS = (1, 2, 4, 8)
VOCAB, LENGTH, STEPS = 8192, 32, 2
LARGE = DDiTConfig(VOCAB, dim=1536, depth=12, heads=12)
SMALL = DDiTConfig(256, dim=128, depth=4, heads=4)
PER_DEVICE = 16  # sequences, where work grows with devices
TIMES = 8  # of the cost table's grid


def model_of(sizes: DDiTConfig) -> Diffusion:
    """A network with random parameters, made on the host and placed."""
    shapes = jax.eval_shape(DDiT(sizes).init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32), jnp.zeros(1))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: np.float32(0.02) * rng.standard_normal(leaf.shape, np.float32), shapes)
    return Diffusion.from_flax(DDiT(sizes), params, Absorbing(sizes.vocab_size, LogLinear()))


def kept_bytes(params: Any) -> list[int]:
    """Bytes of parameters on every device."""
    held = dict.fromkeys(range(jax.device_count()), 0)
    for leaf in jax.tree.leaves(params):
        for part in leaf.addressable_shards:
            held[part.device.id] += part.data.nbytes
    return list(held.values())


def sampling(model: Diffusion, steps: int, batch: int) -> tuple[Any, tuple[Any, ...]]:
    """The compiled sampler of a batch, and its arguments."""
    mesh, own = parallel.data_mesh(), sampler("tweedie", steps).bound_to(model, LENGTH)
    keys = parallel.shard_global(sequence_keys(jax.random.key(0), batch), mesh)

    def local(replicated: tuple[Diffusion, Sampler], key_B: jax.Array) -> jax.Array:
        return simulate(key_B, *replicated, len(key_B)).tokens

    arguments = ((model, own), keys)
    return jax.jit(parallel.map_over_data(local, mesh)).lower(*arguments).compile(), arguments


def table(model: Diffusion, batch: int) -> tuple[Any, tuple[Any, ...]]:
    """The compiled cost table of a batch of paths, and its arguments."""
    mesh, rng = parallel.data_mesh(), np.random.default_rng(0)
    tokens = rng.integers(0, model.process.vocab_size, (batch, LENGTH)).astype(np.int32)
    thresholds = rng.random((batch, LENGTH), np.float32)
    paths = (parallel.shard_global(tokens, mesh), parallel.shard_global(thresholds, mesh))
    times = jnp.linspace(1, 0, TIMES + 1)
    return cost_rows.lower(TWEEDIE, mesh, model, times, paths).compile(), (model, times, paths)


def gradient_temporaries(model: Diffusion, sizes: DDiTConfig) -> int:
    """Bytes per device of the temporaries of the gradient of a loss, one sequence a device; compiled and not run."""
    mesh, loss = parallel.data_mesh(), SequenceLoss("denoising", DDiT(sizes), model.process)
    function = parallel.value_and_grad_over_data(lambda params, _, batch: loss(params, batch).mean(), mesh)
    tokens = parallel.shard_global(np.zeros((mesh.size, LENGTH), np.int32), mesh)
    program = jax.jit(lambda params, x: function(params, (), with_noise(jax.random.key(0), x)))
    return program.lower(model.params, tokens).compile().memory_analysis().temp_size_in_bytes


def timed(run: Callable[[], Any], times: int) -> dict[str, float]:
    """Wall and CPU seconds of a run, the least of several."""
    jax.block_until_ready(run())
    found = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(run())
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    wall, cpu = np.min(found, 0)
    return {"wall_seconds": float(wall), "cpu_seconds": float(cpu)}


def memory(count: int) -> dict[str, Any]:
    """The large network in `count` parts on as many devices, one sequence on each at a time."""
    parallel.shard_parameters(count)
    model = model_of(LARGE)
    held = kept_bytes(model.params)
    program, (replicated, _) = sampling(model, STEPS, count)
    mesh, tokens = parallel.data_mesh(), []
    keys = sequence_keys(jax.random.key(0), max(COUNTS))
    for start in range(0, max(COUNTS), count):
        tokens.append(parallel.gather(program(replicated, parallel.shard_global(keys[start : start + count], mesh))))
    analysis = {"sampling": program.memory_analysis().temp_size_in_bytes}
    analysis["cost_table"] = table(model, count)[0].memory_analysis().temp_size_in_bytes
    analysis["gradient"] = gradient_temporaries(model, LARGE)
    return {
        "parts": count,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(model.params)),
        "parameter_bytes_per_device": sorted(set(held)),
        "temporary_bytes_per_device": analysis,
        "max_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "tokens": np.concatenate(tokens).tolist(),
    }


def spread(devices: int, count: int) -> dict[str, Any]:
    """The small network on several devices, PER_DEVICE sequences on each: time of a sampler and of a cost table."""
    parallel.shard_parameters(count)
    model, batch = model_of(SMALL), PER_DEVICE * devices
    found = {"devices": devices, "parts": count}
    for name, (program, arguments) in (("sampling", sampling(model, 8, batch)), ("cost_table", table(model, batch))):
        seconds = timed(functools.partial(program, *arguments), 5)
        found[name] = {
            "cpu_ms_a_sequence": round(1e3 * seconds["cpu_seconds"] / batch, 3),
            "wall_ms_times_cores_a_sequence": round(1e3 * seconds["wall_seconds"] * cores() / batch, 3),
        }
    return found


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


CASES = {"memory": memory, "spread": spread}


def in_process(name: str, devices: int, *numbers: int) -> dict[str, Any]:
    """A case in a process that splits its CPU into `devices`."""
    environ = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    command = [sys.executable, "-m", "measurements.parameter_shards", f"--case={name}", *map(str, numbers)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-3000:]}")
    found = json.loads(done.stdout)
    print(json.dumps({name: value for name, value in found.items() if name != "tokens"}), flush=True)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs every case and writes the record; 1 where tokens depend on the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=CASES, help="one case, in this process; for the script itself")
    parser.add_argument("numbers", type=int, nargs="*", help="of a case")
    parser.add_argument("--output", type=pathlib.Path, help="JSON file to write")
    args = parser.parse_args(argv)
    if args.case:
        print(json.dumps(CASES[args.case](*args.numbers)))
        return 0
    held = [in_process("memory", count, count) for count in COUNTS]
    tokens = [np.asarray(found.pop("tokens")) for found in held]
    differing = [int((own != tokens[0]).sum()) for own in tokens]
    record = {
        "command": f"python -m measurements.parameter_shards --output={args.output.name if args.output else ''}",
        "revision": revision(),
        "environment": environment(),
        "cores": cores(),
        "load_before": os.getloadavg()[0],
        "large": {**dataclasses.asdict(LARGE), "length": LENGTH, "steps": STEPS},
        "memory": [{**found, "tokens_that_differ": count} for found, count in zip(held, differing)],
        "tokens_compared": int(tokens[0].size),
        "small": {**dataclasses.asdict(SMALL), "length": LENGTH, "sequences_per_device": PER_DEVICE},
        "weak_scaling": [in_process("spread", devices, devices, 1) for devices in COUNTS],
        "gathering": [in_process("spread", max(COUNTS), max(COUNTS), count) for count in COUNTS if count > 1],
    }
    if args.output:
        write_json(args.output, record)
    return int(any(differing))


if __name__ == "__main__":
    sys.exit(main())
