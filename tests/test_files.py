"""Files appear whole or not at all, also when several writers share a name."""

import multiprocessing
import pathlib

import pytest

from lsd_jax.files import write_whole


def _writer(path: pathlib.Path, letter: str) -> None:
    for _ in range(200):
        write_whole(path, letter * 10_000)


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path, context = tmp_path / "record.json", multiprocessing.get_context("spawn")
    writers = [context.Process(target=_writer, args=(path, letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert path.read_text() in ("a" * 10_000, "b" * 10_000)
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "folder" / "paths.npz"
    write_whole(path, "first é")

    def full(stream):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, full)
    assert path.read_text(encoding="utf-8") == "first é"
    assert [file.name for file in path.parent.iterdir()] == ["paths.npz"]
