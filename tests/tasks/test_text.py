import numpy as np
import pytest

from lsd_jax.tasks import alphabet, builder, corpus
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data, Judge


@pytest.fixture
def letters(tmp_path):
    """A file of random letters, just long enough."""
    drawn = np.random.default_rng(0).choice(list(alphabet.SYMBOLS[1:]), 100 * corpus.CHUNK + 77)
    file = tmp_path / "letters.txt"
    file.write_text("".join(drawn))
    return file


def test_normalize_and_encode():
    normal = alphabet.normalize("  In 1790, Cafés—NOT 3!\n")
    assert normal == "in one seven nine zero caf s not three"
    assert alphabet.encode(" az").tolist() == [0, 1, 26]
    assert alphabet.decode(alphabet.encode(normal)) == normal
    assert alphabet.decode(np.array([1, 27])) == "a_"
    with pytest.raises(ValueError, match="'A' at position 1 "):
        alphabet.encode("aA")


def test_splits_are_contiguous_and_disjoint():
    count = 100 * (2 * corpus.CHUNK + 100)
    splits = corpus.split_chunks(np.arange(count))
    size = count // 100
    for split, chunks in splits.items():
        assert np.all(np.diff(chunks, axis=1) == 1)
        blocks = chunks // size
        assert np.all(blocks == blocks[:, :1])
        assert {corpus.split_of_block(int(block)) for block in blocks[:, 0]} == {split}
    seen = np.concatenate([chunks.ravel() for chunks in splits.values()])
    assert len(np.unique(seen)) == len(seen) == 200 * corpus.CHUNK
    assert {split: len(chunks) for split, chunks in splits.items()} == {"train": 180, "validation": 10, "test": 10}


def test_the_builder_reads_back_what_the_file_holds(letters, tmp_path, monkeypatch):
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path))
    prepared = builder.prepared(make_task(Data(path=str(letters))).source())
    wanted = corpus.split_chunks(corpus.read_corpus(str(letters)))
    for split in ("train", "validation", "test"):
        found = {row["tokens"].tobytes() for row in prepared.as_data_source(split=split)}
        assert found == {row.tobytes() for row in wanted[split]}


def test_errors_name_the_setting(letters, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^path=.*missing"):
        make_task(Data(path=str(tmp_path / "missing.txt"))).prepare()
    with pytest.raises(FileNotFoundError, match=r"^path=.*missing"):
        corpus.read_corpus(str(tmp_path / "missing.txt"))
    short, capital, binary = (tmp_path / name for name in ("short.txt", "capital.txt", "binary.txt"))
    short.write_text("abc")
    capital.write_text("A" + letters.read_text())
    binary.write_bytes(b"\xff\xfe\x00")
    for file, reason in ((short, "holds 3 characters"), (capital, "'A' at position 0"), (binary, "not readable text")):
        with pytest.raises(ValueError, match=rf"^path=.*{reason}"):
            corpus.read_corpus(str(file))
    assert len(corpus.read_corpus(str(capital), normalize=True)) == len(letters.read_text()) + 1
    with pytest.raises(ValueError, match="^vocab_size=28: text has 27 symbols"):
        make_task(Data(vocab_size=28))


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (Judge("text_teacher.safetensors"), r"^scorer='text_teacher.safetensors': not a causal network"),
        (Judge("digits_unet.safetensors"), r"^scorer='digits_unet.safetensors': not a causal network"),
        (Judge("missing.safetensors"), r"^scorer='missing.safetensors': no such file"),
        (Judge("tiny_gpt2", "jys"), r"^protocol='jys': GPT-2 does not read the 27 symbols"),
        (Judge(features="digits_features.safetensors"), r"^features=.*: it is for images, not for text"),
        (Judge(feature_statistics="a.npz"), r"^feature_statistics='a.npz': name features too"),
    ],
)
def test_judges_that_cannot_judge_text(judge, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as found:
        make_task(Data(), judge)
    assert "\n" not in str(found.value)


def test_without_a_scorer_and_of_few_samples_it_measures_what_it_can():
    bare = make_task(Data())
    tokens = np.random.default_rng(0).integers(0, 27, (6, 128)).astype(np.uint8)
    found = bare.measure(tokens, resamples=5)
    divergences = {f"{name}{n}" for name in ("tv", "js") for n in (1, 2, 3, 4)}
    assert set(found) == divergences | {"entropy_bits", "rep4", "rep8", "longest_run"}
    assert set(bare.best) == set(found) and bare.facts() == {}
    judged = make_task(Data(), Judge("text_scorer.safetensors", references=32))
    assert set(judged.measure(tokens, resamples=5)) == set(found) | {"gen_ppl", "energy", "energy_p"}
    assert "energy_p" not in judged.measure(tokens, resamples=0)
    assert judged.facts()["scorer"]["name"] == "text_scorer.safetensors"
    short = make_task(Data(sequence_length=5)).measure(tokens[:, :5], resamples=0)
    assert "rep4" in short and "rep8" not in short


def test_a_prompt_becomes_given_tokens():
    for data in (Data(sequence_length=8), Data("bigram", sequence_length=8)):
        task = make_task(data)
        condition = task.condition("a_c", 3)
        assert (
            condition.tokens_BL.shape == (3, 8) and condition.fixed_BL.tolist()[0] == [True, False, True] + [False] * 5
        )
        assert task.decode(np.where(condition.fixed_BL, condition.tokens_BL, 27)[0]) == "a_c_____"
        with pytest.raises(ValueError, match=r"^prompt='abcdefghi': it has 9 characters, a sequence 8"):
            task.condition("abcdefghi", 1)
        with pytest.raises(ValueError, match=r"^prompt='aB': it holds 'B'"):
            task.condition("aB", 1)
    with pytest.raises(ValueError, match=r"^prompt='a': a prompt needs characters, and countdown has none"):
        make_task(Data("countdown", vocab_size=8)).condition("a", 1)
