"""Sequences and metrics are those of revision 87cbb12, whose numbers are in frozen.json.

Batches are those of the first revision that reads them from memory: their order is another one.

There, samples were judged by two systems of metrics: "measure" is that of the benchmarks, "plain" that of single runs.
"""

import hashlib
import json
import pathlib

import numpy as np
import pytest

from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data, Judge, floor

FROZEN = json.loads((pathlib.Path(__file__).parent / "frozen.json").read_text())
CHAINS = {
    "countdown": Data("countdown", vocab_size=8, mix=0.02, sequence_length=16),
    "bigram": Data("bigram", sequence_length=32),
    "toy": Data("toy", vocab_size=15, sequence_length=2),
}
# Numbers that pass through a network, whose float32 sums depend on the machine and on what is compiled together.
NETWORK = {"gen_ppl": 1e-5, "mauve_like": 1e-3, "energy": 1e-3, "energy_p": 1e-2, "frechet": 1e-4}


def corrupted(rows, vocab):
    rng = np.random.default_rng(1)
    return np.where(rng.random(rows.shape) < 0.2, rng.integers(0, vocab, rows.shape), rows).astype(rows.dtype)


def digest(rows):
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:16]


def assert_same(found, frozen):
    for name, wanted in frozen.items():
        tolerance = NETWORK.get(name, 1e-12)
        value = found[name] if isinstance(wanted, list) else found[name][0]
        np.testing.assert_allclose(value, wanted, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name):
    task = make_task(CHAINS[name])
    real = task.real(np.random.default_rng(0), 48)
    assert {"real": digest(real), "data": digest(task.data_row(0, 40))} == FROZEN["rows"][name]
    found = task.measure(corrupted(real, task.vocab_size), 3, 20)
    assert_same(found, FROZEN["measure"][name])
    assert_same(found, FROZEN["plain"][name])
    assert list(task.best) == list(FROZEN["best"][name]) and task.best == pytest.approx(FROZEN["best"][name], rel=1e-12)
    if name in FROZEN["floor"]:
        assert_same(floor(task, 40, 4, 2), FROZEN["floor"][name])


@pytest.fixture(scope="module")
def text():
    return make_task(Data(), Judge(scorer="text_scorer.safetensors", references=200))


def test_text(text):
    found = text.measure(corrupted(text.split("validation")[:48], 27), 3, 20)
    assert_same(found, FROZEN["measure"]["text"])
    assert_same(found, FROZEN["plain"]["text"])
    assert list(text.best) == list(FROZEN["best"]["text"])
    assert text.best == pytest.approx(FROZEN["best"]["text"], rel=1e-6)


@pytest.fixture(scope="module")
def digits():
    data = Data("digits", shape=(1, 8, 8), vocab_size=17, sequence_length=64)
    return make_task(data, Judge(features="digits_features.safetensors", batch_size=128))


def test_digits(digits):
    assert_same(digits.measure(corrupted(digits.split("validation")[:48], 17), 0, 0), FROZEN["plain"]["digits"])


@pytest.mark.parametrize("name", ["text", "digits"])
def test_splits_and_batches(name, request):
    task = request.getfixturevalue(name)
    frozen, iterator = dict(FROZEN["rows"][name]), task.batches(8, 3)
    next(iterator)
    found = {part: digest(task.split(part)) for part in ("train", "validation", "test")}
    found["batch"] = digest(next(iterator))
    if name == "text":
        found["real"] = digest(task.real(np.random.default_rng(0), 40))
        found["data"] = digest(task.data_row(0, 40))
    assert found == frozen


@pytest.mark.parametrize("protocol", ["mdlm", "jys"])
@pytest.mark.parametrize("path", ["tiny_tokens.npy", ""])
def test_tokens(protocol, path):
    data = Data("tokens", path=path, tokenizer="tiny_tokenizer.json", vocab_size=11, sequence_length=9)
    task = make_task(data, Judge("tiny_gpt2", protocol, batch_size=32))
    with_data = make_task(Data(**{**vars(data), "path": "tiny_tokens.npy"}))
    found = task.measure(corrupted(with_data.split("validation"), 11), 0, 0)
    frozen = FROZEN["plain"][f"tokens_{protocol}"]
    without = {name: frozen[name] for name in ("entropy_bits", "gen_ppl")}
    assert_same(found, frozen if path else without)
    assert len(found) == len(frozen if path else without) and task.has_data == bool(path)
