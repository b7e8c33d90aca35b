"""The measurement of guidance: its rows, and that a condition that a network reads is counted."""

import json

import jax
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.models import weights
from lsd_jax.models.backbones import initial
from lsd_jax.models.ddit import DDiTConfig
from lsd_jax.samplers.record import describe
from measurements import guidance, rows

pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> lsd.Data:
    path = tmp_path_factory.mktemp("guidance") / "chains.smi"
    path.write_text("\n".join(f"{'C' * a}{atom}{'C' * b}" for a in range(1, 12) for b in range(8) for atom in "NO"))
    return lsd.Data("molecules_logp", str(path), vocab_size=3 + 13 + 1, sequence_length=21)


def test_a_record_has_a_row_for_every_sampler_strength_and_value(data, tmp_path, monkeypatch):
    task = lsd.make_task(data)
    process = lsd.Absorbing(data.vocab_size, lsd.LogLinear(), lengths=task.lengths)
    sizes = DDiTConfig(data.vocab_size, 16, 1, 2)
    card = {"process": {"name": process.name, **describe(process)}}
    weights.save(tmp_path / "net.safetensors", initial(sizes, jax.random.key(0)), sizes, card)
    monkeypatch.setitem(guidance.PROPERTIES, "logP", (data, "", ()))
    euler = {"Euler 2": lsd.sampler("euler", 2), guidance.ALONE: lsd.sampler("any_order", 21)}
    monkeypatch.setattr(guidance, "samplers", lambda model, train: euler)
    output = tmp_path / "record.json"
    argv = [f"--weights={tmp_path / 'net.safetensors'}", f"--output={output}", "--count=8", "--strengths", "1", "2"]
    assert guidance.main([*argv, "--values", "0.7", "3.2"]) == 0
    record = json.loads(output.read_text())
    rows = {(row["sampler"], row["strength"], row["value"]): row for row in record["rows"]}
    assert len(rows) == len(record["rows"]) == 2 * 3 + 2 * 2
    calls = {key: row["evaluations"] for key, row in rows.items()}
    for value in (0.7, 3.2):
        free = (~task.condition(f"logP={value}", 8).fixed_BL).sum(1).mean()
        assert calls["Euler 2", 1.0, value] == 2 == calls[f"Euler 2, T={guidance.TEMPERATURE}", 1.0, value]
        assert calls["Euler 2", 2.0, value] == 4
        assert calls[guidance.ALONE, 1.0, value] == free == calls[guidance.ALONE, 2.0, value] / 2
    train = task.split("train")[:, 0]
    shares = {
        value: (train == task.vocabulary.index(name)).mean()
        for value, name in (("0.7", "<0.5..1>"), ("3.2", "<3..3.5>"))
    }
    assert record["training_shares"] == pytest.approx(shares)


def test_a_cooled_sampler_is_that_of_the_temperature():
    mine, theirs = rows.cooled(lsd.sampler("euler", 3), 0.8), lsd.sampler("euler", 3, temperature=0.8)
    jax.tree.map(np.testing.assert_allclose, mine.schedule, theirs.schedule)


def test_a_model_that_knows_the_molecule_is_in_the_bin(data):
    """Its samples are one molecule of the bin, of whatever length is drawn: only those as long as the molecule lie in it."""
    task = lsd.make_task(data)
    molecule = task.encode(["CCCCO"])[0]
    process = lsd.Absorbing(data.vocab_size, lsd.LogLinear(), lengths=task.lengths)
    table = jax.nn.one_hot(molecule, data.vocab_size) * 20
    model = lsd.Diffusion.from_function(lambda x_BL, t: table[None].repeat(len(x_BL), 0), process)
    found = guidance.row(task, model, lsd.sampler("euler", 2), 0.7, 0, 64)
    whole = (~task.condition("logP=0.7", 64).fixed_BL).sum(1) + 1
    prefixes = {length: task.decode(molecule[:length]) for length in range(2, 7)}
    right = [task.bin_of(prefixes[length]) == "<0.5..1>" for length in whole if length in prefixes]
    assert found["in_bin"][0] == pytest.approx(sum(right) / 64)
    assert found["in_bin"][0] > 0
