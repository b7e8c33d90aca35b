"""Byte-pair tokenizers and token files of the user's."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from configs import mdlm
from lsd_jax.data import loader
from lsd_jax.data.decode import decoder
from lsd_jax.data.tokenizer import END_OF_TEXT, end_of_text, load_tokenizer
from lsd_jax.data.tokens import read_tokens

TEXT = "the sampler of the sampler samples the samples\n"
FIELD = "config.data.tokenizer"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A byte-level BPE of 270 tokens, as tokenizer.json and as vocab.json with merges.txt."""
    folder = tmp_path_factory.mktemp("bpe")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT * 9], trainers.BpeTrainer(vocab_size=269, initial_alphabet=alphabet, show_progress=False)
    )
    (folder / "pair").mkdir()
    tokenizer.model.save(str(folder / "pair"))
    return folder


def test_vocab_and_merges_are_gpt2_s_tokenizer(trained):
    tokenizer = load_tokenizer(str(trained / "pair"), 270, FIELD)
    encoded = tokenizer.encode(TEXT + END_OF_TEXT + " é")
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == TEXT + END_OF_TEXT + " é"
    assert encoded.ids.count(end_of_text(tokenizer, FIELD)) == 1 and len(encoded.ids) < len(TEXT) / 2
    tokenizer.save(str(trained / "tokenizer.json"))
    for source in (trained, trained / "tokenizer.json", trained / "pair" / "vocab.json"):
        assert load_tokenizer(str(source), 270, FIELD).encode(TEXT).ids == tokenizer.encode(TEXT).ids


def test_tokenizers_that_cannot_be_used(trained, tmp_path):
    with pytest.raises(
        ValueError, match="config.data.tokenizer=.* has 270 tokens, the network 50257: name the tokenizer"
    ):
        load_tokenizer(str(trained / "pair"), 50257, FIELD)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": "none"}))
    with pytest.raises(ValueError, match="is not a tokenizer"):
        load_tokenizer(str(tmp_path), 270, FIELD)
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "vocab.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"merges\.txt"):
        load_tokenizer(str(tmp_path / "half"), 270, FIELD)


def data_section(trained, path="", length=8):
    data = mdlm.get_config("tiny").data
    data.sequence_length, data.vocab_size, data.tokenizer, data.path = length, 270, str(trained / "pair"), str(path)
    return data


def test_a_text_becomes_sequences_and_text_again(trained, tmp_path):
    (tmp_path / "mine.txt").write_text(TEXT * 5)
    data = data_section(trained, tmp_path / "mine.txt")
    test, validation = loader.load_split(data, "test"), loader.load_split(data, "validation")
    assert test.shape[1] == 8 and 0 <= len(test) - len(validation) <= 1
    rows = read_tokens(data.path, data, "field")
    np.testing.assert_array_equal(rows[::2], test)
    assert (TEXT * 5).replace("\n", "\\n").startswith("".join(map(decoder(data), rows)))
    with pytest.raises(ValueError, match="no training split"):
        loader.load_split(data, "train")


def test_no_data_is_no_sequences(trained):
    assert loader.load_split(data_section(trained), "test").shape == (0, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full(40, 270), "holds tokens up to 270; config.data.vocab_size=270"),
        (np.full(7, 1), "holds 7 tokens in a row, config.data.sequence_length=8"),
        (np.zeros((2, 8)), "holds float64"),
    ],
)
def test_token_files_that_cannot_be_used(trained, tmp_path, content, message):
    np.save(tmp_path / "t.npy", content)
    with pytest.raises(ValueError, match=message):
        read_tokens(str(tmp_path / "t.npy"), data_section(trained), "config.data.path")


def test_files_that_are_no_text(trained, tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="neither UTF-8 text nor"):
        read_tokens(str(tmp_path / "t.txt"), data_section(trained), "config.data.path")
    (tmp_path / "t.txt").write_text(TEXT)
    data = data_section(trained, tmp_path / "t.txt")
    data.tokenizer = ""
    with pytest.raises(ValueError, match="config.data.tokenizer is empty"):
        read_tokens(data.path, data, "config.data.path")
