"""Protein sequences: what a file may hold, what the metrics say of data, copies and shuffled letters, and prompts."""

import lzma

import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.tasks.proteins import LETTERS, read_sequences

SHIPPED = lsd.Data(name="proteins", vocab_size=20, sequence_length=121)


def chains(count, length, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(LETTERS[i] for i in rng.integers(0, 20, length)) for _ in range(count)]


def test_lines_fasta_and_xz_hold_the_same(tmp_path):
    found = chains(40, 12)
    (tmp_path / "lines.txt").write_text("\n".join(found) + "\n")
    (tmp_path / "chains.fasta").write_text(
        "".join(f">{i} a name\n{c[:5]}\n{c[5:].lower()}\n" for i, c in enumerate(found))
    )
    (tmp_path / "lines.txt.xz").write_bytes(lzma.compress("\n".join(found).encode()))
    rows = [read_sequences(str(tmp_path / name), 12) for name in ("lines.txt", "chains.fasta", "lines.txt.xz")]
    assert rows[0].shape == (40, 12) and "".join(LETTERS[i] for i in rows[0][7]) == found[7]
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


def test_other_letters_and_lengths_are_left_out_and_told(tmp_path, caplog):
    file = tmp_path / "mixed.txt"
    file.write_text("\n".join([*chains(35, 12), "ACDX", *chains(3, 9)]))
    with caplog.at_level("WARNING"):
        assert read_sequences(str(file), 12).shape == (35, 12)
    assert "1 sequences with other letters" in caplog.text and "'X'" in caplog.text
    assert "3 sequences of other lengths than 12 are left out; vocab_size=21 takes the shorter ones too" in caplog.text
    with pytest.raises(
        lsd.InputError, match=r"holds 3 sequences of sequence_length=9 .* it has 35 of 12, 3 of 9; vocab"
    ):
        read_sequences(str(file), 9)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Chains of 8 to 12 amino acids, most of them long, and two that are longer."""
    file = tmp_path_factory.mktemp("several") / "chains.fasta"
    rows = [chain for length in range(8, 13) for chain in chains(12 * (length - 7), length, length)] + chains(2, 40)
    file.write_text("".join(f">chain {index}\n{row}\n" for index, row in enumerate(rows)))
    return lsd.Data(name="proteins", path=str(file), vocab_size=21, sequence_length=12), rows[:-2]


def test_chains_of_several_lengths_are_padded(several, caplog):
    data, wanted = several
    with caplog.at_level("WARNING"):
        assert read_sequences(data.path, 12, padded=True).shape == (180, 12)
    assert "2 sequences longer than 12 are left out" in caplog.text
    task = lsd.make_task(data)
    parts = [task.split(part) for part in ("train", "validation", "test")]
    assert sorted(task.decode(row) for rows in parts for row in rows) == sorted(wanted)
    seen = np.bincount((parts[0] < 20).sum(1), minlength=13) / len(parts[0])
    np.testing.assert_allclose(task.lengths, seen, atol=0.01)
    assert len(task.lengths) == 13 and task.lengths[0] == 0 and min(task.lengths[1:]) > 0
    assert sum(task.lengths[1:8]) < 0.01  # lengths that no chain has
    assert lsd.make_task(SHIPPED).lengths == ()
    with pytest.raises(lsd.InputError, match=r"holds 0 sequences of at most sequence_length=5 amino acids"):
        read_sequences(data.path, 5, padded=True)


def test_metrics_of_padded_chains_are_those_of_the_amino_acids(several):
    task = lsd.make_task(several[0])
    real = np.concatenate([task.split("train"), task.split("test")])
    found = task.measure(real, resamples=0)
    assert found["length_w1"][0] < 0.5 and "cdr3" not in found  # these are no antibodies
    cut = real.copy()
    cut[:, 8:] = 20
    shorter = task.measure(cut, resamples=0)
    length = (real < 20).sum(1)
    mean = (task.split("test") < 20).sum(1).mean()
    assert shorter["length_w1"][0] == pytest.approx(mean - 8) and length.min() == 8
    assert shorter["position_tv"][0] > found["position_tv"][0]
    every = np.array([LETTERS.index(letter) for row in real for letter in task.decode(row)])
    own = np.bincount(every, minlength=20) / len(every)
    test = np.concatenate([[LETTERS.index(letter) for letter in task.decode(row)] for row in task.split("test")])
    tv = np.abs(own - np.bincount(test, minlength=20) / len(test)).sum() / 2
    assert found["tv1"][0] == pytest.approx(tv)
    alone = np.full((1, 12), 20, np.uint8)
    alone[0, :4] = [3, 3, 5, 5]
    assert task.measure(np.repeat(alone, 2, 0), resamples=0)["entropy_bits"][0] == pytest.approx(1.0)


def test_a_prompt_of_padded_chains_gives_their_length(several):
    task = lsd.make_task(several[0])
    condition = task.condition("EV__", 2)
    assert condition.fixed_BL[0].tolist() == [True, True, False, False] + [True] * 8
    assert (condition.tokens_BL[:, 4:] == 20).all() and task.decode(np.array([3, 3, 21, 20])) == "EE_"
    with pytest.raises(lsd.InputError, match="nothing is free"):
        task.condition("EVQ", 2)


def test_the_loop_of_shipped_chains():
    task = lsd.make_task(SHIPPED)
    found = task.measure(task.split("train")[:400], resamples=20)
    assert found["cdr3"][0] == 1 and task.best["cdr3"] == 1 and found["cdr3_length_w1"][0] < 0.2
    shuffled = task.measure(np.random.default_rng(0).permuted(task.split("train")[:400], axis=1), resamples=20)
    assert shuffled["cdr3"][0] < 0.5


def test_what_is_no_data_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_sequences(str(tmp_path / "nothing.txt"), 12)
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(lsd.InputError, match="not readable text"):
        read_sequences(str(tmp_path / "bytes.txt"), 12)
    with pytest.raises(lsd.InputError, match="vocab_size=22: proteins has 20 amino acids; 21 are they and a pad"):
        lsd.make_task(lsd.Data(name="proteins", vocab_size=22, sequence_length=121))
    with pytest.raises(lsd.InputError, match="scorer='gpt2'"):
        lsd.make_task(SHIPPED, lsd.Judge(scorer="gpt2"))


def test_real_chains_score_better_than_copies_and_shuffled_letters():
    task = lsd.make_task(SHIPPED)
    real = task.split("validation")
    assert real.shape == (409, 121) and task.decode(real[0]).endswith("VSS")
    shuffled = np.random.default_rng(0).permuted(real, axis=1)
    copies = np.repeat(real[:1], len(real), 0)
    scores = {
        name: task.measure(rows, resamples=20)
        for name, rows in (("real", real), ("shuffled", shuffled), ("copies", copies))
    }
    value = {name: {metric: triple[0] for metric, triple in found.items()} for name, found in scores.items()}
    assert value["real"]["position_js"] < 0.01 < 0.3 < value["shuffled"]["position_js"]
    assert value["real"]["tv1"] == pytest.approx(value["shuffled"]["tv1"])  # the composition does not know the order
    assert value["real"]["tv3"] < 0.2 < value["shuffled"]["tv3"]
    assert value["copies"]["diversity"] == 0 and value["copies"]["distinct"] == pytest.approx(1 / len(real))
    assert value["real"]["distinct"] == 1 and 0.2 < value["real"]["diversity"] < 0.5
    assert task.best["distinct"] == 1 and task.best["position_js"] == 0
    for low, high in ((found["tv2"][1], found["tv2"][2]) for found in scores.values()):
        assert low <= high


def test_a_prompt_gives_some_letters_and_leaves_the_others_free():
    task = lsd.make_task(SHIPPED)
    condition = task.condition("EV_L", 3)
    assert condition.fixed_BL.sum() == 9 and not condition.fixed_BL[:, 2].any()
    assert [LETTERS[i] for i in condition.tokens_BL[0, [0, 1, 3]]] == ["E", "V", "L"]
    with pytest.raises(lsd.InputError, match="holds 'B'"):
        task.condition("ABC", 1)
    with pytest.raises(lsd.InputError, match="122 letters, a sequence 121"):
        task.condition("A" * 122, 1)
