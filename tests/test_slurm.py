"""launch/slurm.py: the file that it submits, and the same under a SLURM of one node that the test starts for itself."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest

PROGRAMS = ("slurmctld", "slurmd", "munged", "srun", "sbatch", "scontrol", "scancel")
TINY = [
    "--config=configs/countdown.py",
    "--config.cpu_devices=1",
    "--config.data.vocab_size=8",
    "--config.data.sequence_length=24",
    "--config.data.mix=0.01",
    "--config.teacher.steps=24",
    "--config.teacher.paths=32",
    "--config.student.steps=3",
    "--config.distill.batch_size=8",
    "--stage=distill",
]
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
JobRequeue=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def launched(*arguments, cwd=None, **more):
    return subprocess.run(
        [sys.executable, str(pathlib.Path("launch/slurm.py").resolve()), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        **more,
    )


def test_the_file_has_a_process_per_gpu_and_a_folder_per_seed(tmp_path):
    flags = ["--nodes=2", "--gpus_per_node=4", "--time=1-00:00:00", "--partition=gpu", "--account=me", "--seeds=0-2"]
    flags += ["--cpus_per_task=6", "--sbatch=--qos=high", "--setup=module load cuda", "--dry_run"]
    done = launched(*flags, "--", "--config=text", "--workdir=/my runs/a", "--config.data.name=a$b", cwd=tmp_path)
    lines = done.stdout.splitlines()
    options = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert done.returncode == 0 and lines[0] == "#!/bin/bash" and lines[-1] == "sbatch logs/lsd_jax.sbatch"
    assert {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--array=0-2", "--qos=high"} <= options
    assert {"--requeue", "--signal=B:TERM@120", "--time=1-00:00:00", "--partition=gpu", "--account=me"} <= options
    run = next(line for line in lines if line.startswith("srun "))
    assert lines.index("module load cuda") < lines.index(run) and not any(tmp_path.iterdir())
    assert "--gpu-bind=none" in run and "--cpus-per-task=6" in run and "%j_%t.log" in run
    # What bash makes of the line is what lsd_jax gets.
    shell = f"srun() {{ printf '%s\\n' \"$@\"; }}; SLURM_ARRAY_TASK_ID=2; {run.removesuffix('&')}"
    got = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout.splitlines()
    assert got[got.index("lsd_jax.main") + 1 :] == [
        "--distributed",
        "--config=text",
        "--workdir=/my runs/a/seed_2",
        "--config.data.name=a$b",
        "--config.seed=2",
    ]
    checked = subprocess.run(["bash", "-n"], input="\n".join(lines[:-1]), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: --config: name the experiment"),
        (["--seeds=a", "--", "--config=text"], "error: --seeds=a: must be an array"),
        (["--seeds=0-2", "--", "--config=text"], "error: --seeds: give --workdir=FOLDER"),
        (["--seeds=0-2", "--", "--config=text", "--config.seed=1"], "error: --config.seed: leave it out"),
        (["--time=soon", "--", "--config=text"], "error: --time=soon: must be"),
        (["--tasks_per_node=2", "--", "--config=text"], "error: --tasks_per_node: goes with"),
        (["--partition=a b", "--", "--config=text"], "error: --partition='a b': must have no spaces"),
        (["--sbatch=qos", "--", "--config=text"], "error: --sbatch=qos: must be an option"),
        (["--", "--config=text", "--coordinator=a:1"], "error: --coordinator: leave it out"),
    ],
)
def test_bad_input_ends_in_one_line(tmp_path, arguments, message):
    done = launched("--dry_run", *arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1


def test_without_slurm_one_line_says_so(tmp_path):
    done = launched("--", "--config=text", cwd=tmp_path, env={**os.environ, "PATH": str(tmp_path)})
    assert done.returncode == 1 and done.stderr.startswith("error: sbatch: no such command")


@pytest.fixture
def slurm(tmp_path):
    """The environment of a SLURM of one node with two CPUs, which goes with the test."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge")
    if os.geteuid():
        pytest.skip("a SLURM of the test's own needs root")
    host = socket.gethostname().partition(".")[0]
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("", 0))
        ports = [probe.getsockname()[1] for probe in (one, two)]
    folder = tmp_path / "slurm"
    (folder / "state").mkdir(parents=True)
    (folder / "spool").mkdir()
    (folder / "slurm.conf").write_text(CONF.format(host=host, ports=ports, folder=folder))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "SLURM_MPI_TYPE": "none"}
    environment["PATH"] += ":/usr/sbin"
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    running = []
    try:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            with (folder / f"{command[0]}.out").open("w") as log:
                running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
            time.sleep(0.5)
        until(lambda: said(environment, "sinfo", "-h", "-o", "%t").strip() == "idle", 30, folder)
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment)
        time.sleep(1)
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(timeout=60)


def said(environment, *command):
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stdout


def until(condition, seconds, folder, more=lambda: ""):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = [more()] + [
                f"{path.name}: {path.read_text(errors='replace')[-1500:]}" for path in folder.glob("*.[ol]*")
            ]
            raise AssertionError("\n".join(logs))
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", ["--batch {job}", "{job}.0"])
def test_a_job_that_gets_sigterm_saves_is_queued_again_and_ends_with_its_student(slurm, tmp_path, target):
    """The signal goes to the batch file, which hands it on, or to the processes directly, which end with a code of their own."""
    logs, run = tmp_path / "logs", tmp_path / "run"
    flags = ["--gpus_per_node=0", "--tasks_per_node=2", f"--logs={logs}", "--time=10", "--sbatch=--mem=0"]
    arguments = [*TINY, "--config.distill.steps=400", f"--workdir={run}"]
    done = launched(*flags, "--", *arguments, env=slurm)
    assert done.returncode == 0, done.stderr
    job = re.search(r"\d+", done.stdout)[0]

    def state():
        return said(slurm, "scontrol", "show", "job", job)

    until(lambda: any(run.glob("students/*/events*")), 300, logs, state)
    time.sleep(1)
    subprocess.run(["scancel", "--signal=TERM", *target.format(job=job).split()], env=slurm, check=True)
    until(lambda: "Restarts=1" in state(), 100, logs, state)
    told = [(logs / f"{job}_{task}.log").read_text() for task in range(2)]
    assert all(f"process {task} of 2" in told[task] and "stopped at step" in told[task] for task in range(2)), told
    assert any(run.glob("students/M3/checkpoints/*"))

    def completed():
        if "JobState=PENDING" in (told := state()):  # SLURM lets a job that is queued again wait for two minutes
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], env=slurm)
            time.sleep(2)
        return "JobState=COMPLETED" in told

    until(completed, 300, logs, state)
    student = json.loads((run / "students" / "M3" / "student.json").read_text())
    assert student["steps"] == 3
