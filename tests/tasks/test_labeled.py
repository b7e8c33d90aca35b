"""Molecules behind the bin of a property: bins, prompts with and without a value, and the share that lies where it says."""

import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.tasks import smiles
from lsd_jax.tasks.labeled import LogPMolecules, QedMolecules, bins
from lsd_jax.tasks.task import Judge

pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Chains, the longer ones of a higher logP."""
    path = tmp_path_factory.mktemp("labeled") / "chains.smi"
    path.write_text("\n".join(f"{'C' * a}{atom}{'C' * b}" for a in range(1, 12) for b in range(8) for atom in "NO"))
    return path


@pytest.fixture(scope="module")
def task(file):
    return lsd.make_task(data_of(file), Judge(references=0))


def data_of(file, name="molecules_logp", vocab_size=3 + 13 + 1) -> lsd.Data:
    return lsd.Data(name, str(file), vocab_size=vocab_size, sequence_length=21)


def test_bins_are_named_and_hold_their_lower_edge():
    assert bins((0.0, 1.5)) == ("<..0>", "<0..1.5>", "<1.5..>")
    found = {text: LogPMolecules.bin_of(text) for text in ("CCO", "CCCCCCCCCC", "OCC(O)C(O)C(O)CO", "C1CC")}
    assert found == {
        "CCO": "<-0.5..0>",
        "CCCCCCCCCC": "<4..>",
        "OCC(O)C(O)C(O)CO": "<..-1.5>",
        "C1CC": "",
    }  # RDKit's logP: -0.0014, 4.147, -2.945
    assert QedMolecules.bin_of("CC(=O)Oc1ccccc1C(=O)O") == "<0.55..0.6>"  # aspirin: 0.550


def test_a_sequence_begins_with_its_bin_and_is_read_without(task):
    row = task.encode(["CCCCO"])[0]
    assert task.vocabulary[row[0]] == "<0.5..1>" and task.decode(row) == "CCCCO"
    assert task.lengths[:2] == (0, 0) < task.lengths[2:3]  # a bin counts, and is no molecule
    real = task.split("test")
    assert task.measure(real, resamples=0)["in_bin"][0] == 1
    wrong = real.copy()
    wrong[:, 0] = np.roll(real[:, 0], 1)
    share = (wrong[:, 0] == real[:, 0]).mean()
    assert task.measure(wrong, resamples=0)["in_bin"][0] == pytest.approx(share)
    assert share < 0.9


def test_a_value_is_a_prompt_whose_lengths_are_those_of_its_bin(task):
    train = task.split("train")
    for value, token in ((0.7, "<0.5..1>"), (3.2, "<3..3.5>")):
        mine = train[train[:, 0] == task.vocabulary.index(token)]
        wanted = (mine != task.vocab_size - 1).sum(1)
        condition = task.condition(f"logP={value}", len(mine))
        tokens, fixed = np.asarray(condition.tokens_BL), np.asarray(condition.fixed_BL)
        assert (tokens[:, 0] == mine[0, 0]).all() and fixed[:, 0].all()
        np.testing.assert_array_equal(np.sort((~fixed).sum(1) + 1), np.sort(wanted))
        assert (tokens[:, 1:][fixed[:, 1:]] == task.vocab_size - 1).all()


def test_a_value_and_a_writing_or_a_writing_alone(task):
    both, alone = task.condition("logP=0.7 CC__O", 2), task.condition("CC__O", 2)
    assert both.fixed_BL[0, :7].tolist() == [True, True, True, False, False, True, True]
    assert alone.fixed_BL[0, :7].tolist() == [False, True, True, False, False, True, True]
    assert task.vocabulary[both.tokens_BL[0, 0]] == "<0.5..1>"


@pytest.mark.parametrize(
    "prompt, message",
    [
        ("logP=high", r"prompt='logP=high': write logP=NUMBER, or logP=NUMBER and a molecule, logP=1.5 CC__O"),
        ("logP=nan", r"prompt='logP=nan': write logP=NUMBER"),
        (
            "logP=-9",
            r"prompt='logP=-9': no molecule of the training split lies in the bin <..-1.5>; those that hold some are <",
        ),
        ("logP=1 CCO", r"prompt='logP=1 CCO': nothing is free"),
        ("CCO", r"prompt='CCO': nothing is free"),
        ("", r"prompt='': nothing is free"),
        ("logP=1 " + 21 * "_", r"prompt='logP=1 _*': it has 21 tokens, a sequence 20"),
        ("CCS_", r"prompt='CCS_': 'S' is no token; it may hold C N O and _, and a value before it, logP=NUMBER"),
        ("boiling=2.2", r"prompt='boiling=2.2': .* is no token; .*, and a value before it, logP=NUMBER"),
        ("QED=0.5", r"prompt='QED=0.5': write logP=NUMBER"),
        ("logp=0.5", r"prompt='logp=0.5': write logP=NUMBER"),
    ],
)
def test_a_prompt_that_does_not_fit_is_told(task, prompt, message):
    with pytest.raises(lsd.InputError, match=message):
        task.condition(prompt, 1)


def test_a_file_s_own_vocabulary_is_that_of_its_set_where_it_has_all_of_it(tmp_path):
    """Whose tokens stand in another order than sorted ones."""
    path = tmp_path / "all.smi"
    rows = [f"{'C' * a}{atom}{'C' * b}" for a in range(1, 12) for b in range(8) for atom in "NO"]
    rest = ["C#C", "CC(F)C", "[O-]C=[NH+]C", "C1=CC=CC=C1", "c1ccccc1", "n1c[nH]cc1", "C[N+]#[C-]", "[NH3+]CC([O-])=O"]
    path.write_text("\n".join([*rows, *rest]))
    own = {token for text in smiles.read_file(str(path)) for token in smiles.tokenize(text)}
    known = {**smiles.VOCABULARIES, "mine": tuple(sorted(own, reverse=True))}
    assert smiles.vocabulary_of(str(path), len(own) + 1, known, smiles.tokenize) == known["mine"]


def test_the_published_sets_have_every_bin():
    for name, size in (("qm9", 44), ("moses", 38)):
        data = lsd.Data("molecules_qed", path=name, vocab_size=size, sequence_length=57)
        assert lsd.make_task(data).vocabulary[-14:-1] == bins(QedMolecules.edges)
