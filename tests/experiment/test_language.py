"""The language experiments end to end on networks of 40,000 random weights: the paths of the published ones, not their numbers."""

import importlib
import json
import subprocess
import sys

import jax
import pytest

from lsd_jax.experiment import build, check, stages
from lsd_jax.experiment.records import read_rows
from lsd_jax.models.model import Diffusion
from lsd_jax.tasks import tokens

NAMES = ("sedd_small", "sedd_medium", "radd", "mdlm", "duo")
# Networks that were distilled before: their :tiny is that of mdlm and of duo.
FULL = [(name, variant) for name in (*NAMES, "didi") for variant in ("", "lsd")] + [("duo", "distilled")]


def tiny(name, **changes):
    config = importlib.import_module(f"lsd_jax.configs.{name}").get_config("tiny")
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(  # the :tiny of sedd_medium is that of sedd_small
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ("duo", "sedd_small", "radd", "mdlm")]
)
def test_tiny_runs_from_checkpoint_to_report_and_again(tmp_path, capsys, name):
    run, config = tmp_path / "run", tiny(name)
    stages.run(config, run, "all", command="test")
    printed = capsys.readouterr().out
    assert "path-KL student" in printed and "gen-PPL" in printed
    record = json.loads((run / "students" / "M2" / "student.json").read_text())
    assert record["backbone"]["kind"] == config.model.name and len(record["backbone"]["sha256"]) == 64
    assert record["backbone"]["id"] == config.model.weights and record["vocab_size"] == 11
    rows = {row["sampler"]: row for row in read_rows(run / "cells")}
    assert set(rows) == {"path-KL student", "Euler", "Tweedie", "Euler, T=0.8"}  # no data: no row of data
    for row in rows.values():
        assert row["gen_ppl"][0] > 1 and 0 < row["entropy_bits"][0] < 3.5 and "path_kl_nats" in row
        assert row["scorer"]["protocol"] == config.evaluation.protocol and row["precision"] == "float32"
        assert "bound_bits" not in row and "tv1" not in row
    stages.run(config, run, "all", command="test")  # finds everything done
    capsys.readouterr()
    stages.sample(config, tmp_path / "other", student=str(run / "students" / "M2" / "student.json"), count=3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and set("".join(lines).replace("<|endoftext|>", "")) <= set(" aeinorst\\")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sedd_medium"])
def test_verify_knows_the_right_weights_from_wrong_ones(tmp_path, capsys, name):
    stages.run(tiny(name), tmp_path / "run", "verify", command="test")
    assert "verified: perplexity" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "variant"), FULL)
def test_the_full_configs_are_consistent(monkeypatch, tmp_path, name, variant):
    """Everything but the checkpoint, the scorer and the tokenizer, which come from the hub."""
    config = importlib.import_module(f"lsd_jax.configs.{name}").get_config(variant)
    loaded = Diffusion.from_function(lambda x, t: x, build.process_of(config), "log_score")
    monkeypatch.setattr(build, "model_of", lambda *arguments: loaded)
    monkeypatch.setattr(tokens, "_load_tokenizer", lambda data: None)
    monkeypatch.setattr(tokens, "_scorer_of", lambda data, judge: None)
    monkeypatch.setattr(jax, "device_count", lambda: 1)  # as on a GPU
    check.check(config, "all", tmp_path)
    assert (
        config.teacher.steps == 1024
        and config.distill.alignment.radius == 0.05
        and config.evaluation.num_samples == 1024
    )
    assert (config.distill.objective == "score_alignment") == (variant == "lsd")


def test_verify_refuses(tmp_path):
    with pytest.raises(
        ValueError, match=r"but 5 is known: \+[\d.]+%, more than config.verify.tolerance=0.001; another"
    ):
        stages.run(tiny("radd", **{"verify.perplexity": 5.0}), tmp_path, "verify", command="test")
    with pytest.raises(ValueError, match="config.verify.perplexity=0.0: name the perplexity"):
        stages.run(tiny("radd", **{"verify.perplexity": 0.0}), tmp_path, "verify", command="test")
    with pytest.raises(ValueError, match="config.verify.path='': name a text"):
        stages.run(tiny("radd", **{"verify.path": ""}), tmp_path, "verify", command="test")


def test_the_variant_is_named_on_the_command_line(tmp_path):
    command = [sys.executable, "-m", "lsd_jax.main", "--config=configs/radd.py:huge"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "choose one of ('lsd', 'tiny')" in done.stderr


@pytest.mark.parametrize(("name", "variant"), FULL)
def test_the_published_settings(name, variant):
    config = importlib.import_module(f"lsd_jax.configs.{name}").get_config(variant)
    assert config.student.steps == (8, 16, 32, 64) and config.teacher.steps == 1024
    assert config.distill.alignment.radius == 0.05 and config.evaluation.num_samples == 1024
    assert (config.data.sequence_length, config.data.vocab_size) == (1024, 50257)


@pytest.mark.parametrize(("name", "variant", "base"), [("didi", "", "mdlm"), ("duo", "distilled", "duo")])
def test_a_distilled_network_differs_from_its_base_in_the_weights_alone(name, variant, base):
    config = importlib.import_module(f"lsd_jax.configs.{name}").get_config(variant)
    other = importlib.import_module(f"lsd_jax.configs.{base}").get_config()
    assert config.model.weights != other.model.weights and tiny(name) == tiny(base)
    other.model.weights, other.verify.perplexity = config.model.weights, 0.0  # no perplexity is published
    assert config == other
