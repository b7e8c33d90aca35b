"""The antibody experiment on tiny random weights, and what it says where a wheel is missing."""

import json

import pytest

from lsd_jax.configs import antibody
from lsd_jax.experiment import stages
from lsd_jax.experiment.records import read_rows
from lsd_jax.models.pretrained import sources
from lsd_jax.tasks.proteins import LETTERS


@pytest.mark.slow
def test_tiny_runs_from_weights_to_report(tmp_path, capsys):
    run, config = tmp_path / "run", antibody.get_config("tiny")
    config.samplers = config.samplers[:1]
    stages.run(config, run, "all", command="test")
    printed = capsys.readouterr().out
    assert "pseudo-PPL" in printed and "position JS" in printed
    record = json.loads((run / "students" / "M2" / "student.json").read_text())
    assert record["backbone"]["kind"] == "antiberty" and record["temperatures"] != [1.0, 1.0]  # they are learned
    rows = {row["sampler"]: row for row in read_rows(run / "cells")}
    assert set(rows) == {"real data", "path-KL student"}
    for row in rows.values():
        assert row["pseudo_ppl"][0] > 1 and row["scorer"]["name"] == "antiberty" and row["distinct"][0] == 1
    assert rows["real data"]["position_js"][0] < rows["path-KL student"]["position_js"][0]
    student = str(run / "students" / "M2" / "student.json")
    stages.sample(config, tmp_path / "other", student=student, count=2, prompt="EVQ")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(len(line) == 121 and line.startswith("EVQ") for line in lines)
    assert set("".join(lines)) <= set(LETTERS)


def test_a_missing_wheel_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        FileNotFoundError, match=r"^config\.(model|evaluation)\.\w+=.*pip install --no-deps \w+=="
    ) as error:
        stages.run(antibody.get_config(), tmp_path / "run", "all", command="test")
    assert not (tmp_path / "run").exists() and "\n" not in str(error.value)
