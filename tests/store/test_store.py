"""A run directory in an object store: files, the claim of a run, checkpoints, a whole study; the store is a dictionary."""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import fsspec
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fsspec.registry import _registry

from lsd_jax import checkpoints, files
from lsd_jax.experiment import lock, records, stages
from lsd_jax.models import backbones, weights
from lsd_jax.progress import MetricWriter
from lsd_jax.samplers.file import load_sampler
from tests.experiment.tiny import tiny
from tests.store.fake_s3 import FakeS3

TRAINED = {
    "student.steps": (4,),
    "student.order": "fixed",
    "data.sequence_length": 12,
    "model.name": "ddit",
    "model.dim": 16,
    "model.depth": 1,
    "model.heads": 1,
    "training.steps": 20,
    "training.batch_size": 8,
    "training.microbatch": 0,
    "training.checkpoint_every": 10,
    "training.validation_sequences": 32,
    "student.grid_points": 12,
    "teacher.steps": 12,
    "evaluation.weighted": 0,
    "evaluation.reference_steps": 0,
    "evaluation.temperatures": (),
}


@pytest.fixture
def run(monkeypatch):
    """A run directory in an empty store."""
    monkeypatch.setitem(_registry, "s3", FakeS3)
    monkeypatch.setattr(FakeS3, "objects", {})
    return files.checked_path("--workdir", "s3://bucket/run")


def test_addresses_that_cannot_be_used_are_told_in_one_line(monkeypatch):
    for address, told in (
        ("hdfs://host/run", r"^folder='hdfs://host/run': must be a folder .* or lie on gs:// or s3://"),
        ("gs://", r"^folder='gs://': names no bucket"),
    ):
        with pytest.raises(ValueError, match=told):
            files.checked_path("folder", address)

    class Silent(FakeS3):
        def ls(self, path, detail=True, **options):
            raise RuntimeError("no credentials\nfound")

    monkeypatch.setitem(_registry, "s3", Silent)
    with pytest.raises(ValueError, match=r"^folder=.*: the store does not answer: RuntimeError: no credentials found$"):
        files.checked_path("folder", "s3://bucket/run")

    def missing(scheme):
        raise ImportError("install it")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(ValueError, match=r"needs gcsfs, which is not installed: pip install gcsfs$"):
        files.checked_path("folder", "gs://bucket/run")


def test_a_local_path_stays_one():
    path = files.checked_path("folder", "~/run")
    assert isinstance(path, pathlib.Path) and path.is_absolute() and not files.in_store(path)


def test_an_object_appears_whole_or_not_at_all(run):
    files.write_whole(run / "a" / "x.json", "{}")
    assert (run / "a" / "x.json").read_text() == "{}" and [file.name for file in run.glob("*/*.json")] == ["x.json"]

    def breaks(stream):
        stream.write(b"half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        files.write_whole(run / "a" / "x.json", breaks)
    assert FakeS3.objects == {"bucket/run/a/x.json": b"{}"}


def test_a_store_that_refuses_a_file_is_told_in_one_line(run, monkeypatch):
    def refuses(self, path, mode="rb", **options):
        raise RuntimeError("403:\nforbidden")

    monkeypatch.setattr(FakeS3, "_open", refuses)
    with pytest.raises(OSError, match=r"^path='s3://bucket/run/x': cannot be written: RuntimeError: 403: forbidden$"):
        files.write_whole(run / "x", "text")


def test_a_directory_belongs_to_its_config(run):
    records.claim(run, {"seed": 0})
    records.claim(run, {"seed": 0})
    with pytest.raises(FileExistsError, match=r"^workdir='s3://bucket/run': .*config\.seed"):
        records.claim(run, {"seed": 1})
    with pytest.raises(FileExistsError, match="is not empty and holds no run"):
        records.claim(run.parent, {"seed": 0})


def test_weights_come_back(run):
    sizes = backbones.network_sizes(backbones.ModelSettings(name="ddit", dim=16, depth=1, heads=1), 8, (), False)
    params = backbones.initial(sizes, jax.random.key(0))
    weights.save(run / "w.safetensors", params, sizes, {"data": {}})
    _, again, card = weights.load(run / "w.safetensors")
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.float16(a), b), params, again)
    assert card == weights.card(run / "w.safetensors") == {"data": {}}
    assert len(weights.sha256(run / "w.safetensors")) == 64


def test_metrics_are_copied_while_they_grow_and_go_on(run):
    lines = lambda: (run / "metrics.jsonl").read_text().splitlines()
    for step in (1, 2):
        writer = MetricWriter(run, every=0.0)
        writer(step, loss=0.5)
        assert [json.loads(line)["step"] for line in lines()] == [*range(1, step + 1)]
        writer.close()
    assert [*run.glob("events.*")]


def held_elsewhere(run, **facts):
    """A claim as a run of another machine leaves it."""
    claim = {
        "run": "another",
        "owner": "process 7 on host",
        "machine": "another",
        "process": 7,
        "started": "1",
        "beat": 3,
    }
    FakeS3.objects["bucket/run/lock"] = json.dumps(claim | facts).encode()


def test_a_second_run_is_told_at_once_and_the_claim_goes_with_its_run(run):
    with lock.locked(run):
        began = time.monotonic()
        with pytest.raises(
            FileExistsError, match=r"^workdir='s3://bucket/run': another run is in it \(process \d+ on .+\)$"
        ):
            with lock.locked(run):
                pass
        assert time.monotonic() - began < 2
        assert "bucket/run/lock" in FakeS3.objects  # the second has not removed it
    assert FakeS3.objects == {}
    with pytest.raises(RuntimeError), lock.locked(run):
        raise RuntimeError
    assert FakeS3.objects == {}


@pytest.mark.parametrize("content", [b"process 123 on host", b"{}", b"[]"])
def test_what_is_no_claim_is_told_in_one_line(run, content):
    """The lock of a run directory that was copied from a disk, for one."""
    FakeS3.objects["bucket/run/lock"] = content
    with pytest.raises(
        ValueError, match=r"^workdir='s3://bucket/run': its object `lock` is no claim .*; delete s3://bucket/run/lock$"
    ):
        with lock.locked(run):
            pass
    assert FakeS3.objects["bucket/run/lock"] == content


def test_a_store_that_is_away_at_the_end_does_not_end_a_finished_run_with_an_error(run, monkeypatch, caplog):
    with caplog.at_level("WARNING"), lock.locked(run):
        monkeypatch.setattr(FakeS3, "cat_file", lambda *args: 1 / 0)
    assert "lock could not be removed: " in caplog.text


def test_a_run_of_this_machine_that_was_killed_is_succeeded_at_once(run, monkeypatch):
    killed = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = lock._started(killed.pid)
    held_elsewhere(run, machine=lock._machine(), process=killed.pid, started=started)
    assert started and lock._machine()
    with pytest.raises(FileExistsError, match="another run is in it"), lock.locked(run):
        pass
    killed.kill()
    while lock._started(killed.pid):  # before it is waited for it is a zombie, which runs no more
        time.sleep(0.01)
    with lock.locked(run):
        assert json.loads(FakeS3.objects["bucket/run/lock"])["process"] == os.getpid()
    killed.communicate()
    held_elsewhere(run, machine=lock._machine(), process=os.getpid(), started="1")  # a number that was given again
    with lock.locked(run):
        pass


def test_the_claim_of_another_machine_is_watched(run, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.5)
    held_elsewhere(run)
    beat = threading.Timer(0.1, held_elsewhere, (run,), {"beat": 4})
    beat.start()
    with pytest.raises(FileExistsError, match=r"another run is in it \(process 7 on host\)$"), lock.locked(run):
        pass
    beat.join()
    began = time.monotonic()
    with lock.locked(run):  # no further beat: that run is dead
        assert time.monotonic() - began >= 0.5
    held_elsewhere(run)
    gone = threading.Timer(0.1, FakeS3.objects.clear)
    gone.start()
    with lock.locked(run):  # it has just ended
        pass


def test_of_two_that_start_at_once_the_store_lets_one_through(run, monkeypatch):
    claims = [lock.Claim(run) for _ in range(2)]
    monkeypatch.setattr(claims[1], "_read", lambda: None)  # it looked before the first one wrote
    claims[0].take()
    with pytest.raises(FileExistsError, match="another run is in it"):
        claims[1].take()


_LOST = """
import sys, time
from fsspec.implementations.local import LocalFileSystem
from lsd_jax.experiment import lock
lock.BEAT, lock.store_of = 0.1, lambda path: LocalFileSystem()
with lock._claimed(sys.argv[1]):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_run_whose_directory_was_taken_over_ends(tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-c", _LOST, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout.readline() == "in\n"
    beats = lambda: json.loads((tmp_path / "lock").read_text() or "{}").get("beat", 0)
    while beats() < 2:  # it is renewed
        time.sleep(0.05)
    other = {"run": "another", "owner": "process 7 on host"}
    while running.poll() is None:
        (tmp_path / "new").write_text(json.dumps(other))
        os.replace(tmp_path / "new", tmp_path / "lock")
        time.sleep(0.05)
    error = running.communicate()[1]
    assert running.returncode == 1 and "another run is in it (process 7 on host); this one ends" in error


def test_checkpoints_come_back_and_old_ones_go(run):
    manager = checkpoints.Manager(run / "c")
    for step in (5, 10, 15):
        manager.save(step, {"a": jnp.full(3, float(step))})
    manager.close()
    assert sorted(FakeS3.objects) == ["bucket/run/c/10.tar", "bucket/run/c/15.tar"]
    manager = checkpoints.Manager(run / "c")
    assert manager.restore_latest({"a": jnp.zeros(3)})[0]["a"].tolist() == [15.0] * 3
    manager.close()


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:700], lambda whole: b"", lambda whole: whole.replace(b"ocdbt", b"OCDBT")]
)
def test_one_before_a_damaged_checkpoint_is_read(run, damage):
    manager = checkpoints.Manager(run / "c")
    for step in (5, 10):
        manager.save(step, {"a": jnp.full(1000, float(step))})
    manager.close()
    FakeS3.objects["bucket/run/c/10.tar"] = damage(FakeS3.objects["bucket/run/c/10.tar"])
    manager = checkpoints.Manager(run / "c")
    assert manager.restore_latest({"a": jnp.zeros(1000)})[0]["a"][0] == 5
    manager.save(10, {"a": jnp.full(1000, 11.0)})  # its place is free again
    manager.close()
    manager = checkpoints.Manager(run / "c")
    assert manager.restore_latest({"a": jnp.zeros(1000)})[0]["a"][0] == 11
    manager.close()
    assert len([*(run / "c.unreadable").iterdir()]) == 1  # and nothing was deleted


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_whole_study(run, capsys):
    config = tiny(**TRAINED)
    stages.run(config, run, "all", command="test")
    printed = capsys.readouterr().out
    assert "path-KL student" in printed and "report: s3://bucket/run/report/index.html" in printed
    there = {name.removeprefix("bucket/run/") for name in FakeS3.objects}
    assert {"config.json", "train/weights.safetensors", "train/metrics.jsonl", "train/checkpoints/20.tar"} < there
    assert {
        "students/M4/student.json",
        "students/M4/checkpoints/10.tar",
        "report/index.html",
        "report/tables.md",
    } < there
    assert len(files.store_of(run).glob(f"{run}/report/*.png")) >= 3 and "lock" not in there
    assert len(load_sampler("s3://bucket/run/students/M4/student.json").schedule.time_grid) == 5
    before = dict(FakeS3.objects)
    lost = next(name for name in before if "cells/" in name and "euler" in name and name.endswith(".json"))
    del FakeS3.objects[lost]
    stages.run(config, run, "all", command="test")
    untimed = lambda line: {k: v for k, v in json.loads(line).items() if "seconds" not in k}
    assert untimed(FakeS3.objects[lost]) == untimed(before[lost])
    kept = [
        name for name in before if name != lost and "/report/" not in name and not name.endswith("euler__4__seed0.npz")
    ]
    assert all(FakeS3.objects[name] == before[name] for name in kept if not name.endswith("config.json"))
    stages.sample(config, run, student="s3://bucket/run/students/M4/student.json", count=2)
    assert len(capsys.readouterr().out.splitlines()[-2:]) == 2
