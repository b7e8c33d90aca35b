"""Several processes give the student of one, through the command line."""

import json
import subprocess
import sys

import numpy as np

TINY = [
    "--config=configs/countdown.py",
    "--config.cpu_devices=2",
    "--config.data.vocab_size=8",
    "--config.data.sequence_length=24",
    "--config.data.mix=0.01",
    "--config.teacher.steps=24",
    "--config.teacher.paths=32",
    "--config.student.steps=3",
    "--config.distill.steps=10",
    "--config.distill.batch_size=8",
    "--stage=distill",
]


def start(workdir, *launcher):
    command = [sys.executable, *(launcher or ("-m", "lsd_jax.main")), *TINY, f"--workdir={workdir}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


def student(workdir):
    return json.loads((workdir / "students" / "M3" / "student.json").read_text())


def test_two_processes_give_the_student_of_one(tmp_path):
    for name, launcher in (("two", ("launch/local.py", "--processes=2", "--")), ("one", ())):
        done = start(tmp_path / name, *launcher)
        assert done.returncode == 0, done.stderr[-3000:]
    two, one = student(tmp_path / "two"), student(tmp_path / "one")
    assert two["time_grid"] == one["time_grid"] and two["steps"] == 3
    for field in ("coefficients", "temperatures"):
        np.testing.assert_allclose(two[field], one[field], rtol=1e-4)
    grid = "unseen_path_kl_nats"
    np.testing.assert_allclose(two["metrics"][grid], one["metrics"][grid], rtol=1e-4, atol=1e-4)


def test_dry_run_prints_every_command(tmp_path):
    done = start(tmp_path / "none", "launch/local.py", "--processes=3", "--dry_run", "--")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and "--process_id=2" in lines[2] and not (tmp_path / "none").exists()


def test_a_failing_process_ends_all(tmp_path):
    done = start(tmp_path / "bad", "launch/local.py", "--processes=2", "--", "--config.student.kernel=heun")
    assert done.returncode != 0 and "config.student.kernel" in done.stderr
