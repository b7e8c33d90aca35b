"""The README's claims: how they are read from a report, and recomputed from nothing (minutes: `pytest -m slow`)."""

import importlib

import pytest

from lsd_jax.experiment.records import write_json
from measurements import claims

TEXT = {
    (claims.STUDENT, 4): {"nll_bits": 2.18},
    (claims.STUDENT, 8): {"nll_bits": 2.03},
    (claims.STUDENT, 16): {"nll_bits": 2.01},
    ("Euler", 8): {"nll_bits": 2.23},
    ("Euler", 16): {"nll_bits": 2.14},
    ("Euler", 32): {"nll_bits": 2.09},
}
SUBWORDS = {
    (claims.STUDENT, 4): {"nll_bits": 4.72},
    (claims.STUDENT, 8): {"nll_bits": 4.58},
    (claims.STUDENT, 16): {"nll_bits": 4.53},
    ("golden order, cosine grid", 8): {"nll_bits": 4.63},
    ("Euler", 8): {"nll_bits": 4.86},
    ("Euler", 16): {"nll_bits": 4.69},
}
COUNTDOWN = {
    ("real data", 0): {"wrong_per_transition": 0.003},
    (claims.STUDENT, 8): {"wrong_per_transition": 0.0031},
    (claims.STUDENT, 16): {"path_kl_nats": 0.001},
    (claims.STUDENT, 32): {"path_kl_nats": 0.002},
    ("Euler", 8): {"wrong_per_transition": 0.1},
    ("Euler", 256): {"wrong_per_transition": 0.005},
}


def make_table(values):
    return [
        {"sampler": sampler, "budget": budget, **{metric: [value] * 3 for metric, value in own.items()}}
        for (sampler, budget), own in values.items()
    ]


@pytest.mark.parametrize(("name", "values"), [("text", TEXT), ("subwords", SUBWORDS), ("countdown", COUNTDOWN)])
def test_claims_are_read_from_a_report(tmp_path, capsys, name, values):
    write_json(tmp_path / "report" / "metrics.json", make_table(values))
    write_json(tmp_path / "config.json", {"layout": 2, "config": {"data": {"name": name}}})
    (tmp_path / "report" / "tables.md").write_text("the tables")
    assert claims.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "the tables" in printed and printed.count("holds - ") == 4 and "FAILS" not in printed
    worse = {
        key: {m: 30 * v + 30 for m, v in own.items()} if key[0] == claims.STUDENT else own
        for key, own in values.items()
    }
    write_json(tmp_path / "report" / "metrics.json", make_table(worse))
    assert claims.main([str(tmp_path)]) == 1 and "FAILS" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("config", "name"), [("countdown", "countdown"), ("characters", "text"), ("text", "subwords")])
def test_claims_hold(tmp_path, config, name):
    from lsd_jax.experiment import stages  # which loads what the quick test has no need of

    settings = importlib.import_module(f"lsd_jax.configs.{config}").get_config()
    stages.run(settings, tmp_path / "run", "all", command="pytest -m slow")
    rows, _ = claims.read(tmp_path / "run")
    assert [claim for claim, holds in claims.CLAIMS[name](rows).items() if not holds] == []
