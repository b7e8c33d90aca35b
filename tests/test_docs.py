"""Scripts of the documentation, as a user pastes them."""

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)


def test_every_script_is_python():
    for page in ("your_model.md", "quickstart.md"):
        found = blocks(page)
        assert found
        for code in found:
            compile(code, page, "exec")


def test_a_flax_module_becomes_a_student(tmp_path):
    (code,) = [code for code in blocks("your_model.md") if "nn.Module" in code and "flax" in code]
    check = "assert tokens.shape == (8, 32) and tokens.max() < 16 and nats.shape == (8,) and np.isfinite(nats).all()"
    (tmp_path / "script.py").write_text(f"{code}\n{check}\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "student.json").exists()
