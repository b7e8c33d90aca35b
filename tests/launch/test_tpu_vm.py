"""The TPU VM launcher: its dry runs are the docs', and its scripts run on hosts that a gcloud of the tests' own stands in for."""

import os
import pathlib
import shlex
import shutil
import stat
import subprocess
import sys
import time

import pytest

from launch import tpu_vm

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = sorted(pathlib.Path(__file__).with_name("golden").glob("tpu_vm_*.txt"))
WHERE = ["--name=pod", "--zone=us-west4-a"]
# Each worker is a folder below $HOSTS. A queued or created TPU is ready at once; a bucket is a folder too.
GCLOUD = r"""#!/bin/bash
echo "$WORKER $*" >> $HOSTS/calls
case "$*" in *describe*) echo READY; exit;; "storage cp"*) mkdir -p $HOSTS/bucket; cp $4 $HOSTS/bucket/${5##*/}; exit;;
  "storage rsync"*gs://*/workdir\ workdir) cp -r $HOSTS/bucket/workdir . ; exit;; "storage rsync"*) mkdir -p $HOSTS/bucket; cp -r workdir $HOSTS/bucket; exit;; esac
workers="0 1"
for word in "$@"; do case "$word" in
  --worker=[0-9]*) workers=${word#--worker=};;
  --command=*) command=${word#--command=};;
esac; done
for worker in $workers; do
  export HOME=$HOSTS/$worker WORKER=$worker; mkdir -p $HOME
  if [ "$4" = ssh ]; then (cd $HOME && bash -c "$command") || exit 1
  elif [ "$6" = pod: ]; then cp $5 $HOME/; elif [ "$4" = scp ]; then cp -r $HOME/${5#pod:} $6; fi
done
"""
# What stands in for the experiment: it writes as worker 0 would, and ends on SIGTERM as after saving.
PYTHON = r"""#!/bin/bash
trap 'echo saved; exit 1' TERM
echo "$PWD $*"
for word in "$@"; do case "$word" in --workdir=*) folder=${word#--workdir=};; esac; done
mkdir -p $folder; echo result > $folder/config.json
[ "$3" = --config=long ] && for i in $(seq 200); do /bin/sleep 0.05; done
exit 0
"""


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    for worker in "01":
        executable(tmp_path / worker / "lsd_venv" / "bin" / "python", PYTHON)
    executable(tmp_path / "bin" / "gcloud", GCLOUD)
    executable(tmp_path / "bin" / "curl", "#!/bin/bash\necho -n $WORKER\n")
    executable(tmp_path / "bin" / "sleep", "#!/bin/bash\n/bin/sleep 0.05\n")
    executable(tmp_path / "bin" / "git", '#!/bin/bash\ntar -czf "${3#--output=}" --files-from=/dev/null\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("HOSTS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def log_of(hosts, worker, ends):
    """The log of a worker as soon as it holds `ends`."""
    path = hosts / str(worker) / "lsd_run" / "run.log"
    for _ in range(100):
        if path.exists() and ends in path.read_text():
            break
        time.sleep(0.02)
    return path.read_text()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_dry_run_is_what_the_docs_show(path, capsys):
    command, expected = path.read_text().split("\n", 1)
    program, script, *arguments = shlex.split(command.removeprefix("$ "))
    assert (program, script) == ("python", "launch/tpu_vm.py")
    tpu_vm.main(arguments)
    assert capsys.readouterr().out == expected
    assert f"```console\n{path.read_text()}```\n" in (ROOT / "docs" / "pods_gke_tpu.md").read_text()


def test_every_sub_command_has_a_golden_dry_run():
    shown = {path.read_text().split()[3] for path in GOLDEN}
    assert shown == {"create", "wait", "push", "setup", "start", "tail", "stop", "collect", "delete"}


def test_all_workers_start_detached_and_worker_0_is_collected(hosts):
    tpu_vm.main(["wait", *WHERE, "--workers=2"])
    tpu_vm.main(["push", *WHERE])
    tpu_vm.main(["start", *WHERE, "--", "--config=text", "--prompt=it's $HOME"])
    for worker in range(2):
        log = log_of(hosts, worker, "exit code")
        folder = hosts / str(worker)
        expected = f"-m lsd_jax.main --config=text --prompt=it's $HOME --distributed --workdir={folder}/lsd_run/workdir"
        assert log == f"{folder}/lsd_jax {expected}\nexit code 0\n"
    tpu_vm.main(["collect", *WHERE])
    assert (hosts / "runs" / "collected" / "workdir" / "config.json").read_text() == "result\n"
    assert "exit code 0" in (hosts / "runs" / "collected" / "run.log").read_text()


def test_a_run_is_not_started_twice_and_saves_when_it_is_stopped(hosts, capfd):
    start = ["start", *WHERE, "--", "--config=long"]
    tpu_vm.main(start)
    for worker in range(2):
        log_of(hosts, worker, "lsd_jax.main")
    with pytest.raises(SystemExit, match="exit code 1"):
        tpu_vm.main(start)
    assert "a run is going on here" in capfd.readouterr().out
    tpu_vm.main(["stop", *WHERE])
    assert all("saved\nexit code 1\n" in log_of(hosts, worker, "exit code") for worker in range(2))


def test_a_bucket_gets_the_results_of_worker_0_and_every_log_and_gives_them_back(hosts):
    tpu_vm.main(["start", *WHERE, "--bucket=gs://bucket/runs", "--", "--config=text"])
    for path in ("worker-0.log", "worker-1.log", "workdir/config.json"):
        for _ in range(100):
            if (hosts / "bucket" / path).exists():
                break
            time.sleep(0.02)
        assert (hosts / "bucket" / path).exists(), path
    log_of(hosts, 1, "exit code")
    calls = (hosts / "calls").read_text()
    assert "0 storage rsync --quiet --recursive workdir gs://bucket/runs/pod/workdir" in calls
    assert "1 storage rsync --quiet --recursive workdir" not in calls
    shutil.rmtree(hosts / "1" / "lsd_run")  # as on a new machine
    (hosts / "bucket" / "workdir" / "saved").write_text("earlier")
    tpu_vm.main(["start", *WHERE, "--bucket=gs://bucket/runs", "--", "--config=text"])
    log_of(hosts, 1, "exit code")
    assert (hosts / "1" / "lsd_run" / "workdir" / "saved").read_text() == "earlier"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["create", "--name=pod", "--accelerator=v4-8"], "--zone"),
        (["create", "--name=pod", "--zone=us-west4", "--accelerator=v4-8"], "us-west4-a"),
        (["create", *WHERE, "--accelerator=v5"], "v5litepod-16"),
        (["create", *WHERE, "--accelerator=v5e-16"], "gcloud calls it v5litepod-16"),
        (["create", "--name=My_Pod", "--zone=us-west4-a", "--accelerator=v4-8"], "my-pod"),
        (["start", *WHERE], "give the experiment after --"),
        (["start", *WHERE, "--", "--config=text", "--workdir=x"], "--workdir is set by this launcher"),
        (["start", *WHERE, "--bucket=bucket", "--", "--config=text"], "gs://bucket/folder"),
        (["push", *WHERE, "--", "--config=text"], "takes no arguments after --"),
        (["wait", *WHERE, "--workers=0"], "'0' is not of the form 4"),
        (["launch", *WHERE], "invalid choice"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    with pytest.raises(SystemExit) as raised:
        tpu_vm.main(arguments)
    line = str(raised.value)
    assert line.startswith("error: ") and message in line and "\n" not in line


def test_a_missing_gcloud_and_a_lost_vm_are_one_line(hosts, monkeypatch):
    executable(hosts / "bin" / "gcloud", "#!/bin/bash\necho PREEMPTED\n")
    with pytest.raises(SystemExit, match="its state is PREEMPTED"):
        tpu_vm.main(["wait", *WHERE])
    monkeypatch.setenv("PATH", str(hosts / "nothing"))
    with pytest.raises(SystemExit, match="gcloud is not on the PATH"):
        tpu_vm.main(["delete", *WHERE])


def test_it_needs_neither_jax_nor_the_package():
    code = "import sys; import launch.tpu_vm, launch.gke; print({'jax', 'lsd_jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
