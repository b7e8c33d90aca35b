"""The command line: one clear line for bad input, and earlier names of fields keep being read."""

import subprocess
import sys

import pytest

from lsd_jax.experiment.arguments import renamed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.student.stepz=4"], "stepz"),
        (["--config.student.steps=500"], "error: config.student.steps=500: is more than the teacher's 256 steps"),
        (["--stage=sample"], "error: --stage=sample needs --student"),
        (["--config.student.neighbours=2"], "error: config.student.potentials=2"),
    ],
)
def test_the_command_line_ends_in_one_clear_line(tmp_path, arguments, message):
    command = [sys.executable, "-m", "lsd_jax.main", "--config=configs/countdown.py", f"--workdir={tmp_path / 'r'}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stderr and not (tmp_path / "r").exists()
    if message.startswith("error"):
        assert "Traceback" not in done.stderr and message in done.stderr.splitlines()[-1]


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
