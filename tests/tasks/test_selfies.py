"""Molecules written as SELFIES: the same sets, files and metrics, and no string that is not a molecule."""

import sys

import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.metrics.molecules import chemistry
from lsd_jax.tasks import smiles
from lsd_jax.tasks.selfies import VOCABULARIES, Selfies
from lsd_jax.tasks.task import Judge

pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")
pytest.importorskip("selfies", reason="SELFIES is not installed: pip install selfies")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Chains with a double bond, and rings; one molecule has more bonds than SELFIES allows."""
    chains = [f"{'C' * a}{atom}{'C' * b}" for a in range(2, 8) for b in range(1, 8) for atom in ("N", "O", "C(=O)")]
    rings = [f"C1{'C' * n}C1{tail}" for n in range(1, 6) for tail in ("O", "N", "C#N", "C(=O)O")]
    path = tmp_path_factory.mktemp("selfies") / "simple.smi"
    path.write_text("\n".join([*chains, *rings, "CI(=O)=O"]) + "\n")
    return path


@pytest.fixture(scope="module")
def task(file):
    return lsd.make_task(data_of(file), Judge(references=0))


def data_of(file, **changes) -> lsd.Data:
    vocab_size = 1 + len({token for line in smiles.read_file(str(file)) for token in Selfies.cut(line)})
    return lsd.Data("selfies", **{"path": str(file), "vocab_size": vocab_size, "sequence_length": 20, **changes})


def test_tokens_are_those_of_the_package():
    assert Selfies.cut("CC(=O)N") == ["[C]", "[C]", "[=Branch1]", "[C]", "[=O]", "[N]"]
    assert Selfies.cut("CI(=O)=O") == []


def test_molecules_come_back_and_what_cannot_be_written_is_told(file, task, caplog):
    written = chemistry.canonical(file.read_text().split()[:-1])
    assert chemistry.canonical(task.decode(row) for row in task.encode(written)) == written
    with caplog.at_level("WARNING"):
        task.encode(["CCO", "CI(=O)=O", "CCBr"])
    assert "and 2 that the vocabulary cannot write: no such writing 1, [Br] 1" in caplog.text


def test_any_tokens_are_a_molecule(task):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, task.vocab_size - 1, (200, 20))
    rows[:, 0] = task.vocabulary.index("[C]")  # a branch or a ring alone is an empty string
    assert task.measure(rows, resamples=0)["valid"][0] == 1
    shuffled = np.stack([rng.permutation(row) for row in task.split("train")])
    assert task.measure(shuffled, resamples=0)["novelty"][0] > 0.2


def test_molecules_that_metrics_compare_with_are_canonical(task, monkeypatch):
    monkeypatch.setattr(Selfies, "split", lambda self, part: self.encode(["Cc1ccccc1", "C[NH3+]"]))
    ring = lsd.make_task(lsd.Data("selfies", path="qm9", vocab_size=31, sequence_length=21))
    assert ring._smiles("test") == ["Cc1ccccc1", "C[NH3+]"] and ring.decode(ring.split("test")[0]) == "CC1=CC=CC=C1"


def test_training_molecules_are_not_novel(task):
    assert task.measure(task.split("train"), resamples=0)["novelty"][0] == 0


def test_a_masked_sequence_and_a_prompt_are_read_token_by_token(task):
    condition = task.condition("[C][C]_[O]", 2)
    assert condition.fixed_BL[0].tolist() == [True, True, False, True] + [True] * 16
    row = np.array(condition.tokens_BL[0])
    row[2] = task.vocab_size  # the mask
    assert task.decode(row) == "[C][C]_[O]"
    with pytest.raises(lsd.InputError, match=r"'\[Xx\]' is no token"):
        task.condition("[C][Xx]_", 1)


def test_a_small_set_has_the_tokens_of_qm9_where_it_asks_for_them(file):
    wide = lsd.make_task(data_of(file, vocab_size=31))
    assert wide.vocabulary[:-1] == VOCABULARIES["qm9"] and wide.decode(wide.encode(["CCO"])[0]) == "CCO"
    own = lsd.make_task(data_of(file))  # the same file in other numbers
    assert own.vocab_size < 31 and own._smiles("test") == wide._smiles("test")
    assert [wide.token_name(token) for token in (0, 30)] == ["[#Branch1]", ""]


@pytest.mark.parametrize("name", ["moses", "qm9"])
def test_a_published_set_has_its_tokens_and_comes_back(name):
    try:
        rows = smiles.moses("test") if name == "moses" else smiles.read_splits(name)["test"]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    size, length = len(VOCABULARIES[name]) + 1, {"moses": 56, "qm9": 21}[name]
    whole = lsd.make_task(lsd.Data("selfies", path=name, vocab_size=size, sequence_length=length))
    tokens = whole.encode(rows[:1000])
    assert len(tokens) == 1000
    assert chemistry.canonical(whole.decode(row) for row in tokens) == chemistry.canonical(rows[:1000])


def test_the_missing_package_is_told_with_its_command(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "selfies", None)
    with pytest.raises(lsd.InputError, match="selfies: the package is not installed; run: pip install selfies"):
        Selfies.cut("CCO")
