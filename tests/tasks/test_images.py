import dataclasses
import hashlib
import io
import tarfile
import urllib.error
import urllib.request

import numpy as np
import pytest

from lsd_jax.tasks import images
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data, Judge

DIGITS = Data("digits", shape=(1, 8, 8), vocab_size=17, sequence_length=64)
CIFAR10 = Data("cifar10", shape=(3, 32, 32), vocab_size=256, sequence_length=3072)


def test_digits_are_split_without_overlap():
    task = make_task(DIGITS)
    parts = {split: task.split(split) for split in ("train", "validation", "test")}
    assert {split: len(rows) for split, rows in parts.items()} == {"train": 1297, "validation": 200, "test": 300}
    rows = np.concatenate(list(parts.values()))
    tokens, labels = images.read_digits()
    assert rows.dtype == np.uint8 and rows.max() == 16 and len(labels) == len(tokens)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, tokens))
    batch = next(task.batches(32, seed=0))
    assert batch.shape == (32, 64) and {bytes(row.astype(np.uint8)) for row in batch} <= set(map(bytes, parts["train"]))


def test_images_have_their_colors_and_places():
    tokens = np.arange(12, dtype=np.uint8)[None]
    image = images.to_image(tokens, (3, 2, 2), 256)[0]
    assert image.shape == (2, 2, 3)
    np.testing.assert_array_equal(image[0, 1], [1, 5, 9])  # the second pixel of red, green and blue
    assert images.to_image(np.array([[16]]), (1, 1, 1), 17).max() == 255
    assert make_task(DIGITS).images(np.zeros((2, 64), np.uint8)).shape == (2, 8, 8, 1)
    assert make_task(Data("countdown", vocab_size=8)).images(np.zeros((2, 128))) is None


@pytest.mark.parametrize(
    ("data", "judge", "message"),
    [
        (dataclasses.replace(DIGITS, sequence_length=63), None, r"^sequence_length=63: .*shape=\(1, 8, 8\) has 64"),
        (dataclasses.replace(DIGITS, shape=(1, 4, 16)), None, r"^shape=\(1, 4, 16\): digits has \(1, 8, 8\)"),
        (dataclasses.replace(DIGITS, vocab_size=16), None, r"^vocab_size=16: digits has 17 values"),
        (Data("countdown", vocab_size=8, shape=[1, 8, 8]), None, r"^shape=\(1, 8, 8\): countdown has no images"),
        (DIGITS, Judge(features="missing.safetensors"), r"^features='missing.safetensors': no such file"),
        (DIGITS, Judge(features="text_scorer.safetensors"), r"^features='text_scorer.safetensors': no feature network"),
        (DIGITS, Judge(feature_statistics="a.npz"), r"^feature_statistics='a.npz': name features too"),
        (
            DIGITS,
            Judge(features="digits_features.safetensors", feature_statistics="none.npz"),
            r"^feature_statistics='none.npz': no such file",
        ),
    ],
)
def test_bad_input_is_one_line(data, judge, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as found:
        make_task(data, judge)
    assert "\n" not in str(found.value)


def test_statistics_from_a_file_stand_for_the_training_split(tmp_path):
    judge = Judge(features="digits_features.safetensors")
    own, tokens = make_task(DIGITS, judge), make_task(DIGITS).split("validation")
    wanted = own.measure(tokens, resamples=3)["frechet"]
    assert wanted[1] < wanted[0] < wanted[2] and own.facts()["features"].startswith("digits_features")
    reference = own._frechet.reference
    np.savez(tmp_path / "train.npz", mu=reference.mean, sigma=reference.covariance)
    other = make_task(DIGITS, dataclasses.replace(judge, feature_statistics=str(tmp_path / "train.npz")))
    assert other.measure(tokens, resamples=3)["frechet"] == pytest.approx(wanted)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """CIFAR-10's archive with 300 training images per file and ten of test, and what its test file holds."""
    rng, path = np.random.default_rng(0), tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as file:
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
    task = make_task(dataclasses.replace(CIFAR10, path=str(path)))
    parts = {split: task.split(split) for split in ("train", "validation", "test")}
    assert [rows.shape for rows in parts.values()] == [(500, 3072), (1000, 3072), (10, 3072)]
    assert sorted(map(bytes, parts["test"])) == sorted(map(bytes, test))
    assert next(task.batches(4, seed=0)).shape == (4, 3072)


def test_cifar10_without_a_network_or_with_another_file_says_so_in_one_line(archive, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(FileNotFoundError, match=r"^name='cifar10'.*no route to host.*set path") as found:
        make_task(CIFAR10).prepare()
    assert "\n" not in str(found.value)
    with pytest.raises(FileNotFoundError, match=r"^path='.*none.tar.gz': no such file"):
        make_task(dataclasses.replace(CIFAR10, path=str(tmp_path / "none.tar.gz"))).prepare()
    (tmp_path / "cut.tar.gz").write_bytes(archive[0].read_bytes()[:1000])
    with pytest.raises(ValueError, match="^path=.*not the whole CIFAR-10 archive"):
        make_task(dataclasses.replace(CIFAR10, path=str(tmp_path / "cut.tar.gz"))).prepare()
