"""The whole table on a few molecules, every value by hand."""

import numpy as np
import pytest

from lsd_jax.metrics import fid
from lsd_jax.metrics.molecules import facts, table
from lsd_jax.metrics.molecules.reference import Reference

pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")
BIPHENYL, NAPHTHALENE = "c1ccc(-c2ccccc2)cc1", "c1ccc2ccccc2c1"
# Ethanol three times, of them two written otherwise; biphenyl; two that are none.
SAMPLES = ["OCC", "C(", "CCO", "c1ccccc1-c1ccccc1", "", "C(O)C"]
TRAINING = {"CCO", "C"}
SETTINGS = {"fcd": False, "filters": False, "seed": 0}


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    folder = tmp_path_factory.mktemp("references")
    sets = {"test": [BIPHENYL, "CCO", NAPHTHALENE, NAPHTHALENE], "scaffolds": [NAPHTHALENE, "C"]}
    return {name: Reference.of(smiles, folder, fcd=False, filters=False) for name, smiles in sets.items()}


def tanimoto(a, b):
    a, b = (np.unpackbits(facts.describe([text], False).fingerprints[0]) for text in (a, b))
    return (a & b).sum() / (a | b).sum()


def test_every_value(references):
    found = table.measure(SAMPLES, references, TRAINING, resamples=0, **SETTINGS)
    assert all(value == low == high for value, low, high in found.values())
    pair = tanimoto("CCO", BIPHENYL)
    weights = {"CCO": 46.069, BIPHENYL: 154.212, NAPHTHALENE: 128.174}
    values = {name: value for name, (value, _, _) in found.items()}
    assert values == pytest.approx(
        {
            "valid": 4 / 6,
            "unique": 2 / 4,
            "unique_1k": 2 / 4,
            "novelty": 1 / 2,
            "snn": 1,
            "snn_sf": (3 * max(tanimoto("CCO", NAPHTHALENE), tanimoto("CCO", "C")) + tanimoto(BIPHENYL, NAPHTHALENE))
            / 4,
            # CCO, naphthalene, phenyl: (3, 0, 2) with (1, 2, 2), naphthalene and methane: (0, 1)
            "frag": (3 + 4) / (np.sqrt(13) * 3),
            "frag_sf": 0,
            # biphenyl, naphthalene: (1, 0) with (1, 2)
            "scaf": 1 / np.sqrt(5),
            "scaf_sf": 0,
            "intdiv1": 1 - (9 + 1 + 6 * pair) / 16,
            "intdiv2": 1 - (3 * np.sqrt((3 + pair**2) / 4) + np.sqrt((1 + 3 * pair**2) / 4)) / 4,
            "weight_w1": np.mean([0, weights[NAPHTHALENE] - weights["CCO"], weights[NAPHTHALENE] - weights["CCO"], 0]),
            "logp_w1": values["logp_w1"],
            "sa_w1": values["sa_w1"],
            "qed_w1": values["qed_w1"],
        },
        abs=1e-5,
    )
    assert 0 < values["qed_w1"] < 1 and 0 < values["logp_w1"] < 4 and 0 <= values["sa_w1"] < 9


def test_intervals_surround_the_values(references):
    found = table.measure(SAMPLES * 10, references, TRAINING, resamples=100, **SETTINGS)
    assert found["valid"][0] == 4 / 6 and found["unique"][0] == 2 / 40
    for name, (value, low, high) in found.items():
        assert low <= value + 1e-9 and value <= high + 1e-9, name
        assert low < high or name in ("novelty", "snn", "frag_sf", "scaf", "scaf_sf"), name  # of one kind


def test_what_is_not_defined_is_left_out(references):
    assert table.measure(["", "C("], references, TRAINING, resamples=9, **SETTINGS) == {"valid": (0, 0, 0)}
    one = table.measure(["CCO"], references, TRAINING, resamples=9, **SETTINGS | {"fcd": False})
    assert "scaf" not in one and one["frag"][0] == pytest.approx(1 / 3)
    assert np.isfinite(list(one.values())).all()


def test_fcd_by_its_name(references, monkeypatch):
    features = np.random.default_rng(0).normal(size=(4, 2))
    monkeypatch.setattr(table.chemnet, "features", lambda smiles: features[: len(smiles)])
    with pytest.raises(ValueError, match="^fcd=True: the reference 'test' was made without it"):
        table.measure(SAMPLES, references, TRAINING, resamples=0, **SETTINGS | {"fcd": True})
    gaussian = fid.Gaussian(np.zeros(2), np.eye(2))
    known = {"test": references["test"]._replace(chemnet=gaussian)}
    found = table.measure(SAMPLES, known, TRAINING, resamples=0, **SETTINGS | {"fcd": True})
    assert found["fcd"][0] == fid.frechet_distance(gaussian, fid.fit(features))
    assert "fcd" not in table.measure(["CCO"], known, TRAINING, resamples=0, **SETTINGS | {"fcd": True})


def test_columns_are_what_is_measured(references):
    measured = table.measure(SAMPLES, references, TRAINING, resamples=0, **SETTINGS)
    assert [column.name for column in table.columns(False, False, True)] and set(measured) == {
        column.name for column in table.columns(False, False, True)
    }
    names = lambda *which: {column.name for column in table.columns(*which)}
    assert names(True, True, True) - names(False, False, False) == {
        *("fcd", "fcd_sf", "snn_sf", "frag_sf", "scaf_sf", "filters")
    }
    assert len({column.short for column in table.columns(True, True, True)}) == len(table.columns(True, True, True))
