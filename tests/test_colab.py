"""The notebooks of colab/: in step with their scripts, readable on a page, and run from top to bottom by a kernel of their own."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import jupytext
import nbformat
import pytest

from lsd_jax.models import chemnet
from lsd_jax.tasks import smiles

FOLDER = pathlib.Path(__file__).parents[1] / "colab"
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
MAKE = FOLDER / "notebook.py"
each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
NEEDS = {
    ("02_your_model", "tiny"): ("torch", "pip install '.[torch]'"),
    ("02_your_model", "fast"): ("torch", "pip install '.[torch]'"),
    ("03_molecules", "tiny"): ("rdkit", "pip install '.[molecules]'"),
    ("03_molecules", "fast"): ("qm9pack", "pip install --no-deps qm9pack==1.0.3"),
}


def sources(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_is_a_script_for_every_notebook():
    assert len(SCRIPTS) >= 4 and {path.stem for path in FOLDER.glob("*.ipynb")} == {path.stem for path in SCRIPTS}


@each
def test_a_notebook_is_its_script(script):
    notebook = nbformat.read(script.with_suffix(".ipynb"), nbformat.NO_CONVERT)
    assert sources(notebook) == sources(jupytext.read(script, fmt="py:percent")), "run python colab/notebook.py"


@each
def test_a_notebook_shows_what_a_run_gave(script):
    path = script.with_suffix(".ipynb")
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    found = outputs(notebook)
    assert any("image/png" in output.get("data", {}) for output in found)
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in found)
    assert path.stat().st_size < 500_000
    printed = "".join(output.text for output in found if output.output_type == "stream")
    assert "/home/" not in printed and "/tmp/" not in printed and "/root/" not in printed


def test_notebooks_install_from_one_place_and_their_badges_open_them():
    sites = set()
    for script in SCRIPTS:
        text = script.read_text()
        (site,) = re.findall(r'source = "git\+(https://github\.com/[\w./-]+)"', text)
        sites.add(site)
        badge = site.replace("https://github.com", "https://colab.research.google.com/github")
        assert f"({badge}/blob/main/colab/{script.stem}.ipynb)" in text
        assert set(re.findall(r"https://github\.com/[\w-]+/[\w-]+", text)) == {site}
        for name in re.findall(r"\]\((\w+\.ipynb)\)", text):
            assert (FOLDER / name).exists(), name
        for name in re.findall(rf"{site}/blob/main/([\w./-]+)", text):
            assert (FOLDER.parent / name).exists(), name
    assert len(sites) == 1


def test_molecules_come_from_the_wheels_that_are_read():
    text = (FOLDER / "03_molecules.py").read_text()
    for command in (*smiles.COMMANDS.values(), chemnet.INSTALL):
        assert f'"{command.split()[-1]}"' in text, command


def small_molecules() -> str:
    """A file of chains with an end on either side, in tokens of QM9: preparing QM9 itself takes most of a minute."""
    left = ("N", "O", "C", "C=C", "N#C", "C1CC1", "CN(C)")
    right = ("N", "O", "F", "C=O", "C#N", "C(C)C", "C1CC1", "OC", "C#C")
    return "\n".join(f"{start}{'C' * middle}{end}" for start in left for middle in range(4) for end in right)


@pytest.mark.parametrize("size", ["tiny", pytest.param("fast", marks=pytest.mark.slow)])
@each
@pytest.mark.timeout(960)  # "fast": several minutes, and more beside other work
def test_a_notebook_runs(script, size, tmp_path):
    package, command = NEEDS.get((script.stem, size), ("lsd_jax", ""))
    if not importlib.util.find_spec(package):
        pytest.skip(f"needs {package}: {command}")
    environment = os.environ | {"LSD_JAX_SIZE": size}
    if size == "tiny":
        (tmp_path / "molecules.smi").write_text(small_molecules())
        environment["LSD_JAX_MOLECULES"] = str(tmp_path / "molecules.smi")
    command = [sys.executable, MAKE, script.stem, f"--output={tmp_path}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    made = nbformat.read(tmp_path / f"{script.stem}.ipynb", nbformat.NO_CONVERT)
    assert any("image/png" in output.get("data", {}) for output in outputs(made))
