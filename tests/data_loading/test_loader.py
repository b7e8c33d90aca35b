import numpy as np
import pytest
from ml_collections import ConfigDict

from lsd_jax.data import chain, loader


@pytest.fixture
def data(monkeypatch, tmp_path):
    """A small countdown data set in a cache of its own."""
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(chain, "SPLITS", {"train": (0, 60), "validation": (1, 20), "test": (2, 20)})
    return ConfigDict({"name": "countdown", "vocab_size": 8, "sequence_length": 16, "mix": 0.0})


def test_load_split(data, tmp_path):
    validation, test = loader.load_split(data, "validation"), loader.load_split(data, "test")
    assert validation.shape == test.shape == (20, 16)
    assert not np.array_equal(validation, test)
    np.testing.assert_array_equal(validation, loader.load_split(data, "validation"))
    assert (tmp_path / "datasets").is_dir()


def test_text_is_cut_without_overlap(tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path))
    file = tmp_path / "a.txt"
    file.write_text("".join(np.random.default_rng(0).choice(list("abcdefgh"), 100 * 2048)))
    data = ConfigDict({"name": "text", "path": str(file), "normalize": False, "sequence_length": 1000})
    rows = loader.load_split(data, "test")
    assert rows.shape == (10, 1000)  # five chunks of 2048, two sequences in each
    assert len({row.tobytes() for row in rows}) == 10
    data.sequence_length = 3000
    with pytest.raises(ValueError, match=r"config\.data\.sequence_length=3000"):
        loader.load_split(data, "test")


def test_iterator_resumes_with_the_same_batches(data):
    iterator = loader.training_iterator(data, 8, seed=0)
    for _ in range(9):  # past the end of an epoch
        next(iterator)
    state = iterator.get_state()
    wanted = [next(iterator) for _ in range(3)]
    again = loader.training_iterator(data, 8, seed=0)
    again.set_state(state)
    np.testing.assert_array_equal([next(again) for _ in range(3)], wanted)
    assert wanted[0].shape == (8, 16) and wanted[0].dtype == np.int32
    assert not np.array_equal(wanted[0], wanted[1])


def test_seed_changes_the_order(data):
    first, second = (next(loader.training_iterator(data, 8, seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("content", [None, b"abc", b"A" * 100 * 2048])
def test_make_builder_names_a_bad_path(tmp_path, monkeypatch, content):
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path))
    file = tmp_path / "bad.txt"
    if content is not None:
        file.write_bytes(content)
    data = ConfigDict({"name": "text", "path": str(file), "normalize": False, "sequence_length": 16})
    with pytest.raises((ValueError, FileNotFoundError), match=r"config\.data\.path=.*bad\.txt"):
        loader.make_builder(data)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"config\.data\.name='text8'"):
        loader.make_builder(ConfigDict({"name": "text8"}))
