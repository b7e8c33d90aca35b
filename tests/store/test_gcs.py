"""A run directory on gs:// through gcsfs, orbax and tensorstore as they are, against a stand-in of the store on this machine."""

import random
import subprocess
import sys

import pytest

from lsd_jax import files
from measurements import faults
from tests.store.fake_gcs import serve

pytest.importorskip("gcsfs", reason="needs gcsfs: pip install gcsfs")

SHORT = (*faults.STUDY, "--config.training.steps=40", "--config.distill.steps=40")


@pytest.fixture(scope="module")
def store():
    """The objects of an empty store that this process and those it starts take for gs://."""
    server = serve()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", address)
        patch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")  # nobody is asked for credentials
        patch.setenv("GCE_METADATA_ROOT", "127.0.0.1:1")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # which asks Google for the kind of the bucket
        yield server.RequestHandlerClass.store.objects
    server.shutdown()
    server.server_close()


_UNITS = """
import sys
import jax.numpy as jnp
from lsd_jax import checkpoints, files
from lsd_jax.experiment import lock
run = files.checked_path("--workdir", "gs://bucket/units")
files.write_whole(run / "a" / "x.json", "{}")
assert (run / "a" / "x.json").read_text() == "{}"
with lock.locked(run):
    try:
        lock.Claim(run).take()
    except FileExistsError as error:
        print(error)
claims = [lock.Claim(run) for _ in range(2)]
claims[1]._read = lambda: None
claims[0].take()
try:
    claims[1].take()
except FileExistsError as error:
    print(error)
claims[0].drop()
manager = checkpoints.Manager(run / "c")
for step in (5, 10, 15):
    manager.save(step, {"a": jnp.full(1000, float(step))})
manager.close()
files.write_whole(run / "c" / "15" / "state" / "manifest.ocdbt", "damaged")
manager = checkpoints.Manager(run / "c")
print(float(manager.restore_latest({"a": jnp.zeros(1000)})[0]["a"][0]))
manager.save(15, {"a": jnp.full(1000, 16.0)})
manager.close()
manager = checkpoints.Manager(run / "c")
print(float(manager.restore_latest({"a": jnp.zeros(1000)})[0]["a"][0]))
manager.close()
"""


def test_files_claims_and_checkpoints(store):
    """In a process of its own: the libraries of the store leave threads and warnings behind."""
    done = subprocess.run([sys.executable, "-c", _UNITS], capture_output=True, text=True, timeout=200)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) == 4, done.stderr[-3000:]
    assert all(line.startswith("workdir='gs://bucket/units': another run is in it (") for line in lines[:2]), lines
    assert lines[2:] == ["10.0", "16.0"]
    below = {name.removeprefix("bucket/units/c/").split("/")[0] for name in store if name.startswith("bucket/units/c/")}
    assert below == {"10", "15"} and any(name.startswith("bucket/units/c.unreadable/15-") for name in store)
    assert "bucket/units/lock" not in store


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_study_in_a_store_that_is_killed_ends_as_one_on_a_disk(store, tmp_path, monkeypatch, processes):
    for name, value in faults.cache_of(tmp_path).items():
        monkeypatch.setenv(name, value)
    wanted, lasts = faults.undisturbed(tmp_path, processes, SHORT)
    run, logs, rng = (
        files.checked_path("--workdir", f"gs://bucket/killed{processes}"),
        tmp_path / "logs",
        random.Random(0),
    )
    kills = 0
    for stage in ("train", "optimize", "evaluate"):
        start = faults.Start(run, logs, processes, SHORT)
        victims = tuple(range(processes))
        start.follow(faults.Kill(stage, rng.uniform(0.0, lasts[stage]), victims))
        start.left_to_end()
        kills += start.codes == [-9] * processes
    start = faults.Start(run, logs, processes, SHORT)
    start.follow()
    assert start.codes == [0] * processes and kills >= 2, start.tail()
    files.store_of(run).get(str(run), str(tmp_path / "copy"), recursive=True)
    assert faults.differing(faults.contents(tmp_path / "copy"), wanted) == []
    assert not any(name.endswith("/lock") for name in store)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_second_run_in_the_directory_is_told(store, tmp_path):
    run = files.checked_path("--workdir", "gs://bucket/two")
    first = faults.Start(run, tmp_path / "first", 1, SHORT)
    try:
        while not (run / "lock").exists():
            assert first.processes[0].poll() is None, first.tail()
        second = faults.Start(run, tmp_path / "second", 1, SHORT)
        second.follow()
    finally:
        first.processes[0].kill()
        first.processes[0].wait()
    told = [line for line in second.tail().splitlines() if line.startswith("error: ")]
    assert second.codes == [1] and len(told) == 1, second.tail()
    assert f"workdir='gs://bucket/two': another run is in it (process {first.processes[0].pid} on " in told[0]
