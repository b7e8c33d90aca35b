"""An import goes downward only, and `import lsd_jax` brings nothing heavy with it."""

import os
import subprocess
import sys

from importlinter.cli import lint_imports

HEAVY = {
    "grain",
    "huggingface_hub",
    "matplotlib",
    "optax",
    "scipy.sparse",
    "sklearn",
    "tensorflow",
    "tensorflow_datasets",
    "tokenizers",
    "torch",
}


def test_an_import_goes_downward_only():
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == 0


def test_import_lsd_jax_is_light():
    command = "import sys, lsd_jax; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


def test_a_host_s_plotting_backend_reaches_no_stage_that_draws_nothing():
    """A notebook sets MPLBACKEND to a module that a fresh environment lacks."""
    flags = ["--config=countdown", "--stage=sample", "--sampler=euler", "--steps=2", "--num_samples=1"]
    small = ["--config.data.vocab_size=8", "--config.data.sequence_length=8"]
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.not_there"}
    command = [sys.executable, "-m", "lsd_jax.main", *flags, *small]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and len(done.stdout.split()) == 8, done.stderr[-2000:]
