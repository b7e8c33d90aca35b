"""Files appear whole or not at all, also when several writers share a name."""

import pathlib
import subprocess
import sys

import pytest

from lsd_jax.files import write_whole

_WRITER = """
import pathlib, sys
from lsd_jax.files import write_whole
for _ in range(200):
    write_whole(pathlib.Path(sys.argv[1]), sys.argv[2] * 10_000)
"""


def test_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path, root = tmp_path / "record.json", pathlib.Path(__file__).parents[1]
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, path, letter], cwd=root) for letter in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
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
