"""The command line: one clear line for bad input, and earlier names of fields keep being read."""

import subprocess
import sys

import pytest

from lsd_jax.errors import InputError
from lsd_jax.experiment.arguments import CONFIGS, located, renamed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.student.stepz=4"], "error: --config.student.stepz: .* has no field 'stepz'; did you mean 'steps'?"),
        (
            ["--config.stuent.steps=4"],
            "error: --config.stuent.steps: .* has no field 'stuent'; did you mean 'student'?",
        ),
        (["--config.teacher.paths=many"], "error: flag --config.teacher.paths=many: invalid literal for int"),
        (["--config.student.steps=four"], "error: config.student.steps="),
        (
            ["--config=configs/none.py"],
            "error: --config=configs/none.py: no such file, and no config of this name ships",
        ),
        (["--config=countdown:tiny"], "error: --config=countdown:tiny: this config has no variants"),
        (["--config=mdlm:huge"], "error: --config=mdlm:huge: choose one of"),
        (["--stage=draw"], "error: flag --stage=draw: value should be one of"),
        (["--step=2"], "error: Unknown command line flag 'step'"),
        (["--config.student.steps=500"], "error: config.student.steps=500: is more than the teacher's 256 steps"),
        (["--stage=sample"], "error: --stage=sample needs --student"),
        (["--config.student.neighbours=2"], "error: config.student.potentials=2"),
    ],
)
def test_the_command_line_ends_in_one_clear_line(tmp_path, arguments, message):
    command = [sys.executable, "-m", "lsd_jax.main", "--config=configs/countdown.py", f"--workdir={tmp_path / 'r'}"]
    if any(argument.startswith("--config=") for argument in arguments):
        command.remove("--config=configs/countdown.py")
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode != 0 and not (tmp_path / "r").exists() and "Traceback" not in done.stderr
    begin, *rest = message.split(".*")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(begin) and all(part in last for part in rest)


def test_shipped_configs_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a project with a folder of configs of its own
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").touch()
    found = located(
        ["--config=text", "--config=configs/mdlm.py:tiny", "--config", "configs/mine.py", "--config.seed=1"]
    )
    files = [argument.removeprefix("--config=") for argument in found[:2]]
    assert files == [f"{CONFIGS}/text.py", f"{CONFIGS}/mdlm.py:tiny"] and (CONFIGS / "text.py").is_file()
    assert found[2:] == ["--config", "configs/mine.py", "--config.seed=1"]
    with pytest.raises(InputError, match="--config=common: no such file, and no config of this name ships: .*text"):
        located(["--config=common"])


def test_earlier_names_of_fields_and_values_are_read():
    old = ["main", "--config.distill.objective=dial", "--config.distill.precision=0.8", "--config.student.grid=greedy"]
    new = [
        "main",
        "--config.distill.objective=kl_mix",
        "--config.distill.reverse_share=0.8",
        "--config.student.grid=halving",
    ]
    assert renamed(old) == new and renamed(new) == new
    assert renamed(["--config.evaluation.bootstrap=False"]) == ["--config.evaluation.resamples=0"]
    assert renamed(["--workdir=--config.distill.precision=1"]) == ["--workdir=--config.distill.precision=1"]
