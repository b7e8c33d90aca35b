"""The campaign of kills: a short form of it, and that it would see what was lost."""

import json
import random

import pytest

from measurements import faults

SHORT = (*faults.STUDY, "--config.training.steps=40", "--config.distill.steps=40")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("processes", [1, 2])
def test_a_study_that_is_killed_and_started_again_ends_as_if_it_was_not(tmp_path, monkeypatch, processes):
    for name, value in faults.cache_of(tmp_path).items():
        monkeypatch.setenv(name, value)
    wanted, lasts = faults.undisturbed(tmp_path, processes, SHORT)
    assert {"weights", "teacher", "students/M4/student.json", "report"} < set(wanted)
    stages = ("train", "optimize", "evaluate")
    run = faults.disturbed(tmp_path / "run", processes, stages, lasts, wanted, random.Random(0), SHORT)
    assert run["lost"] == [] and len(run["kills"]) >= 2, run
    student = tmp_path / "run" / "students" / "M4" / "student.json"
    record = json.loads(student.read_text())
    student.write_text(json.dumps(record | {"nfe": record["nfe"] + 1}))
    next((tmp_path / "run" / "cells").glob("*euler*.npz")).unlink()
    found = faults.differing(faults.contents(tmp_path / "run"), wanted)
    assert len(found) == 2 and "students/M4/student.json" in found and "euler" in found[0]


def test_a_lost_run_loses_all_its_kills():
    kill = {"stage": "train", "seconds_after_start": 1.0, "killed": [0]}
    runs = [{"processes": 1, "kills": [kill, kill], "lost": []}, {"processes": 1, "kills": [kill], "lost": ["weights"]}]
    assert faults.summary(runs) == {"table": {"1 process": {"train": {"tried": 3, "survived": 2, "lost": 1}}}}


def test_seconds_and_commands_are_no_result():
    record = {"nfe": 2, "seconds": 1.5, "provenance": [{"command": "a", "seed": 0}]}
    assert faults._of_result(record) == {"nfe": 2, "provenance": [{"seed": 0}]}
