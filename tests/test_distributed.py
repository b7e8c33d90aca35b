"""Several processes give the student of one, through the command line."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest

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
    "--config.evaluation.num_samples=32",
    "--config.evaluation.batch_size=32",
    "--config.evaluation.held_out=16",
    "--config.evaluation.weighted=4",
    "--config.evaluation.paths=4",
    "--config.evaluation.reference_steps=0",
    "--config.evaluation.temperatures=()",
]


def start(workdir, *launcher):
    command = [sys.executable, *(launcher or ("-m", "lsd_jax.main")), *TINY, f"--workdir={workdir}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


def machines(workdirs, *more):
    """One process per folder, as on machines that share no disk; (exit code, stderr) of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = [f"--coordinator=localhost:{port}", f"--num_processes={len(workdirs)}", "--distributed", *more]
    base = [sys.executable, "-m", "lsd_jax.main", *TINY, *common]
    commands = [[*base, f"--process_id={index}", f"--workdir={folder}"] for index, folder in enumerate(workdirs)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    return [(process.returncode, error) for process in running for error in [process.communicate(timeout=280)[1]]]


def student(workdir):
    return json.loads((workdir / "students" / "M3" / "student.json").read_text())


def test_two_processes_give_the_student_of_one(tmp_path):
    for name, launcher in (("two", ("launch/local.py", "--processes=2", "--")), ("one", ("-m", "lsd_jax.main"))):
        done = start(tmp_path / name, *launcher, *(["--stage=distill"] if name == "one" else []))
        assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "two" / "report" / "index.html").exists()  # two processes run every stage
    two, one = student(tmp_path / "two"), student(tmp_path / "one")
    assert two["time_grid"] == one["time_grid"] and two["steps"] == 3
    for field in ("coefficients", "temperatures"):
        np.testing.assert_allclose(two[field], one[field], rtol=1e-4)
    grid = "unseen_path_kl_nats"
    np.testing.assert_allclose(two["metrics"][grid], one["metrics"][grid], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_machines_without_a_shared_disk_go_by_the_first_one_s(tmp_path):
    """The second has no file of the run: it learns from the first what is there and what is to be done."""
    folders, few = [tmp_path / "first", tmp_path / "second"], ("--config.distill.steps=0",)
    for attempt in range(2):
        if attempt:  # a cell is lost, the rest is there: on one machine only
            next((folders[0] / "cells").glob("*euler*.json")).unlink()
        done = machines(folders, *few)
        assert [code for code, _ in done] == [0, 0], done
    assert (folders[0] / "report" / "index.html").exists() and list((folders[0] / "cells").glob("*euler*.json"))


def test_an_error_on_one_machine_ends_all_with_its_message(tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "thesis.tex").touch()
    done = machines([tmp_path / "first", tmp_path / "second"])
    assert all(code != 0 and "is not empty and holds no run" in error for code, error in done), done


def test_dry_run_prints_every_command(tmp_path):
    done = start(tmp_path / "none", "launch/local.py", "--processes=3", "--dry_run", "--")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and "--process_id=2" in lines[2] and not (tmp_path / "none").exists()


def test_a_failing_process_ends_all(tmp_path):
    done = start(tmp_path / "bad", "launch/local.py", "--processes=2", "--", "--config.student.kernel=heun")
    assert done.returncode != 0 and "config.student.kernel" in done.stderr
