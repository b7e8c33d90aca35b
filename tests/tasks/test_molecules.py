"""SMILES strings as a task: tokens, files, lengths, prompts and metrics, on a small file of simple molecules."""

import itertools
import pathlib

import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.tasks import molecules, smiles
from lsd_jax.tasks.task import Judge

pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> pathlib.Path:
    """Chains with one branch, rings and a few of two letters, one per line, with a heading, copies and two lines that are none."""
    chains = [f"{'C' * a}{atom}{'C' * b}" for a in range(1, 8) for b in range(0, 7) for atom in ("N", "O", "(F)", "S")]
    rings = [f"C1{'C' * n}1{tail}" for n in range(2, 6) for tail in ("O", "N", "Cl", "CBr", "C=O", "C[NH3+]")]
    path = tmp_path_factory.mktemp("smiles") / "simple.smi"
    path.write_text("\n".join(["SMILES", *chains, *rings, "C1CC", "hello", "CCN,extra", "CCN"]) + "\n")
    return path


@pytest.fixture(scope="module")
def task(file):
    return lsd.make_task(data_of(file), Judge(references=0))


def data_of(file, **changes) -> lsd.Data:
    found = smiles.read_file(str(file))
    vocab_size = 1 + len({token for line in found for token in smiles.tokenize(line)})
    return lsd.Data("molecules", **{"path": str(file), "vocab_size": vocab_size, "sequence_length": 16, **changes})


def test_tokens_are_atoms_bonds_and_digits():
    assert smiles.tokenize("C[nH]Br%12(Cl)=1") == ["C", "[nH]", "Br", "%12", "(", "Cl", ")", "=", "1"]


def test_a_file_is_canonical_and_bad_lines_are_told(file, caplog):
    smiles._read.cache_clear()
    with caplog.at_level("INFO"):
        found = smiles.read_file(str(file))
    assert "2 of 224 lines are no molecules and are left out: line 222 (C1CC), 223 (hello)" in caplog.text
    assert "lines repeat a molecule" in caplog.text and len(set(found)) == len(found)
    assert "NC1CCC1" in found and "C1CCC1N" not in found


def test_splits_share_nothing_and_decode(task):
    parts = {part: {task.decode(row) for row in task.split(part)} for part in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) > 150
    row = task.split("test")[0]
    assert task.vocabulary[-1] == molecules.PAD and (np.diff((row == task.vocab_size - 1).astype(int)) >= 0).all()
    np.testing.assert_array_equal(task.encode([task.decode(row)])[0], row)


def test_the_shares_of_lengths_are_those_of_training(task):
    length_N = (task.split("train") != task.vocab_size - 1).sum(1)
    counted = np.bincount(length_N, minlength=17) + 0.5
    counted[0] = 0
    np.testing.assert_allclose(task.lengths, counted / counted.sum())
    assert len(task.lengths) == task.length + 1 and min(task.lengths[1:]) > 0


def test_molecules_that_do_not_fit_are_left_out_and_told(file, caplog):
    with caplog.at_level("WARNING"):
        short = lsd.make_task(data_of(file, sequence_length=6))
        short.prepare()
    assert "molecules of more than sequence_length=6 tokens" in caplog.text and len(short.split("train")) > 20


def test_a_prompt_fixes_tokens_and_the_length(task):
    condition = task.condition("C1__1_", 3)
    assert condition.fixed_BL[0].tolist() == [True, True, False, False, True, False] + [True] * 10
    assert task.decode(condition.tokens_BL[0]).startswith("C1") and condition.tokens_BL.shape == (3, 16)
    for prompt, message in (
        ("C1CC1", "nothing is free"),
        ("C?_", r"'\?' is no token"),
        ("logP=2", "molecules cannot be asked for logP"),
        ("_" * 17, "17 tokens"),
        ("C1CC))__", "a parenthesis is closed that none opens, whatever is filled in for _"),
        ("C(C(C_", "a parenthesis stays open"),
    ):
        with pytest.raises(lsd.InputError, match=message):
            task.condition(prompt, 1)


@pytest.mark.parametrize(
    ("prompt", "whole"),
    [("C_C)_", True), ("_)", True), ("C))_", False), ("C(_", True), ("(_(", False), ("C1_", True), ("C12_", False)],
)
def test_what_can_be_closed_may_be_asked_for(prompt, whole):
    tokens = smiles.tokenize(prompt)
    assert (smiles.unclosed(tokens) == "") == whole
    fillings = itertools.product("C()12", repeat=tokens.count("_"))
    texts = ["".join(next(chosen) if token == "_" else token for token in tokens) for chosen in map(iter, fillings)]
    balanced = [text for text in texts if not smiles.unclosed(smiles.tokenize(text))]
    assert bool(balanced) == whole


def test_drawn_molecules_are_counted(task):
    assert task.remark(task.encode(["CCO", "C1CO", "CCN"])) == "2 of 3 are valid molecules"


@pytest.mark.slow
def test_real_molecules_score_better_than_shuffled_ones(task):
    real = task.split("train")[:60]
    rng = np.random.default_rng(0)
    shuffled = np.stack(
        [np.append(rng.permutation(row[row < task.vocab_size - 1]), row[row == task.vocab_size - 1]) for row in real]
    )
    found, worse = task.measure(real, resamples=5), task.measure(shuffled, resamples=5)
    assert found["valid"][0] == 1 and found["novelty"][0] == 0 and worse["valid"][0] < 0.7
    assert found["weight_w1"][1] <= found["weight_w1"][0] <= found["weight_w1"][2]
    assert set(found) <= {column.name for column in task.columns}


def test_a_file_in_a_published_vocabulary_has_its_network(tmp_path):
    path = tmp_path / "mine.smi"
    path.write_text("\n".join(f"{'C' * a}{atom}{'C' * b}" for a in range(1, 12) for b in range(11) for atom in "NO"))
    task, model = lsd.make_task(data_of(path, vocab_size=31, sequence_length=22)), lsd.load_model("qm9")
    assert task.vocabulary[:-1] == smiles.VOCABULARIES["qm9"] and task.decode(task.encode(["CCO"])[0]) == "CCO"
    real = task.split("test")[:4]
    nonsense = np.where(real < 30, 29 - real, real)  # other tokens in the same places
    nats = [lsd.likelihood(model, lsd.sampler("euler", steps=8), rows, paths=1).mean() for rows in (real, nonsense)]
    assert nats[0] < nats[1] - 10
    assert lsd.make_task(data_of(path, sequence_length=22)).vocabulary[:-1] == ("C", "N", "O")


def test_molecules_that_a_published_vocabulary_cannot_write_are_left_out_and_told(tmp_path, caplog):
    path = tmp_path / "mine.smi"
    plain = [f"{'C' * a}{atom}{'C' * b}" for a in range(1, 12) for b in range(11) for atom in "NO"]
    path.write_text("\n".join([*plain, *["CCCl", "[13CH4]", "C[C@H](N)C(=O)O", "CC(=O)[O-].[Na+]"] * 3]))
    task = lsd.make_task(data_of(path, vocab_size=31, sequence_length=22))
    with caplog.at_level("WARNING"):
        rows = {part: task.split(part) for part in ("train", "validation", "test")}
    assert sum(map(len, rows.values())) == len(smiles.read_file(str(path))) - 4
    assert "train: left out are 0 molecules" in caplog.text and "cannot write: " in caplog.text
    own = lsd.make_task(data_of(path, sequence_length=22))  # in its own tokens nothing is lost
    kept = {own.decode(row) for part in ("train", "validation", "test") for row in own.split(part)}
    assert {"[13CH4]", "C[C@H](N)C(=O)O", "CC(=O)[O-].[Na+]"} <= kept
    path.write_text("\n".join([f"{'C' * a}Cl" for a in range(1, 120)] + plain[:20]))
    with pytest.raises(lsd.InputError, match="vocab_size=31: .* of qm9 it has .* those with Cl cannot be written"):
        lsd.make_task(data_of(path, vocab_size=31, sequence_length=22))


def test_bad_input_is_told(file, tmp_path):
    with pytest.raises(lsd.InputError, match=r"vocab_size=5: .* has \d+ tokens, the pad included"):
        lsd.make_task(data_of(file, vocab_size=5))
    with pytest.raises(FileNotFoundError, match="path='nothing.smi': no such file; name a file of SMILES, or one of"):
        lsd.make_task(lsd.Data("molecules", path="nothing.smi", vocab_size=5))
    with pytest.raises(FileNotFoundError, match="a folder, not a file"):
        lsd.make_task(lsd.Data("molecules", path=str(tmp_path), vocab_size=5))
    (tmp_path / "few.smi").write_text("CCO\n")
    with pytest.raises(lsd.InputError, match="holds 1 molecules; 100 are needed"):
        smiles.read_splits(str(tmp_path / "few.smi"))


def test_a_missing_wheel_is_told_with_its_command(monkeypatch):
    monkeypatch.setitem(smiles._FOLDERS, "qm9", ("no_such_package", "data"))
    with pytest.raises(
        FileNotFoundError, match=r"path='qm9': not installed; run: pip install --no-deps qm9pack==1.0.3"
    ):
        smiles.read_splits("qm9")


def test_moses_is_the_published_set():
    try:
        rows = smiles.moses("test")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert len(rows) == 176_074
    assert {token for line in rows[:20_000] for token in smiles.tokenize(line)} <= set(smiles.VOCABULARIES["moses"])


def test_a_molecule_is_drawn_and_what_is_none_is_red(task):
    row = task.split("test")[0]
    broken = task.encode(["C1CO"])[0]
    drawn, blank = task.drawing(row[None]), task.drawing(broken[None])
    assert drawn.startswith("<svg") and "class='bond-0" in drawn and "class='bond-0" not in blank
    assert drawn.count("#FFE1E1") == 0 and blank.count("#FFE1E1") == 1 and blank.endswith("</svg>")
    pictures = task.images(np.stack([row, broken]))
    assert pictures.shape == (2, 160, 160, 3) and pictures.dtype == np.uint8
    assert len(np.unique(pictures[0])) > 5 and (pictures[1] == (255, 225, 225)).all()


def test_properties_are_of_the_valid_molecules(task):
    found = task.properties(task.encode(["CCO", "C1CO"]))
    assert found["weight, Da"] == pytest.approx([46.069]) and {len(values) for values in found.values()} == {1}
    assert task.properties(task.encode(["C1CO"])) == {}


def test_few_references_are_told(file, caplog):
    assert lsd.make_task(data_of(file), Judge(references=3)).references
    assert "few molecules to hold samples against, test of 3" in caplog.text
