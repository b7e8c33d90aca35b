import lzma

import pytest

from tools import make_corpus


def test_files_are_joined_in_order_of_name(tmp_path):
    (tmp_path / "1801_b.txt").write_text("World!")
    (tmp_path / "1790_a.txt").write_text("Hello,")
    assert make_corpus.join_folder(tmp_path) == (2, "hello world")
    assert lzma.decompress(make_corpus.compress("hello world")) == b"hello world"


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no .txt file in"):
        make_corpus.join_folder(tmp_path)
