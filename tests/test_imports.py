"""An import goes downward only, and `import lsd_jax` brings nothing heavy with it."""

import subprocess
import sys

from importlinter.cli import lint_imports

HEAVY = {
    "grain",
    "huggingface_hub",
    "matplotlib",
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
