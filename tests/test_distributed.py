"""Several processes give the student of one, through the command line."""

import json
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

TINY = [
    "--config=configs/countdown.py",
    "--config.cpu_devices=1",
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
    """One run; `launcher` is a script with its arguments up to "--", or nothing, and then more arguments of the run."""
    cut = launcher.index("--") if "--" in launcher else 0
    launcher, more = (launcher[: cut + 1], launcher[cut + 1 :]) if cut else (("-m", "lsd_jax.main"), launcher)
    command = [sys.executable, *launcher, *TINY, *more, f"--workdir={workdir}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=280)


def machines(workdirs, *more, last=()):
    """One process per folder, as on machines that share no disk; (exit code, stderr) of each.

    Args:
        last: arguments of the last process alone.
    """
    running = started(workdirs, *more, last=last)
    return [(process.returncode, error) for process in running for error in [process.communicate(timeout=280)[1]]]


def started(workdirs, *more, last=()):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = [f"--coordinator=localhost:{port}", f"--num_processes={len(workdirs)}", "--distributed", *more]
    base = [sys.executable, "-m", "lsd_jax.main", *TINY, *common]
    commands = [[*base, f"--process_id={index}", f"--workdir={folder}"] for index, folder in enumerate(workdirs)]
    commands[-1] += last
    return [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]


def student(workdir):
    return json.loads((workdir / "students" / "M3" / "student.json").read_text())


def test_two_processes_give_the_student_of_one(tmp_path):
    two = ("launch/local.py", "--processes=2", "--", "--config.cpu_devices=1", "--stage=distill")
    for name, launcher in (("two", two), ("one", ("--config.cpu_devices=2", "--stage=distill"))):
        done = start(tmp_path / name, *launcher)
        assert done.returncode == 0, done.stderr[-3000:]
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


def test_an_error_on_the_last_machine_alone_ends_all_with_its_message(tmp_path):
    began = time.monotonic()
    done = machines([tmp_path / "first", tmp_path / "second"], last=["--config.student.kernel=heun"])
    assert all(code != 0 and "config.student.kernel='heun'" in error for code, error in done), done
    assert "(process 1)" in done[0][1] and time.monotonic() - began < 60


@pytest.mark.slow
def test_a_process_that_is_killed_takes_the_others_with_it(tmp_path):
    """Without a word: an out-of-memory kill, a preempted machine."""
    running = started([tmp_path, tmp_path])
    while not (tmp_path / "config.json").exists():
        time.sleep(0.2)
    running[1].kill()
    running[1].communicate()
    began = time.monotonic()
    error = running[0].communicate(timeout=120)[1]
    assert running[0].returncode != 0 and "another process of this run has ended" in error
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_three_processes_run_every_stage(tmp_path):
    more = ["--config.teacher.paths=36", "--config.distill.steps=0"]
    more += [
        "--config.evaluation.num_samples=30",
        "--config.evaluation.batch_size=30",
        "--config.evaluation.held_out=15",
    ]
    done = start(tmp_path / "three", "launch/local.py", "--processes=3", "--", *more)
    assert done.returncode == 0 and (tmp_path / "three" / "report" / "index.html").exists(), done.stderr[-3000:]


def test_dry_run_prints_every_command(tmp_path):
    done = start(tmp_path / "none", "launch/local.py", "--processes=3", "--dry_run", "--")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and "--process_id=2" in lines[2] and not (tmp_path / "none").exists()


def test_a_failing_process_ends_all(tmp_path):
    done = start(tmp_path / "bad", "launch/local.py", "--processes=2", "--", "--config.student.kernel=heun")
    assert done.returncode != 0 and "config.student.kernel" in done.stderr
