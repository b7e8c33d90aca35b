"""Submits one experiment to SLURM, one process per GPU; a run that is preempted saves, and is queued again.

python launch/slurm.py --nodes=2 --gpus_per_node=8 --time=12:00:00 -- --config=text --workdir=/shared/runs/text
"""

import pathlib
import re
import shlex
import subprocess
import sys

from absl import app, flags

_NODES = flags.DEFINE_integer("nodes", 1, "How many nodes.", lower_bound=1)
_GPUS = flags.DEFINE_integer("gpus_per_node", 8, "GPUs per node, each with a process of its own.", lower_bound=0)
_TASKS = flags.DEFINE_integer("tasks_per_node", 1, "--gpus_per_node=0: processes per node.", lower_bound=1)
_CPUS = flags.DEFINE_integer("cpus_per_task", 0, "CPU cores per process; 0 leaves it to SLURM.", lower_bound=0)
_SEEDS = flags.DEFINE_string("seeds", "", "One run per seed, as SLURM writes arrays: 0-4, 1,3,5 or 0-9%2.")
_NAME = flags.DEFINE_string("job_name", "lsd_jax", "The job's name.")
_PARTITION = flags.DEFINE_string("partition", "", "SLURM's partition.")
_ACCOUNT = flags.DEFINE_string("account", "", "SLURM's account.")
_TIME = flags.DEFINE_string("time", "", "Time limit of one start: 30, 12:00:00 or 1-00:00:00.")
_SBATCH = flags.DEFINE_multi_string(
    "sbatch", [], "Another option of sbatch, for example --sbatch=--qos=high; repeatable."
)
_SETUP = flags.DEFINE_string("setup", "", 'A shell line before the run: "module load cuda; source venv/bin/activate".')
_LOGS = flags.DEFINE_string("logs", "logs", "Folder, on a shared disk, of the script and of one log per process.")
_REQUEUES = flags.DEFINE_integer("requeues", 100, "How often a stopped run may be queued again.", lower_bound=0)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the file and the command instead of submitting.")

_OURS = ("--distributed", "--coordinator", "--num_processes", "--process_id", "--local_device_ids")
# The shell gets the signal, hands it on to the processes, waits for what they save, and queues the job again. srun itself would kill
# them at a SIGTERM. Exit code 75 of lsd_jax means that a signal reached one of the processes directly, and that all have saved. After
# the shell's own signal any code but 0 is a stop: a stage without checkpoints ends by the signal.
_BODY = r"""
job="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
stopped=""
stop() {
    trap : TERM  # the next one comes from SLURM, which ends this start
    stopped=yes
    echo "$(date): SIGTERM; the processes save"
    scancel --signal=TERM "$job.0"
}
trap stop TERM

@RUN &
step=$!
wait "$step"
code=$?
if [ -n "$stopped" ]; then
    for _ in $(seq 90); do
        kill -0 "$step" 2>/dev/null || break
        sleep 1
    done
    if kill -0 "$step" 2>/dev/null; then
        code=1
    else
        wait "$step"
        code=$?
    fi
fi
if [ "$code" -eq 75 ] || { [ -n "$stopped" ] && [ "$code" -ne 0 ]; }; then
    if [ "${SLURM_RESTART_COUNT:-0}" -lt @REQUEUES ]; then
        echo "$(date): queued again"
        scontrol requeue "$job"
        sleep 60
    fi
fi
exit "$code"
"""


class UsageError(ValueError):
    """An argument that cannot be used: one line."""


def script(arguments: list[str]) -> str:
    """The file that sbatch gets.

    Raises:
        UsageError: the arguments do not go together.
    """
    _check(arguments)
    tasks = _GPUS.value or _TASKS.value
    options = [f"--job-name={_NAME.value}", f"--nodes={_NODES.value}", f"--ntasks-per-node={tasks}"]
    step = ["srun", "--kill-on-bad-exit=1", f"--output={_LOGS.value}/%j_%t.log", "--open-mode=append"]
    if _GPUS.value:
        options += [f"--gpus-per-node={_GPUS.value}"]
        # JAX takes the GPU of the process's number on its node, so each must see all of them.
        step += ["--gpu-bind=none"]
    if _CPUS.value:
        options += [f"--cpus-per-task={_CPUS.value}"]
        step += [f"--cpus-per-task={_CPUS.value}"]  # srun no longer takes it over from sbatch
    named = {"partition": _PARTITION.value, "account": _ACCOUNT.value, "time": _TIME.value, "array": _SEEDS.value}
    options += [f"--{name}={value}" for name, value in named.items() if value] + _SBATCH.value
    options += ["--requeue", "--open-mode=append", "--signal=B:TERM@120", f"--output={_LOGS.value}/%j.log"]
    python = "python" if _SETUP.value else shlex.quote(sys.executable)
    run = [*map(shlex.quote, step), python, "-m", "lsd_jax.main", "--distributed"]
    for argument in arguments:
        if _SEEDS.value and argument.startswith("--workdir="):
            run.append(shlex.quote(argument.rstrip("/")) + '/"seed_$SLURM_ARRAY_TASK_ID"')
        else:
            run.append(shlex.quote(argument))
    if _SEEDS.value:
        run.append('--config.seed="$SLURM_ARRAY_TASK_ID"')
    body = _BODY.replace("@RUN", " ".join(run)).replace("@REQUEUES", str(_REQUEUES.value))
    lines = ["#!/bin/bash", *(f"#SBATCH {option}" for option in options)]
    return "\n".join([*lines, *([_SETUP.value] if _SETUP.value else [])]) + "\n" + body


def _check(arguments: list[str]) -> None:
    names = [argument.partition("=")[0] for argument in arguments]
    if "--config" not in names:
        raise UsageError('--config: name the experiment after "--", for example -- --config=text')
    for name in _OURS:
        if name in names:
            raise UsageError(f"{name}: leave it out, SLURM tells the processes who they are")
    if _GPUS.value and _TASKS.present:
        raise UsageError("--tasks_per_node: goes with --gpus_per_node=0; on GPUs there is one process per GPU")
    if _SEEDS.value and not re.fullmatch(r"\d+(-\d+(:\d+)?)?(,\d+(-\d+(:\d+)?)?)*(%[1-9]\d*)?", _SEEDS.value):
        raise UsageError(f"--seeds={_SEEDS.value}: must be an array of SLURM's: 0-4, 1,3,5 or 0-9%2")
    if _SEEDS.value and "--config.seed" in names:
        raise UsageError("--config.seed: leave it out, --seeds sets it")
    if _SEEDS.value and not any(re.match(r"--workdir=.", argument) for argument in arguments):
        raise UsageError('--seeds: give --workdir=FOLDER after "--"; each seed has a folder in it')
    if _TIME.value and not re.fullmatch(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}", _TIME.value):
        raise UsageError(f"--time={_TIME.value}: must be minutes, H:MM:SS or D-HH:MM:SS")
    values = {"job_name": _NAME, "partition": _PARTITION, "account": _ACCOUNT, "logs": _LOGS}
    for name, value in values.items():
        if re.search(r"\s", value.value):
            raise UsageError(f"--{name}={value.value!r}: must have no spaces")
    for option in _SBATCH.value:
        if not re.match(r"--?[a-z]", option) or "\n" in option:
            raise UsageError(f"--sbatch={option}: must be an option of sbatch, for example --sbatch=--qos=high")


def main(argv: list[str]) -> None:
    try:
        text = script(argv[1:])
    except UsageError as error:
        sys.exit(f"error: {error}")
    path = pathlib.Path(_LOGS.value) / f"{_NAME.value}.sbatch"
    command = ["sbatch", str(path)]
    if _DRY_RUN.value:
        print(text + shlex.join(command))
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # SLURM makes no folder for its logs
        path.write_text(text, encoding="utf-8")
        sys.exit(subprocess.run(command).returncode)
    except FileNotFoundError:
        sys.exit("error: sbatch: no such command; run this on a login node of SLURM, or with --dry_run")
    except OSError as error:
        sys.exit(f"error: --logs={_LOGS.value}: {error.strerror}")


if __name__ == "__main__":
    app.run(main)
