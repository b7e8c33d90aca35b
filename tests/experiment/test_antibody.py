"""The antibody experiment on tiny random weights, and what it says where a wheel is missing."""

import json
import lzma

import pytest

import lsd_jax as lsd
from lsd_jax.configs import antibody
from lsd_jax.experiment import stages
from lsd_jax.experiment.records import read_rows
from lsd_jax.models.pretrained import sources
from lsd_jax.tasks.proteins import CORPUS, LETTERS


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


@pytest.mark.slow
def test_chains_of_several_lengths_go_from_a_file_to_samples(tmp_path, capsys):
    shipped = lzma.decompress(CORPUS.read_bytes()).decode().split()[:200]
    chains = [chain[: 121 - index % 5] for index, chain in enumerate(shipped)]
    (tmp_path / "mine.txt").write_text("\n".join(chains))
    run, config = tmp_path / "run", antibody.get_config("tiny")
    config.data.path, config.data.vocab_size, config.data.sequence_length = str(tmp_path / "mine.txt"), 21, 122
    config.samplers = config.samplers[:1]
    stages.run(config, run, "all", command="test")
    assert "length W1" in capsys.readouterr().out
    rows = {row["sampler"]: row for row in read_rows(run / "cells")}
    assert rows["real data"]["length_w1"][0] < 1.5 and rows["real data"]["cdr3"][0] == 1
    assert rows["path-KL student"]["length_w1"][0] < 3 and rows["path-KL student"]["pseudo_ppl"][0] > 1
    student = str(run / "students" / "M2" / "student.json")
    stages.sample(config, tmp_path / "other", student=student, count=6)
    lengths = {len(line) for line in capsys.readouterr().out.splitlines()}
    assert lengths <= set(range(1, 122)) and len(lengths) > 1
    stages.sample(config, tmp_path / "more", student=student, count=2, prompt="EVQ" + 7 * "_")
    assert all(len(line) == 10 and line.startswith("EVQ") for line in capsys.readouterr().out.splitlines())


def test_a_length_that_is_none_is_told_of_the_data(tmp_path):
    config = antibody.get_config("tiny")
    config.data.sequence_length = 0
    with pytest.raises(lsd.InputError, match=r"^config\.data\.sequence_length=0: must be 1 or more"):
        stages.run(config, tmp_path / "run", "all", command="test")


def test_a_missing_wheel_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        FileNotFoundError, match=r"^config\.(model|evaluation)\.\w+=.*pip install --no-deps \w+=="
    ) as error:
        stages.run(antibody.get_config(), tmp_path / "run", "all", command="test")
    assert not (tmp_path / "run").exists() and "\n" not in str(error.value)
