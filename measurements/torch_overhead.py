"""What the host callback adds to a PyTorch network: time of an evaluation through `lsd.from_torch` over the bare one.

python -m measurements.torch_overhead --output=FILE.json

A transformer of 6 blocks and width 256 with random weights, 256 positions, batches of 16, float32, for small and large
vocabularies. Bare calls and calls through JAX take turns; the ratio is that of medians. Where JAX computes on a GPU, the network
lies on it too. Both must give the same answer. It needs the extra `torch`.
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
from lsd_jax.models.torch import from_torch
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear

L, B = 256, 16
VOCABULARIES = (32, 1024, 50257)


def network(vocab_size: int):
    """An encoder with an output for every data token."""
    import torch

    layer = torch.nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True)
    layers = torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    return torch.nn.Sequential(torch.nn.Embedding(vocab_size + 1, 256), layers, torch.nn.Linear(256, vocab_size)).eval()


def measure(repetitions: int) -> dict[str, dict[str, float]]:
    """Median seconds of a bare evaluation and of one through JAX, and their ratio, by vocabulary."""
    import torch

    found, device = {}, "cuda" if jax.default_backend() == "gpu" else "cpu"
    for size in VOCABULARIES:
        bare, tokens = network(size).to(device), torch.full((B, L), size, device=device)
        model = from_torch(bare, Absorbing(size, LogLinear()))
        through = jax.jit(lambda model, x_BL: model.log_score(x_BL, jnp.float32(0.5)))
        x_BL, seconds = jnp.full((B, L), size, jnp.int32), {"bare": [], "through JAX": []}

        def run_bare(bare=bare, tokens=tokens):
            with torch.no_grad():
                answer = bare(tokens)
            if device == "cuda":
                torch.cuda.synchronize()
            return answer

        said = np.asarray(through(model, x_BL) + jnp.log(jnp.expm1(model.process.noise.sigma_bar(jnp.float32(0.5)))))
        np.testing.assert_allclose(said, torch.log_softmax(run_bare(), -1).cpu().numpy(), atol=1e-3)
        runs = {"bare": run_bare, "through JAX": lambda m=model, x=x_BL, f=through: jax.block_until_ready(f(m, x))}
        for repetition in range(repetitions + 1):  # the first compiles
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if repetition:
                    seconds[name].append(time.perf_counter() - start)
        medians = {name: float(np.median(times)) for name, times in seconds.items()}
        found[f"{size} tokens"] = {**medians, "ratio": medians["through JAX"] / medians["bare"]}
    return found


def main(argv: list[str] | None = None) -> int:
    """Prints the ratios and writes the record."""
    import torch

    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--repetitions", type=int, default=9)
    args = parser.parse_args(argv)
    results = measure(args.repetitions)
    for name, result in results.items():
        print(f"{name:14} bare {1e3 * result['bare']:8.1f} ms, through JAX {result['ratio']:.3f} of it")
    record = {
        "command": " ".join(["python -m measurements.torch_overhead", *argv]),
        "revision": revision(),
        "device": f"{jax.devices()[0].device_kind} ({platform.machine()}), {os.cpu_count()} cores",
        "jax": jax.__version__,
        "torch": torch.__version__,
        "sizes": {"length": L, "batch": B},
        "repetitions": args.repetitions,
        "results": results,
    }
    write_json(args.output, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
