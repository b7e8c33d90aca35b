import hashlib
import io
import tarfile
import urllib.error
import urllib.request

import ml_collections
import numpy as np
import pytest

from lsd_jax.data import images, loader


def data(name, **changes):
    shape = images.SHAPES[name]
    fields = {"name": name, "shape": shape, "vocab_size": images.VALUES[name], "sequence_length": int(np.prod(shape))}
    return ml_collections.ConfigDict({**fields, "path": "", **changes})


def test_digits_are_split_without_overlap():
    parts = {split: loader.load_split(data("digits"), split) for split in ("train", "validation", "test")}
    assert {split: len(rows) for split, rows in parts.items()} == {"train": 1297, "validation": 200, "test": 300}
    rows = np.concatenate(list(parts.values()))
    tokens, labels = images.read_digits()
    assert rows.dtype == np.uint8 and rows.max() == 16 and len(labels) == len(tokens)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, tokens))
    batch = next(loader.training_iterator(data("digits"), 32, seed=0))
    assert batch.shape == (32, 64) and {bytes(row.astype(np.uint8)) for row in batch} <= set(map(bytes, parts["train"]))


def test_images_have_their_colours_and_places():
    tokens = np.arange(12, dtype=np.uint8)[None]
    image = images.to_image(tokens, (3, 2, 2), 256)[0]
    assert image.shape == (2, 2, 3)
    np.testing.assert_array_equal(image[0, 1], [1, 5, 9])  # the second pixel of red, green and blue
    assert images.to_image(np.array([[16]]), (1, 1, 1), 17).max() == 255


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """CIFAR-10's archive with 300 training images a file and ten of test, and what its test file holds."""
    rng, path = np.random.default_rng(0), tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for name, count in (*((f"data_batch_{i}.bin", 300) for i in range(1, 6)), ("test_batch.bin", 10)):
            rows = rng.integers(0, 256, (count, 3073), np.uint8)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = rows.size
            file.addfile(member, io.BytesIO(rows.tobytes()))
    monkeypatch.setattr(images, "CIFAR10_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path / "cache"))
    return path, rows[:, 1:]


def test_cifar10_is_read_from_its_archive(archive):
    path, test = archive
    settings = data("cifar10", path=str(path))
    parts = {split: loader.load_split(settings, split) for split in ("train", "validation", "test")}
    assert [rows.shape for rows in parts.values()] == [(500, 3072), (1000, 3072), (10, 3072)]
    assert sorted(map(bytes, parts["test"])) == sorted(map(bytes, test))
    assert next(loader.training_iterator(settings, 4, seed=0)).shape == (4, 3072)


def test_cifar10_without_a_network_or_with_another_file_says_so_in_one_line(archive, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(
        FileNotFoundError, match=r"config\.data\.name='cifar10'.*no route to host.*config\.data\.path"
    ) as found:
        loader.make_builder(data("cifar10"))
    assert "\n" not in str(found.value)
    with pytest.raises(FileNotFoundError, match=r"config\.data\.path='.*none.tar.gz': no such file"):
        loader.make_builder(data("cifar10", path=str(tmp_path / "none.tar.gz")))
    (tmp_path / "cut.tar.gz").write_bytes(archive[0].read_bytes()[:1000])
    with pytest.raises(ValueError, match="not the whole CIFAR-10 archive"):
        loader.make_builder(data("cifar10", path=str(tmp_path / "cut.tar.gz")))
