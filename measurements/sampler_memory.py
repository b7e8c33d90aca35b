"""What a sampler's step holds in memory beyond the network's own logits, by XLA's account of the compiled program.

python -m measurements.sampler_memory --output=FILE.json

One step from a network's hidden state (4, 1024, 768) over 50,257 tokens: logits, log-score, transition, uniforms, draw.
Nothing is run: the numbers are the compiler's. What the step adds is its temporaries less the array of logits, which the
network's head makes in any case, over the size of that array.
"""

import argparse
import pathlib
import sys
import types

import jax
import jax.numpy as jnp

from lsd_jax.experiment.records import revision, write_json
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.coupling import IID, path_noise
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.schedule import Step, StepParameters

S, L, B, D = 50_257, 1024, 4, 768
LIMIT = 2.1  # one more array, and at times a gap of the same size that XLA's packing of buffers leaves
KERNELS = ("euler", "tweedie", "ancestral", "tau_leaping", "binomial_leaping")
READINGS = {"absorbing": ("posterior", "score"), "uniform": ("mean", "score")}  # RADD and MDLM, SEDD; Duo, SEDD
CASES = [
    (process, kernel, reading) for process, readings in READINGS.items() for reading in readings for kernel in KERNELS
]


def temporaries(process_name: str, kernel: str, output: str) -> int:
    """Bytes of temporaries of one compiled step of a network whose output is read as `output` says."""
    process = make_process(process_name, S, LogLinear())

    def step(hidden_BLD, head_DS, x_BL, key_B, now):
        head = types.SimpleNamespace(apply=lambda params, x_BL, sigma_bar: hidden_BLD @ head_DS)
        model = Diffusion.from_flax(head, (), process, output)
        transition = get_kernel(kernel).transition(model, x_BL, now)
        noise = path_noise(key_B, process, IID, L)
        return transition.sample(*noise.step(jnp.zeros((), jnp.int32), jnp.zeros((B, L))))

    f32 = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), B))
    tokens = jax.ShapeDtypeStruct((B, L), jnp.int32)
    args = (f32(B, L, D), f32(D, S), tokens, keys, Step(f32(), f32(), StepParameters(f32(), f32())))
    return jax.jit(step).lower(*args).compile().memory_analysis().temp_size_in_bytes


def main(argv: list[str] | None = None) -> int:
    """Prints the ratios and writes the record; 1 if one is above the limit."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=pathlib.Path, help="JSON file to write")
    args = parser.parse_args(argv)
    logits = 4 * B * L * S
    results = []
    for process, kernel, output in CASES:
        temporary = temporaries(process, kernel, output)
        ratio = temporary / logits - 1
        case = {"process": process, "kernel": kernel, "parameterization": output}
        results.append({**case, "temporary_bytes": temporary, "ratio": ratio})
        print(f"{process:10} {kernel:18} {output:10} {ratio:.3f} of the logits on top of them", flush=True)
    record = {
        "command": " ".join(["python -m measurements.sampler_memory", *argv]),
        "revision": revision(),
        "backend": jax.default_backend(),
        "jax": jax.__version__,
        "sizes": {"vocab": S, "length": L, "batch": B, "width": D},
        "logits_bytes": logits,
        "limit": LIMIT,
        "results": results,
    }
    write_json(args.output, record)
    return int(any(result["ratio"] > LIMIT for result in results))


if __name__ == "__main__":
    sys.exit(main())
