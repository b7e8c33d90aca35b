"""Byte-pair tokens: exact both ways, words and their space, the character task's splits, prompts, metrics, bad input."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from lsd_jax.metrics import words
from lsd_jax.models import weights
from lsd_jax.models.backbones import initial
from lsd_jax.models.ddit import DDiTConfig
from lsd_jax.tasks import alphabet, corpus
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.subwords import CHUNK, TOKENIZER
from lsd_jax.tasks.task import Data, Judge
from tools import make_subwords

SHIPPED = Data("subwords", vocab_size=1024)
FILE = weights.resolve(TOKENIZER)


@pytest.fixture(scope="module")
def blocks():
    """The text of a few blocks of the shipped corpus by split."""
    found = corpus.split_blocks(corpus.read_corpus())
    return {split: list(map(alphabet.decode, parts[:4])) for split, parts in found.items()}


@pytest.fixture(scope="module")
def mine(tmp_path_factory, blocks):
    """A user's file: short, with capitals and digits."""
    file = tmp_path_factory.mktemp("text") / "mine.txt"
    text = "".join(blocks["train"])[: 110 * corpus.CHUNK]
    file.write_text("In 1790: " + text.replace(" congress ", " Congress, "))
    return Data("subwords", str(file), normalize=True, vocab_size=1024, sequence_length=32)


@pytest.fixture(scope="module")
def task(mine):
    return make_task(mine, Judge(references=64))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """Random weights of a causal network over 1,024 tokens."""
    sizes = DDiTConfig(vocab_size=1024, dim=16, depth=1, heads=2, causal=True)
    path = tmp_path_factory.mktemp("weights") / "scorer.safetensors"
    weights.save(path, jax.jit(functools.partial(initial, sizes))(jax.random.key(0)), sizes, {})
    return str(path)


def test_every_text_of_the_27_symbols_comes_back(blocks):
    tokenizer = Tokenizer.from_file(str(FILE))
    rng = np.random.default_rng(0)
    drawn = ["".join(rng.choice(list(alphabet.SYMBOLS), 400, p=[0.4] + [0.6 / 26] * 26)) for _ in range(20)]
    for text in (*blocks["train"][:1], *blocks["test"][:1], *drawn, *alphabet.SYMBOLS, "", "   ", "  a  "):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_token_is_a_word_s_part_with_at_most_the_space_before_it():
    vocab = Tokenizer.from_file(str(FILE)).get_vocab()
    assert sorted(vocab.values()) == list(range(1024)) and set(alphabet.SYMBOLS) <= set(vocab)
    assert all(re.fullmatch(" |[a-z]+| [a-z]+", token) for token in vocab)


def test_training_is_repeatable_and_gives_the_size_asked_for(blocks):
    first, again = (make_subwords.train(blocks["validation"][:2], 64) for _ in range(2))
    assert first.to_str() == again.to_str() and first.get_vocab_size() == 64
    assert make_subwords.train(blocks["validation"][:1], 27).get_vocab_size() == 27
    assert 1 < make_subwords.characters_per_token(first, blocks["test"][:1]) < 3


def test_the_splits_are_the_character_task_s_blocks(task, mine):
    held = corpus.split_blocks(corpus.read_corpus(mine.path, True))
    for split, parts in held.items():
        text, rows = "|".join(map(alphabet.decode, parts)), task.split(split)
        assert rows.shape[1] == 32 and rows.dtype == np.int32
        assert all(task.decode(row) in text for row in rows)
    assert sum(len(part) for parts in held.values() for part in parts) == len(corpus.read_corpus(mine.path, True))


def test_examples_are_cut_from_blocks_and_none_is_seen_twice(blocks):
    task = make_task(SHIPPED)
    rows = task.split("test")
    assert rows.shape == (1212, 128) and len(np.unique(rows, axis=0)) > 1200
    text, found = "|".join(blocks["test"]), [task.decode(row) for row in rows]
    assert sum(piece in text for piece in found) == pytest.approx(len(rows) * 4 / 5, rel=0.03)
    facts = task.facts()
    assert facts == {"characters_per_token": pytest.approx(np.mean([len(piece) for piece in found]) / 128)}
    assert 3.4 < facts["characters_per_token"] < 3.5
    assert task.real(np.random.default_rng(0), 1024).shape == (1024, 128)


def test_batches_are_crops_of_the_training_split(task, mine):
    text = "|".join(map(alphabet.decode, corpus.split_blocks(corpus.read_corpus(mine.path, True))["train"]))
    batch = next(task.batches(16, 0))
    assert batch.shape == (16, 32) and batch.dtype == np.int32
    assert all(task.decode(row) in text for row in batch)
    long = make_task(dataclasses.replace(mine, sequence_length=CHUNK + 1))
    with pytest.raises(ValueError, match=r"^sequence_length=513: examples have 512 tokens"):
        long.prepare()


def test_the_cache_tells_texts_and_tokenizers_apart(mine, tmp_path):
    other = tmp_path / "other.json"
    other.write_text(FILE.read_text() + "\n")
    changes = ({}, {"path": ""}, {"path": "", "normalize": False}, {"tokenizer": str(other)})
    assert len({make_task(dataclasses.replace(mine, **change)).source().variant for change in changes}) == 4
    assert (
        make_task(dataclasses.replace(mine, tokenizer=TOKENIZER)).source().variant == make_task(mine).source().variant
    )


def test_a_prompt_is_cut_into_tokens_and_a_line_is_one_unknown(task):
    condition = task.condition("we the_ of", 3)
    assert condition.tokens_BL.shape == condition.fixed_BL.shape == (3, 32)
    shown = np.where(condition.fixed_BL, condition.tokens_BL, 1024)
    known = int(np.flatnonzero(~condition.fixed_BL[0])[0])
    assert task.decode(shown[0]) == "we the_ of" + "_" * (32 - known - 2)
    assert task.decode(shown[2, :known]) == "we the" and condition.tokens_BL.max() < 1024
    assert not task.condition("", 1).fixed_BL.any() and not task.condition("_" * 32, 1).fixed_BL.any()
    with pytest.raises(ValueError, match=r"^prompt='aB': it holds 'B'; it may hold"):
        task.condition("aB", 1)
    with pytest.raises(ValueError, match=r"^prompt='_+': it has 33 tokens, a sequence 32"):
        task.condition("_" * 33, 1)


def test_characters_are_those_of_the_text(task):
    rows = task.split("validation")[:20]
    np.testing.assert_array_equal(task.characters(rows), [len(task.decode(row)) for row in rows])
    with pytest.raises(ValueError, match=r"^tokens=1024: the data's are 0 \.\.\. 1023"):
        task.characters(np.full((1, 32), 1024))


def test_shuffled_tokens_are_worse_than_real_ones(task):
    real = task.split("validation")[:64]
    shuffled = np.random.default_rng(0).permuted(real, axis=1)
    good, bad = (
        {name: value for name, (value, _, _) in task.measure(rows, resamples=2).items()} for rows in (real, shuffled)
    )
    assert set(good) == {"tv1", "js1", "tv2", "js2", "entropy_bits", "rep4", "longest_run", "real_words"}
    assert good["tv1"] == pytest.approx(bad["tv1"]) and good["tv2"] < bad["tv2"] and good["js2"] < bad["js2"]
    assert bad["real_words"] < 0.9 < good["real_words"] and 0.9 < task.best["real_words"] < 1
    assert [column.name for column in task.columns].count(words.REAL_WORDS.name) == 1
    assert set(task.best) == set(good) and task.primary == "tv2"
    one = make_task(dataclasses.replace(task.data, sequence_length=1))
    assert one.primary == "tv1" and set(one.measure(real[:, :1])) == {
        "tv1",
        "js1",
        "entropy_bits",
        "longest_run",
        "real_words",
    }


def test_a_scorer_of_the_same_tokens_judges(mine, scorer):
    task = make_task(mine, Judge(scorer, references=24, batch_size=8))
    found = task.measure(task.split("validation")[:24], resamples=2)
    assert {"gen_ppl", "mauve_like", "energy", "energy_p"} <= set(found) == {column.name for column in task.columns}
    assert 500 < found["gen_ppl"][0] < 2100  # random weights know nothing of 1,024 tokens
    assert task.best["mauve_like"] == 1 and set(task.facts()) == {"scorer", "characters_per_token"}


def test_degenerate_baselines_lose(task):
    train = task.split("train")
    real = task.measure(task.split("validation")[:32], resamples=0)
    for name, baseline in task.baselines().items():
        rows = baseline(np.random.default_rng(0), train, 32, 32)
        assert task.measure(rows, resamples=0)["js2"][0] > real["js2"][0], name


@pytest.mark.parametrize(
    ("changes", "judge", "message"),
    [
        ({"vocab_size": 27}, None, rf"^vocab_size=27: the tokenizer {TOKENIZER} has 1024 tokens; set vocab_size=1024"),
        ({"tokenizer": "none.json"}, None, r"^tokenizer='none.json': no such file; give a tokenizer's JSON file"),
        ({}, Judge("tiny_gpt2", "mdlm"), r"^protocol='mdlm': GPT-2 does not read the tokens of subwords"),
        (
            {},
            Judge("text_scorer.safetensors"),
            r"^scorer='text_scorer.safetensors': it reads 27 tokens, vocab_size=1024",
        ),
        ({"path": "none.txt"}, None, r"^path='none.txt': no such file"),
    ],
)
def test_settings_that_do_not_fit(changes, judge, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as found:
        make_task(dataclasses.replace(SHIPPED, **changes), judge).prepare()
    assert "\n" not in str(found.value)


def test_files_that_are_no_tokenizer_or_not_an_exact_one(mine, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"^tokenizer=.*mine.json': not a tokenizer's JSON file: "):
        make_task(dataclasses.replace(mine, tokenizer=str(file)))
    spaceless = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet.SYMBOLS)}, []))
    spaceless.pre_tokenizer, spaceless.decoder = pre_tokenizers.WhitespaceSplit(), decoders.Fuse()
    spaceless.save(str(file))
    with pytest.raises(ValueError, match=r"^tokenizer=.*mine.json': its tokens do not give the text back; name one"):
        make_task(dataclasses.replace(mine, tokenizer=str(file), vocab_size=27)).prepare()


def test_a_tokenizer_and_a_file_of_the_user_s(mine, tmp_path, blocks):
    file = tmp_path / "mine.json"
    make_subwords.train(blocks["validation"][:1], 60).save(str(file))
    task = make_task(dataclasses.replace(mine, tokenizer=str(file), vocab_size=60))
    rows = task.split("test")
    assert rows.max() < 60 and rows.dtype == np.uint8
    text = "|".join(map(alphabet.decode, corpus.split_blocks(corpus.read_corpus(mine.path, True))["test"]))
    assert all(task.decode(row) in text for row in rows)


def test_a_text_of_too_few_tokens_is_told(tmp_path):
    file = tmp_path / "the.txt"
    file.write_text(" government" * 20_000)
    with pytest.raises(
        ValueError, match=r"^path=.*the.txt': no block of the train split holds 512 tokens; give a longer"
    ):
        make_task(dataclasses.replace(SHIPPED, path=str(file))).prepare()
