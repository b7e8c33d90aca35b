import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from lsd_jax.tasks import builder
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data

COUNTDOWN = Data("countdown", vocab_size=8, sequence_length=16, mix=0.001)


def test_splits(small_cache):
    task = make_task(COUNTDOWN)
    validation, test = task.split("validation"), task.split("test")
    assert validation.shape == test.shape == (20, 16)
    assert not np.array_equal(validation, test)
    np.testing.assert_array_equal(validation, make_task(COUNTDOWN).split("validation"))
    assert (small_cache / "datasets" / "chain").is_dir()
    assert next((small_cache / "datasets" / "chain").glob("countdown_s8_l16_*_seed0/1.0.0"))


def test_text_is_cut_without_overlap(tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path))
    file = tmp_path / "a.txt"
    file.write_text("".join(np.random.default_rng(0).choice(list("abcdefgh"), 100 * 2048)))
    data = Data("text", path=str(file), sequence_length=1000)
    rows = make_task(data).split("test")
    assert rows.shape == (10, 1000)  # five chunks of 2048, two sequences in each
    assert len({row.tobytes() for row in rows}) == 10
    long = make_task(dataclasses.replace(data, sequence_length=3000))
    for call in (long.prepare, lambda: long.split("test"), lambda: long.batches(4, 0)):
        with pytest.raises(ValueError, match=r"^sequence_length=3000: examples have 2048 tokens"):
            call()


def test_iterator_resumes_with_the_same_batches(small_cache):
    task = make_task(COUNTDOWN)
    iterator = task.batches(8, seed=0)
    for _ in range(9):  # past the end of an epoch
        next(iterator)
    state = iterator.get_state()
    wanted = [next(iterator) for _ in range(3)]
    again = task.batches(8, seed=0)
    again.set_state(state)
    np.testing.assert_array_equal([next(again) for _ in range(3)], wanted)
    assert wanted[0].shape == (8, 16) and wanted[0].dtype == np.int32
    assert not np.array_equal(wanted[0], wanted[1])


@pytest.mark.parametrize("width", [16, 11])  # whole examples, and random crops of them
def test_any_number_of_processes_reads_the_batches_of_one(small_cache, monkeypatch, width):
    source = make_task(COUNTDOWN).source()
    read = lambda size: [next(it) for it in [builder.read_batches(source, width, size, seed=0)] for _ in range(9)]
    whole = np.stack(read(8))
    parts = []
    monkeypatch.setattr(builder.jax, "process_count", lambda: 2)
    for index in range(2):
        monkeypatch.setattr(builder.jax, "process_index", lambda index=index: index)
        parts.append(np.stack(read(4)))
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)


_PREPARE = """
import hashlib, sys
from lsd_jax.tasks import builder, chains
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data
chains.SPLITS = {"train": (0, 60), "validation": (1, 20), "test": (2, 20)}
task = make_task(Data("countdown", vocab_size=8, sequence_length=16, mix=0.001))
missing = not (builder.cache_dir() / "datasets").exists()  # before either may begin
print("ready", flush=True)
sys.stdin.readline()
splits = [task.split(part).tobytes() for part in ("train", "validation", "test")]
print(missing, *(hashlib.sha256(split).hexdigest() for split in splits))
"""


def test_two_processes_prepare_one_data_set_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path / "cache"))
    command = [sys.executable, "-c", _PREPARE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(2)]
    assert [process.stdout.readline() for process in running] == ["ready\n"] * 2
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=200)[0].split() for process in running]
    assert told[0] == told[1] and told[0][0] == "True" and len(told[0]) == 4  # neither found it there
    assert not [*(tmp_path / "cache").rglob("*incomplete*")]


def test_seed_changes_the_order(small_cache):
    task = make_task(COUNTDOWN)
    first, second = (next(task.batches(8, seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_what_is_prepared_is_not_made_again(small_cache):
    rows = np.arange(12, dtype=np.uint8).reshape(4, 3)
    made = []

    def make():
        made.append(1)
        return {"train": rows, "test": rows[:1]}

    source = builder.Source("numbers", "", 3, 12, make)
    for _ in range(2):
        found = builder.read_split(source, "train", 3)
        assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, rows.tolist()))
    assert len(made) == 1


@pytest.mark.parametrize("content", [None, b"abc", b"A" * 100 * 2048])
def test_prepare_names_a_bad_path(tmp_path, monkeypatch, content):
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path))
    file = tmp_path / "bad.txt"
    if content is not None:
        file.write_bytes(content)
    task = make_task(Data("text", path=str(file), sequence_length=16))
    with pytest.raises((ValueError, FileNotFoundError), match=r"^path=.*bad\.txt"):
        task.prepare()


def test_a_vocabulary_of_more_than_a_byte_keeps_its_tokens(tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path))
    task = make_task(Data("countdown", vocab_size=300, sequence_length=16, mix=0.001))
    rows = task.split("test")
    assert rows.max() == 299 and abs(rows.mean() - 149.5) < 10
    assert next(task.batches(8, 0)).max() < 300 and task.data_row(0, 4).dtype == np.int32


def test_without_a_home_directory_the_cache_asks_for_a_folder(monkeypatch):
    monkeypatch.delenv("LSD_JAX_CACHE", raising=False)

    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(builder.pathlib.Path, "expanduser", homeless)
    with pytest.raises(ValueError, match="^LSD_JAX_CACHE='': there is no home directory"):
        builder.cache_dir()
