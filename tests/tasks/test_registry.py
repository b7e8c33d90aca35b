"""What the registry promises: light imports, a column for every metric, and domains that touch one file."""

import subprocess
import sys

import numpy as np
import pytest

from lsd_jax.metrics import ngram
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.metric import LIKELIHOOD_COLUMNS
from lsd_jax.tasks import registry
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data, Judge, Task, floor

HEAVY = ("tensorflow", "tensorflow_datasets", "grain", "sklearn", "tokenizers", "huggingface_hub", "torch")
SETTINGS = {
    "text": (Data(), Judge("text_scorer.safetensors", references=64)),
    "subwords": (Data("subwords", vocab_size=1024), Judge()),
    "countdown": (Data("countdown", vocab_size=8, sequence_length=16), Judge()),
    "bigram": (Data("bigram", sequence_length=16), None),
    "toy": (Data("toy", vocab_size=15, sequence_length=2), None),
    "digits": (
        Data("digits", shape=(1, 8, 8), vocab_size=17, sequence_length=64),
        Judge(features="digits_features.safetensors"),
    ),
    "proteins": (Data("proteins", vocab_size=20, sequence_length=121), Judge("antiberty:tiny_antiberty", references=8)),
    "tokens": (
        Data("tokens", "tiny_tokens.npy", "tiny_tokenizer.json", vocab_size=11, sequence_length=9),
        Judge("tiny_gpt2", "mdlm"),
    ),
}


def test_a_task_is_made_and_measured_without_heavy_imports():
    code = (
        "import sys, numpy, lsd_jax.tasks.registry as r\n"
        "r.make_task(r.Data()); r.make_task(r.Data('bigram'))\n"
        "task = r.make_task(r.Data('countdown', vocab_size=8))\n"
        "task.measure(task.real(numpy.random.default_rng(0), 4))\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_unknown_name():
    with pytest.raises(ValueError, match=r"^name='text8': choose one of \('text', "):
        make_task(Data("text8"))


@pytest.fixture(scope="module", params=SETTINGS)
def task(request):
    return make_task(*SETTINGS[request.param])


def test_every_metric_has_a_column(task):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, task.vocab_size, (24, task.length)).astype(np.uint8)
    tokens[:4] = task.real(rng, 4)  # some metrics are of what random tokens never have
    found = task.measure(tokens, resamples=2)
    names = [column.name for column in task.columns]
    assert sorted(names) == sorted(found)
    assert task.primary in names and set(task.best) <= set(names)
    for name, (value, low, high) in found.items():
        assert low <= value + 1e-9 and value <= high + 1e-9, name
    for value, low, high in task.measure(tokens, resamples=0).values():
        assert value == low == high
    assert isinstance(task.decode(tokens[0]), str)
    assert (task.images(tokens) is None) == (task.shape == ())
    with pytest.raises(ValueError, match=f"^tokens={task.vocab_size}: "):
        task.measure(np.full((4, task.length), task.vocab_size))


def test_a_name_is_one_column_in_all_tasks():
    elsewhere = {"cifar10", "molecules", "molecules_logp", "molecules_qed", "selfies"}  # whose data are not here
    assert set(SETTINGS) | elsewhere == set(registry.TASKS)
    columns = [*LIKELIHOOD_COLUMNS]
    for name, (data, _) in SETTINGS.items():
        own = make_task(data).columns  # gen-PPL's heading names its scorer
        assert len({column.name for column in own}) == len(own), name
        columns += own
    distinct = set(columns)
    assert len({column.name for column in distinct}) == len({column.heading for column in distinct}) == len(distinct)
    for column in distinct:
        column.form.format(1.0)


class Parity(Task):
    """Bits whose sum is even: a domain as a user adds it."""

    columns = (ngram.ENTROPY,)
    primary = "entropy_bits"

    def split(self, part):
        return self.real(np.random.default_rng(len(part)), 8)

    def real(self, rng, count):
        bits = rng.integers(0, 2, (count, self.length)).astype(np.uint8)
        bits[:, -1] = bits[:, :-1].sum(1) % 2
        return bits

    def _measure(self, tokens_NL, seed, resamples):
        return {"entropy_bits": mean_interval(ngram.unigram_entropy(tokens_NL, 2), seed, resamples)}


def test_a_domain_is_a_class_and_a_line_in_the_registry(monkeypatch):
    monkeypatch.setitem(registry.TASKS, "parity", Parity)
    task = make_task(Data("parity", vocab_size=2, sequence_length=6))
    value, low, high = task.measure(task.split("test"))["entropy_bits"]
    assert 0 < low < value < high < 1.1 and floor(task, 8, draws=3)["entropy_bits"][0] > 0
    assert task.decode(np.array([0, 1, 2])) == "0 1 _" and task.baselines() == {} and task.facts() == {}
    assert task.best == {} and task.columns[0].heading == "entropy, bits"
