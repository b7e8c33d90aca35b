"""Makes the notebooks of this folder from their scripts, with the outputs of a real run.

    python colab/notebook.py                                  # all of them, beside their scripts
    python colab/notebook.py 01_quickstart --output=runs/nb   # one, elsewhere

A script is in jupytext's percent format and is what to edit. A kernel runs its notebook from top to bottom in an empty folder.
`LSD_JAX_SIZE=full` runs the long version, `tiny` one whose numbers mean nothing. It needs the extra `dev`.
"""

import argparse
import os
import pathlib
import tempfile

import jupytext
import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).resolve().parent
SCRIPTS = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read_script(script: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook of a script, not run; equal scripts give equal notebooks."""
    notebook = jupytext.read(script, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(_METADATA)
    for index, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{index}", nbformat.from_dict({})
    return notebook


def run(notebook: nbformat.NotebookNode, folder: str) -> None:
    """Fills in the outputs, without what is written to stderr: progress."""
    resources = {"metadata": {"path": folder}}
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=resources, record_timing=False
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.validate(notebook)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[script.stem for script in SCRIPTS], help="Which; by default all.")
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER, help="The folder to write to.")
    arguments = parser.parse_args()
    # The kernel finds the package of this checkout, installed or not.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")]))
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        notebook = read_script(FOLDER / f"{name}.py")
        with tempfile.TemporaryDirectory() as folder:
            run(notebook, folder)
        nbformat.write(notebook, arguments.output / f"{name}.ipynb")


if __name__ == "__main__":
    main()
