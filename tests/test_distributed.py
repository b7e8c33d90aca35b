"""Several processes give the student of one, through the command line."""

import json
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from lsd_jax.checkpoints import STOPPED
from lsd_jax.main import is_of_another

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


def until(condition, *running, seconds=200):
    """Waits for what the processes are to do; fails with their messages where they end before."""
    end = time.monotonic() + seconds
    while not condition():
        ended = [process.communicate()[1] for process in running if process.poll() is not None]
        assert not ended and time.monotonic() < end, ended
        time.sleep(0.05)


def student(workdir):
    return json.loads((workdir / "students" / "M3" / "student.json").read_text())


@pytest.mark.slow  # the notebook 04_pod runs four processes in every suite
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_give_the_student_of_one(tmp_path, count):
    several = ("launch/local.py", f"--processes={count}", "--", "--config.cpu_devices=1", "--stage=distill")
    for name, launcher in (("several", several), ("one", (f"--config.cpu_devices={count}", "--stage=distill"))):
        done = start(tmp_path / name, *launcher)
        assert done.returncode == 0, done.stderr[-3000:]
    several, one = student(tmp_path / "several"), student(tmp_path / "one")
    assert several["time_grid"] == one["time_grid"] and several["steps"] == 3
    for field in ("coefficients", "temperatures"):
        np.testing.assert_allclose(several[field], one[field], rtol=1e-4)
    grid = "unseen_path_kl_nats"
    np.testing.assert_allclose(several["metrics"][grid], one["metrics"][grid], rtol=1e-4, atol=1e-4)


NETWORK = ["name=ddit", "dim=32", "depth=1", "heads=2"]
TRAINING = ["steps=10", "batch_size=8", "microbatch=1", "validation_sequences=32"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_parameters_in_parts_on_two_processes_give_the_network_and_the_student_of_whole_ones(tmp_path):
    """Two processes of four devices; every large parameter has a part on each of the eight."""
    more = [f"--config.model.{value}" for value in NETWORK] + [f"--config.training.{value}" for value in TRAINING]
    parts = ("launch/local.py", "--processes=2", "--", "--config.cpu_devices=4", "--config.parameter_shards=8")
    found = []
    for name, launcher in (("parts", parts), ("whole", ("--config.cpu_devices=8",))):
        for stage in ("train", "distill"):
            done = start(tmp_path / name, *launcher, *more, f"--stage={stage}")
            assert done.returncode == 0, done.stderr[-3000:]
        record = student(tmp_path / name)
        tensors = load_file(tmp_path / name / "train" / "weights.safetensors")
        found.append(tensors | {field: np.array(record[field]) for field in ("coefficients", "time_grid")})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 8
    for name, value in found[1].items():
        np.testing.assert_allclose(found[0][name], value, rtol=2e-3, atol=1e-4, err_msg=name)


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


_LOOP = """
import os, signal, sys
from lsd_jax import checkpoints, startup
startup.join(sys.argv[1], 2, int(sys.argv[2]), None, 60)
with checkpoints.StopSignal() as stop:
    for step in range(1, 100):
        if step == 5 and sys.argv[2] == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGTERM)
        if stop.agreed(wait=sys.argv[4] == "wait"):
            stop.leave(step)
"""


@pytest.mark.parametrize(("signaled", "waits", "step"), [(0, "wait", 5), (1, "later", 6)])
def test_a_signal_to_one_process_stops_all_at_the_same_step(signaled, waits, step):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        command = [sys.executable, "-c", _LOOP, f"127.0.0.1:{free.getsockname()[1]}"]
    words = [(str(index), str(signaled), waits) for index in range(2)]
    running = [subprocess.Popen([*command, *own], stderr=subprocess.PIPE, text=True) for own in words]
    for process in running:
        error = process.communicate(timeout=100)[1]
        assert process.returncode == STOPPED and f"stopped at step {step}; run the same command" in error, error


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_signal_to_one_process_or_to_the_launcher_saves_on_all_and_loses_nothing(tmp_path):
    more = ("--config.distill.steps=600", "--config.distill.checkpoint_every=600", "--stage=distill")
    undisturbed = machines([tmp_path / "straight"] * 2, *more)
    assert [code for code, _ in undisturbed] == [0, 0], undisturbed
    run = tmp_path / "run"
    steps = lambda: sum(file.read_text().count("\n") for file in run.glob("students/M3/metrics.jsonl"))

    running = started([run] * 2, *more)
    until(lambda: steps() > 2, *running)
    running[1].send_signal(signal.SIGTERM)
    errors = [process.communicate(timeout=100)[1] for process in running]
    assert [process.returncode for process in running] == [STOPPED] * 2, errors
    (reached,) = {re.search(r"stopped at step (\d+)", error)[1] for error in errors}
    assert 0 < int(reached) < 600 and (run / "students" / "M3" / "checkpoints" / reached).exists()

    before, command = steps(), [sys.executable, "launch/local.py", "--processes=2", "--", *TINY, *more]
    launcher = subprocess.Popen([*command, f"--workdir={run}"], stderr=subprocess.PIPE, text=True)
    until(lambda: steps() > before + 2, launcher)
    launcher.send_signal(signal.SIGTERM)
    error = launcher.communicate(timeout=100)[1]
    assert launcher.returncode == STOPPED and error.count("stopped at step") == 2, error
    assert f"resumed from step {reached}" in error

    done = machines([run] * 2, *more)
    assert [code for code, _ in done] == [0, 0], done
    straight, again = student(tmp_path / "straight"), student(run)
    for record in (straight, again):
        record.pop("provenance"), record["metrics"].pop("seconds")
    assert straight == again


@pytest.mark.slow
def test_a_second_run_in_the_directory_is_told_on_every_process(tmp_path):
    first = subprocess.Popen([sys.executable, "-m", "lsd_jax.main", *TINY, f"--workdir={tmp_path / 'run'}"])
    try:
        until((tmp_path / "run" / "lock").exists, first)
        done = machines([tmp_path / "run"] * 2)
    finally:
        first.kill()
        first.wait()
    for code, error in done:
        told = [line for line in error.splitlines() if line.startswith("error: ")]
        assert code == 1 and len(told) == 1 and f"another run is in it (process {first.pid} on " in told[0], error


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


def test_what_is_seen_of_a_process_that_has_died_is_known_whatever_its_class():
    seen = "UNKNOWN: Gloo all-reduce failed: [pair.cc:547] Connection closed by peer [127.0.0.1]:5530"
    assert is_of_another(ValueError(seen)) and is_of_another(jax.errors.JaxRuntimeError("anything"))
    assert not is_of_another(ValueError("steps=0: must be 1 or more"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [3, 4])
def test_more_processes_run_every_stage(tmp_path, count):
    more = ["--config.teacher.paths=36", "--config.distill.steps=0"]
    more += [
        "--config.evaluation.num_samples=36",
        "--config.evaluation.batch_size=36",
        "--config.evaluation.held_out=24",
    ]
    done = start(tmp_path / "run", "launch/local.py", f"--processes={count}", "--", *more)
    assert done.returncode == 0 and (tmp_path / "run" / "report" / "index.html").exists(), done.stderr[-3000:]


def test_dry_run_prints_every_command(tmp_path):
    done = start(tmp_path / "none", "launch/local.py", "--processes=3", "--dry_run", "--")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and "--process_id=2" in lines[2] and not (tmp_path / "none").exists()


def test_a_failing_process_ends_all(tmp_path):
    done = start(tmp_path / "bad", "launch/local.py", "--processes=2", "--", "--config.student.kernel=heun")
    assert done.returncode != 0 and "config.student.kernel" in done.stderr
