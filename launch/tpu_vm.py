"""Runs an experiment on a Cloud TPU VM of one or more hosts, through the gcloud of whoever calls it.

python launch/tpu_vm.py create --name=pod --zone=us-west4-a --accelerator=v5litepod-16 --spot
python launch/tpu_vm.py wait --name=pod --zone=us-west4-a --workers=4
python launch/tpu_vm.py push --name=pod --zone=us-west4-a
python launch/tpu_vm.py setup --name=pod --zone=us-west4-a
python launch/tpu_vm.py start --name=pod --zone=us-west4-a -- --config=text

Then tail, stop, collect and delete. --dry_run prints the commands instead of running them. No JAX is needed here.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import time
from typing import NoReturn

# On every host, below the home folder: the code, its environment, and what a run writes.
_CODE, _VENV, _RUN = "lsd_jax", "lsd_venv", "lsd_run"
_ARCHIVE = "runs/lsd_jax.tar.gz"  # here; git ignores runs/
_POLL_SECONDS = 30
_LOST = ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING", "PREEMPTED", "TERMINATED", "STOPPED")
_WORKER = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number"

_SETUP = f"""set -e
python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --allow-existing --python=3.11 {_VENV}
~/.local/bin/uv pip install --python={_VENV}/bin/python """
_START = f"""set -e
mkdir -p {_CODE} {_RUN}
cd {_RUN}
if [ -e run.pid ] && kill -0 $(cat run.pid) 2> /dev/null; then echo "error: a run is going on here; stop it first"; exit 1; fi
cat > run.sh <<"END_OF_SCRIPT"
%s
END_OF_SCRIPT
setsid nohup bash run.sh > run.sh.log 2>&1 < /dev/null &
"""
_SCRIPT = f"""cd ~/{_CODE}
~/{_VENV}/bin/python -m lsd_jax.main %s >> ~/{_RUN}/run.log 2>&1 &
pid=$!
cd ~/{_RUN}
echo $pid > run.pid
wait $pid
echo "exit code $?" >> run.log"""
# Only worker 0 writes results. What is in the bucket is fetched only where the host has nothing, as after a preemption.
_SCRIPT_BUCKET = f"""cd ~/{_RUN}
worker=$(curl --silent --header "Metadata-Flavor: Google" {_WORKER})
copy() {{
  gcloud storage cp --quiet run.log %(bucket)s/worker-$worker.log
  if [ "$worker" = 0 ]; then gcloud storage rsync --quiet --recursive workdir %(bucket)s/workdir; fi
}}
if [ ! -d workdir ]; then
  mkdir workdir
  gcloud storage rsync --quiet --recursive %(bucket)s/workdir workdir
fi
cd ~/{_CODE}
~/{_VENV}/bin/python -m lsd_jax.main %(arguments)s >> ~/{_RUN}/run.log 2>&1 &
pid=$!
cd ~/{_RUN}
echo $pid > run.pid
while sleep 60; kill -0 $pid; do copy; done
wait $pid
echo "exit code $?" >> run.log
copy"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}")  # one line, without the usage


def _checked(pattern: str, form: str):
    """An argument type: text that matches the whole pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise argparse.ArgumentTypeError(f"{value!r} is not of the form {form}")
        return value

    return check


def _accelerator(value: str) -> str:
    if re.fullmatch(r"v5e-\d+", value):
        raise argparse.ArgumentTypeError(f"{value!r}: gcloud calls it v5litepod-{value.removeprefix('v5e-')}")
    return _checked(r"v\d+[a-z]*-[1-9]\d*", "v5litepod-16, v4-32 or v6e-8")(value)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; what follows "--" is the experiment's and is kept as `arguments`."""
    cut = argv.index("--") if "--" in argv else len(argv)
    parser = _Parser(description="Runs an experiment on a Cloud TPU VM.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="verb", required=True, parser_class=_Parser)
    helps = {
        "create": "create the TPU VM, or queue for it",
        "wait": "wait until it is ready, and connect to each worker once",
        "push": "copy the committed code (HEAD) to all workers",
        "setup": "make a Python environment with jax[tpu] on all workers",
        "start": 'start the experiment on all workers, detached; its arguments follow "--"',
        "tail": "follow the log of one worker",
        "stop": "ask all workers to save and to end",
        "collect": "copy the run directory and the log of worker 0 to this machine",
        "delete": "delete the TPU VM",
    }
    verbs = {name: commands.add_parser(name, help=text, allow_abbrev=False) for name, text in helps.items()}
    for name, verb in verbs.items():
        verb.add_argument("--name", required=True, type=_checked(r"[a-z]([-a-z0-9]*[a-z0-9])?", "my-pod"))
        verb.add_argument("--zone", required=True, type=_checked(r"[a-z]+-[a-z]+\d+-[a-z]", "us-west4-a"))
        verb.add_argument("--project", help="by default the one that gcloud is set to")
        verb.add_argument("--dry_run", action="store_true", help="print the commands instead of running them")
        if name not in ("create", "delete"):
            verb.add_argument("--ssh_key_file", help="by default gcloud's, ~/.ssh/google_compute_engine")
        if name in ("create", "wait", "delete"):
            verb.add_argument("--queued", action="store_true", help="a queued resource, which waits for capacity")
    verbs["create"].add_argument("--accelerator", required=True, type=_accelerator)
    verbs["create"].add_argument("--version", default="tpu-ubuntu2204-base", help="of the TPU runtime")
    verbs["create"].add_argument("--spot", action="store_true", help="cheaper, and may be taken away at any time")
    verbs["wait"].add_argument(
        "--workers", type=_checked(r"[1-9]\d*", "4"), default="1", help="how many hosts the slice has"
    )
    verbs["setup"].add_argument("--source", default=f"./{_CODE}", help="git+https://...; by default what was pushed")
    bucket = _checked(r"gs://[^/\s]+(/[^\s]*[^/\s])?", "gs://bucket/folder")
    verbs["start"].add_argument("--bucket", type=bucket, help="where to copy the run directory and logs to")
    verbs["tail"].add_argument("--worker", type=_checked(r"\d+", "0"), default="0", help="its number, from 0")
    verbs["collect"].add_argument("--to", default="runs/collected", help="a folder on this machine")
    options = parser.parse_args(argv[:cut])
    options.arguments = argv[cut + 1 :]
    if options.verb != "start" and options.arguments:
        parser.error(f"{options.verb} takes no arguments after --")
    if options.verb == "start":
        names = [argument.lstrip("-").split("=")[0] for argument in options.arguments]
        if "config" not in names:
            parser.error("start: give the experiment after --, for example -- --config=text")
        for name in {"workdir", "distributed", "coordinator", "num_processes", "process_id"} & set(names):
            parser.error(f"start: --{name} is set by this launcher; leave it out")
    return options


def plan(options: argparse.Namespace) -> list[list[str]]:
    """The commands of a sub-command, in order."""
    where = [f"--zone={options.zone}", *([f"--project={options.project}"] if options.project else [])]
    node = ["gcloud", "compute", "tpus", "tpu-vm"]
    queue = ["gcloud", "compute", "tpus", "queued-resources"]
    key = [f"--ssh-key-file={options.ssh_key_file}"] if getattr(options, "ssh_key_file", None) else []
    name = options.name

    def ssh(worker: str | int, command: str) -> list[str]:
        alive = "--ssh-flag=-o ServerAliveInterval=30"  # a quiet connection is cut by some networks
        return [*node, "ssh", name, *where, *key, alive, f"--worker={worker}", f"--command={command}", "--quiet"]

    def scp(worker: str | int, *paths: str) -> list[str]:
        return [*node, "scp", *paths, *where, *key, f"--worker={worker}", "--quiet"]

    if options.verb == "create":
        shape = [f"--accelerator-type={options.accelerator}", *(["--spot"] if options.spot else [])]
        if options.queued:
            return [
                [*queue, "create", name, f"--node-id={name}", *where, f"--runtime-version={options.version}", *shape]
            ]
        return [[*node, "create", name, *where, f"--version={options.version}", *shape]]
    if options.verb == "wait":
        describe = [*queue, "describe", name, *where, "--format=value(state.state)"]
        if not options.queued:
            describe = [*node, "describe", name, *where, "--format=value(state)"]
        # The first connection makes and spreads the SSH key and notes the host's: --worker=all at once can fail on that.
        return [describe, *(ssh(worker, "true") for worker in range(int(options.workers)))]
    if options.verb == "push":
        unpack = f"rm -rf {_CODE} && mkdir {_CODE} && tar -xzf lsd_jax.tar.gz -C {_CODE}"
        archive = ["git", "archive", "--format=tar.gz", f"--output={_ARCHIVE}", "HEAD"]
        return [["mkdir", "-p", "runs"], archive, scp("all", _ARCHIVE, f"{name}:"), ssh("all", unpack)]
    if options.verb == "setup":
        pushed = options.source == f"./{_CODE}"
        what = f'--constraint={_CODE}/requirements.txt "jax[tpu]" {options.source}' if pushed else ""
        return [ssh("all", _SETUP + (what or f'"jax[tpu]" {shlex.quote("lsd_jax @ " + options.source)}'))]
    if options.verb == "start":
        arguments = shlex.join([*options.arguments, "--distributed"]) + f" --workdir=$HOME/{_RUN}/workdir"
        if options.bucket:
            script = _SCRIPT_BUCKET % {"arguments": arguments, "bucket": shlex.quote(f"{options.bucket}/{name}")}
        else:
            script = _SCRIPT % arguments
        return [ssh("all", _START % script)]
    if options.verb == "tail":
        return [ssh(options.worker, f"tail -n 50 -F {_RUN}/run.log")]
    if options.verb == "stop":
        return [ssh("all", f"kill -TERM $(cat {_RUN}/run.pid)")]
    if options.verb == "collect":
        copies = [[*scp(0, f"{name}:{_RUN}/{path}", options.to), "--recurse"] for path in ("workdir", "run.log")]
        return [["mkdir", "-p", options.to], *copies]
    if options.queued:
        return [[*queue, "delete", name, *where, "--force", "--quiet"]]
    return [[*node, "delete", name, *where, "--quiet"]]


def _run(command: list[str]) -> None:
    code = subprocess.run(command).returncode
    if code:
        sys.exit(f"error: exit code {code} of: {shlex.join(command)[:200]}")


def _until_ready(describe: list[str]) -> None:
    while True:
        done = subprocess.run(describe, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"error: {(done.stderr.strip().splitlines() or ['gcloud failed without a word'])[0]}")
        state = done.stdout.strip()
        print(time.strftime("%H:%M:%S"), state, flush=True)
        if state in ("READY", "ACTIVE"):
            return
        if state in _LOST:
            sys.exit(f"error: its state is {state}: delete it, and create it again")
        time.sleep(_POLL_SECONDS)


def main(argv: list[str]) -> None:
    options = parse(argv)
    commands = plan(options)
    if options.dry_run:
        print("\n".join(shlex.join(command) for command in commands))
        return
    for tool in {command[0] for command in commands}:
        if shutil.which(tool) is None:
            hint = "; install the Google Cloud CLI and run `gcloud auth login`" if tool == "gcloud" else ""
            sys.exit(f"error: {tool} is not on the PATH{hint}")
    if options.verb == "wait":
        _until_ready(commands.pop(0))
    try:
        for command in commands:
            _run(command)
    except KeyboardInterrupt:  # how one leaves tail
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1:])
