"""Token files of the user's, texts, and the byte-pair tokenizers between them."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from lsd_jax.models.pretrained.tokenizer import END_OF_TEXT, end_of_text, load_tokenizer
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data, Judge
from lsd_jax.tasks.tokens import read_tokens

TEXT = "the sampler of the sampler samples the samples\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sequences of eight tokens of a byte-level BPE of 270, whose vocab.json and merges.txt are in a folder; no file."""
    folder = tmp_path_factory.mktemp("bpe")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT * 9], trainers.BpeTrainer(vocab_size=269, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.model.save(str(folder))
    return Data("tokens", tokenizer=str(folder), sequence_length=8, vocab_size=270)


def test_vocab_and_merges_are_gpt2_s_tokenizer(data, tmp_path):
    tokenizer = load_tokenizer(data.tokenizer, 270, "tokenizer")
    encoded = tokenizer.encode(TEXT + END_OF_TEXT + " é")
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == TEXT + END_OF_TEXT + " é"
    assert encoded.ids.count(end_of_text(tokenizer, "tokenizer")) == 1 and len(encoded.ids) < len(TEXT) / 2
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    for source in (tmp_path, tmp_path / "tokenizer.json", pathlib.Path(data.tokenizer) / "vocab.json"):
        assert load_tokenizer(str(source), 270, "tokenizer").encode(TEXT).ids == tokenizer.encode(TEXT).ids


def test_tokenizers_that_cannot_be_used(data, tmp_path):
    with pytest.raises(ValueError, match="^tokenizer=.* has 270 tokens, the network 50257: name the tokenizer"):
        load_tokenizer(data.tokenizer, 50257, "tokenizer")
    with pytest.raises(ValueError, match="^tokenizer=.* has 270 tokens, the network 268"):
        load_tokenizer(data.tokenizer, 268, "tokenizer")
    # A network's table may have rows that stand for no text, and a tokenizer special tokens that the network does not know.
    assert load_tokenizer(data.tokenizer, 288, "tokenizer").get_vocab_size() == 270
    assert load_tokenizer(data.tokenizer, 269, "tokenizer").get_vocab_size() == 270
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": "none"}))
    with pytest.raises(ValueError, match="is not a tokenizer"):
        load_tokenizer(str(tmp_path), 270, "tokenizer")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
        load_tokenizer(str(tmp_path / "half"), 270, "tokenizer")


def test_a_text_becomes_sequences_and_text_again(data, tmp_path):
    (tmp_path / "mine.txt").write_text(TEXT * 5)
    data = dataclasses.replace(data, path=str(tmp_path / "mine.txt"))
    task = make_task(data)
    test, validation = task.split("test"), task.split("validation")
    assert test.shape[1] == 8 and 0 <= len(test) - len(validation) <= 1
    rows = read_tokens(data.path, data)
    np.testing.assert_array_equal(rows[::2], test)
    assert (TEXT * 5).replace("\n", "\\n").startswith("".join(map(task.decode, rows)))
    with pytest.raises(ValueError, match="^name='tokens': no training split"):
        task.split("train")
    with pytest.raises(ValueError, match="^name='tokens': no training split"):
        task.batches(4, 0)


def test_a_prompt_is_the_tokenizer_s_tokens(data):
    task = make_task(data)
    condition = task.condition("the rain", 3)
    given = int(condition.fixed_BL[0].sum())
    assert condition.tokens_BL.shape == condition.fixed_BL.shape == (3, 8) and 0 < given <= 8
    assert condition.fixed_BL[0, :given].all() and task.decode(condition.tokens_BL[0, :given]) == "the rain"
    with pytest.raises(ValueError, match="^prompt='.*': has .* tokens, a sequence 8"):
        task.condition("the rain " * 20, 3)
    with pytest.raises(ValueError, match="^prompt='a': a prompt needs data.tokenizer"):
        make_task(dataclasses.replace(data, tokenizer="")).condition("a", 1)


def test_no_data_is_no_sequences(data):
    task = make_task(data)
    task.prepare()
    assert task.split("test").shape == (0, 8) and not task.has_data and task.primary == "entropy_bits"
    assert set(task.measure(np.zeros((3, 8), np.int32))) == {"entropy_bits"}
    plain = make_task(dataclasses.replace(data, tokenizer="", vocab_size=9))
    assert plain.decode(np.array([3, 9, 0])) == "3 _ 0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full(40, 270), "^path=.*: holds token 270; vocab_size=270"),
        (np.full(40, -1), "^path=.*: holds token -1; vocab_size=270"),
        (np.array([None] * 40), "^path=.*: neither UTF-8 text nor a .npy array of integers: Object arrays"),
        (np.full(7, 1), "^path=.*: holds 7 tokens in a row, sequence_length=8"),
        (np.zeros((2, 8)), "^path=.*: holds float64"),
    ],
)
def test_token_files_that_cannot_be_used(data, tmp_path, content, message):
    np.save(tmp_path / "t.npy", content)
    with pytest.raises(ValueError, match=message):
        make_task(dataclasses.replace(data, path=str(tmp_path / "t.npy"))).prepare()


def test_files_that_are_no_text(data, tmp_path):
    file = tmp_path / "t.txt"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="^path=.*: neither UTF-8 text nor"):
        read_tokens(str(file), data)
    file.write_text(TEXT)
    with pytest.raises(ValueError, match="^tokenizer='': a text needs"):
        read_tokens(str(file), dataclasses.replace(data, tokenizer=""))
    with pytest.raises(FileNotFoundError, match="^path=.*none.txt': no such file"):
        read_tokens(str(tmp_path / "none.txt"), data)
    with pytest.raises(ValueError, match="^tokenizer=.* has 270 tokens"):
        make_task(dataclasses.replace(data, vocab_size=400)).prepare()


@pytest.mark.parametrize(
    ("changes", "judge", "message"),
    [
        ({}, Judge("tiny_gpt2", "sedd"), r"^protocol='sedd': choose one of"),
        ({"tokenizer": ""}, Judge("tiny_gpt2", "mdlm"), r"^protocol='mdlm': it decodes samples"),
        (
            {"sequence_length": 4096},
            Judge("tiny_gpt2", "jys"),
            r"^scorer='tiny_gpt2': it reads \d+ tokens, sequence_length",
        ),
        ({"vocab_size": 98}, Judge("tiny_gpt2", "jys"), r"^scorer='tiny_gpt2': it has 97 tokens, vocab_size=98"),
        ({}, Judge("text_scorer.safetensors"), r"^scorer='text_scorer.safetensors': it reads 27 tokens, vocab_size=11"),
    ],
)
def test_judges_that_cannot_judge_tokens(changes, judge, message):
    data = Data("tokens", tokenizer="tiny_tokenizer.json", vocab_size=11, sequence_length=9)
    with pytest.raises(ValueError, match=message):
        make_task(dataclasses.replace(data, **changes), judge)
