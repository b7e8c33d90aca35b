"""Samples a few steps from SEDD at its published size, with random weights: does it fit, and what does a step cost?

    python -m measurements.full_size --steps=3 --batch=1 --output=docs/results/full_size.json

Also what the cost table of the language experiments' teacher paths would take, which is compiled and not run.
Sizes (Lou et al. 2024): 50,257 data tokens and a mask, 1,024 a sequence; small 12 blocks of width 768, medium 24 of 1,024.
On an accelerator `--batch=8 --dtype=bfloat16` is a realistic setting. FLOPs count matrix products only.

    python -m measurements.full_size --estimate

prints what the language experiments should cost on hardware that this was not run on, from operations and bytes alone.
"""

import argparse
import importlib
import json
import pathlib
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.configs import language
from lsd_jax.distill.cost_table import cost_rows
from lsd_jax.experiment.records import revision, write_json
from lsd_jax.models.ddit import DTYPES, DDiT, DDiTConfig
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.sampler import sampler
from lsd_jax.samplers.simulate import sample

VOCAB, LENGTH = 50_257, 1_024
SIZES = {"small": {"dim": 768, "depth": 12, "heads": 12}, "medium": {"dim": 1_024, "depth": 24, "heads": 16}}
# Peak bfloat16 operations and memory bytes per second, from the makers' data sheets; a v4-8 slice is four chips.
DEVICES = {"A100 80 GB": (312e12, 2.0e12), "H100": (989e12, 3.35e12), "TPU v4-8": (4 * 275e12, 4 * 1.2e12)}
LANGUAGE = ("sedd_small", "sedd_medium", "radd", "mdlm", "duo")


def forward_flops(dim: int, depth: int, length: int = LENGTH, vocab: int = VOCAB) -> float:
    """Floating-point operations of one network evaluation of one sequence: two per weight and token, and attention."""
    return 2 * length * (depth * (12 * dim**2 + 2 * length * dim) + vocab * dim)


def estimate(config) -> dict[str, float]:
    """Hours of a whole language experiment (configs/language.py) on each device, and its network evaluations.

    Operations at 40 % of the peak in bfloat16 (the scorer's in float32 at a quarter of that), plus ten passes over the logits of
    every evaluation at the memory's bandwidth.
    """
    size = SIZES["medium" if "medium" in config.model.weights else "small"]
    steps, paths, settings = config.student.steps, config.teacher.paths, config.evaluation
    samplers = 3 + len(settings.temperatures)  # student, Euler, Tweedie, tempered Euler
    orders = 2 if config.student.order == "auto" else 1
    calls = {
        "teacher": 3 * paths * config.teacher.steps,  # paths, fresh samples for the path KL and their cost
        "tables": paths * (orders * config.student.grid_points + 2 * sum(steps)),
        "samples": settings.num_samples * (samplers * sum(steps) + settings.reference_steps),
        "path KL": paths * (samplers * sum(steps) + settings.reference_steps),
    }
    calls = sum(calls.values())
    network = calls * forward_flops(size["dim"], size["depth"])
    scored = settings.num_samples * (samplers * len(steps) + 1)
    scorer = scored * forward_flops(1_280, 36)  # GPT-2 large
    bytes_moved = 10 * 4 * LENGTH * VOCAB * (calls + scored)
    hours = {
        device: (network / (0.4 * peak) + scorer / (0.1 * peak) + bytes_moved / bandwidth) / 3600
        for device, (peak, bandwidth) in DEVICES.items()
    }
    return {"network evaluations": calls, "petaflop": (network + scorer) / 1e15} | hours


def random_params(sizes: DDiTConfig):
    """Parameters of the published shapes, drawn small; zeros would make every logit equal."""
    shapes = jax.eval_shape(DDiT(sizes).init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32), jnp.zeros(1))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(0.02 * rng.standard_normal(leaf.shape, np.float32)), shapes)


def measure(size: str, steps: int, batch: int, dtype: str) -> dict:
    """Seconds, memory and operations of `batch` sequences of `steps` steps, the first call (which compiles) apart."""
    sizes = DDiTConfig(VOCAB, **SIZES[size], time_conditioned=True, dtype=dtype)
    params = random_params(sizes)
    model = Diffusion.from_flax(DDiT(sizes), params, Absorbing(VOCAB, LogLinear()), "score")
    own = sampler("tweedie", steps)
    seconds = []
    for seed in range(2):
        began = time.monotonic()
        tokens = sample(model, own, jax.random.key(seed), batch, length=LENGTH, batch_size=batch)
        seconds.append(time.monotonic() - began)
    assert tokens.shape == (batch, LENGTH) and tokens.max() < VOCAB
    flops = forward_flops(SIZES[size]["dim"], SIZES[size]["depth"])
    peaks = [stats["peak_bytes_in_use"] for device in jax.devices() if (stats := device.memory_stats())]
    return {
        "model": f"SEDD-{size}'s shape, random weights",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "device": jax.devices()[0].device_kind,
        "dtype": dtype,
        "batch": batch,
        "nfe": own.nfe,
        "seconds_with_compilation": round(seconds[0], 2),
        "seconds_a_network_evaluation_and_sequence": round(seconds[1] / steps / batch, 3),
        "teraflop_a_network_evaluation_and_sequence": round(flops / 1e12, 3),
        "max_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "device_peak_gib": round(max(peaks) / 2**30, 2) if peaks else None,
        "distinct_tokens": len(np.unique(tokens)),
        "command": " ".join(["python -m measurements.full_size", *sys.argv[1:]]),
        "revision": revision(),
    }


def compiled_gib(size: str, paths: int) -> dict[str, float]:
    """GiB of temporaries, by XLA's account of the compiled programs, of the cost table of `paths` bfloat16 teacher paths."""
    sizes = DDiTConfig(VOCAB, **SIZES[size], time_conditioned=True, dtype="bfloat16")
    shapes = jax.eval_shape(DDiT(sizes).init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32), jnp.zeros(1))
    tokens = jax.ShapeDtypeStruct((paths, LENGTH), jnp.int32)
    own = {
        "absorbing": jax.ShapeDtypeStruct((paths, LENGTH), jnp.float32),  # thresholds
        "uniform": jax.eval_shape(lambda: jax.random.split(jax.random.key(0), paths)),
    }
    found = {}
    for name in own:
        model = Diffusion.from_flax(DDiT(sizes), shapes, make_process(name, VOCAB, LogLinear()), "score")
        times = jax.ShapeDtypeStruct((65,), jnp.float32)
        program = cost_rows.lower(TWEEDIE, parallel.data_mesh(), model, times, (tokens, own[name]))
        found[name] = round(program.compile().memory_analysis().temp_size_in_bytes / 2**30, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--output", default="")
    parser.add_argument("--estimate", action="store_true")
    arguments = parser.parse_args()
    if arguments.estimate:
        for name in LANGUAGE:
            found = estimate(importlib.import_module(f"lsd_jax.configs.{name}").get_config())
            print(name, ", ".join(f"{key} {value:,.1f}" for key, value in found.items()), sep=": ")
        return
    result = measure(arguments.size, arguments.steps, arguments.batch, arguments.dtype)
    result["paths"] = paths = language.language_config("sedd", "", 0.0, "", 0.0).teacher.paths
    result["cost_table_temporaries_gib"] = compiled_gib(arguments.size, paths)
    print(json.dumps(result, indent=1))
    if arguments.output:
        write_json(pathlib.Path(arguments.output), result)


if __name__ == "__main__":
    main()
