"""The image experiment end to end on digits, and bad input."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.configs import cifar10
from lsd_jax.experiment import build, stages
from lsd_jax.experiment.records import read_rows
from lsd_jax.models import backbones, weights
from lsd_jax.models.unet import UNetConfig


def tiny(**changes):
    config = cifar10.get_config("tiny")
    small = {
        **{
            "teacher.steps": 16,
            "teacher.paths": 32,
            "student.steps": (3,),
            "student.grid_points": 8,
            "distill.steps": 0,
        },
        **{"distill.batch_size": 8, "evaluation.num_samples": 64, "evaluation.batch_size": 64},
        **{"evaluation.held_out": 16, "evaluation.reference_steps": 3, "evaluation.temperatures": ()},
    }
    config.update_from_flattened_dict({**small, **changes})
    return config


@pytest.mark.slow
def test_from_network_to_report(tmp_path, capsys):
    # A network of one scale, untrained, compiles in a fraction of the shipped one's time.
    sizes, file = UNetConfig(17, (1, 8, 8), 8, 1, (1,), -1, 8), tmp_path / "unet.safetensors"
    weights.save(file, backbones.initial(sizes, jax.random.key(0)), sizes, {})
    changes, run = {"model.weights": str(file)}, tmp_path / "run"
    stages.run(tiny(**changes), run, "all", command="test")
    assert "path-KL student" in capsys.readouterr().out
    rows = {row["sampler"]: row for row in read_rows(run / "cells")}
    assert set(rows) == {"real data", "path-KL student", "Euler", "Ancestral"}
    assert all("digits_features.safetensors" in row["features"] and row["frechet"][0] >= 0 for row in rows.values())
    assert rows["real data"]["frechet"][0] < rows["path-KL student"]["frechet"][0]  # of an untrained network
    page = (run / "report" / "index.html").read_text()
    assert "digits_features.safetensors" in page and list((run / "report").glob("images*.png"))
    student = run / "students" / "M3" / "student.json"
    record = json.loads(student.read_text())
    assert record["process"] == "gaussian" and record["q_sigma"] == 16.0 and record["kernel"] == "ancestral"
    stages.sample(tiny(**changes), tmp_path, student=str(student), count=3, output=str(tmp_path / "three.png"))
    assert (tmp_path / "three.png").stat().st_size > 1_000
    with pytest.raises(ValueError, match="q_sigma=16.0, this config 17.0"):
        stages.sample(tiny(**changes, **{"process.q_sigma": 17.0}), tmp_path, student=str(student), count=3)


@pytest.mark.slow
def test_verify_knows_the_shipped_network_from_another(tmp_path, capsys):
    stages.run(cifar10.get_config("tiny"), tmp_path / "run", "verify", command="test")
    assert "verified: perplexity 5.9" in capsys.readouterr().out
    sizes, params, _ = weights.load(weights.resolve("digits_unet.safetensors"))
    file = tmp_path / "other.safetensors"
    weights.save(file, jax.tree.map(lambda leaf: 1.1 * leaf, params), sizes, {})
    with pytest.raises(ValueError, match=r"config\.model\.weights=.*perplexity .* but 5\.9588 is known"):
        stages.run(tiny(**{"model.weights": str(file)}), tmp_path / "run", "verify", command="test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.sequence_length": 63}, r"config\.data\.sequence_length=63.*64"),
        ({"data.shape": (1, 4, 16)}, r"config\.data\.shape=\(1, 4, 16\).*\(1, 8, 8\)"),
        ({"data.vocab_size": 16}, r"config\.data\.vocab_size=16"),
        (
            {"data.name": "countdown", "data.shape": (), "evaluation.features": ""},
            r"config\.process\.name='gaussian': is for ordered values",
        ),
        ({"model.weights": "text_teacher.safetensors"}, r"text_teacher.safetensors'.* a ddit network.*unet"),
        ({"model.weights": "missing/unet.pt"}, r"missing/unet.pt'.*no such file"),
        ({"model.weights": "missing.safetensors"}, r"missing.safetensors'.*no such file"),
        (
            {"evaluation.features": "missing.safetensors"},
            r"config\.evaluation\.features='missing.safetensors': no such file",
        ),
        ({"evaluation.features": "text_scorer.safetensors"}, r"config\.evaluation\.features='text_scorer"),
        ({"evaluation.feature_statistics": "none.npz"}, r"feature_statistics='none.npz': no such file"),
        (
            {"evaluation.features": "", "evaluation.feature_statistics": "a.npz"},
            r"feature_statistics='a.npz'.*features",
        ),
        ({"student.coupling.name": "low_discrepancy", "student.order": "auto"}, r"config\.student\.order"),
        ({"student.kernel": "tweedie"}, r"config\.student\.kernel='tweedie': is defined for"),
        ({"training.loss": "score_entropy"}, r"config\.training\.loss='score_entropy'"),
    ],
)
def test_bad_input_is_one_line_before_long_work(changes, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as found:
        stages.run(tiny(**changes), tmp_path / "run", "all", command="test")
    assert "\n" not in str(found.value)


def test_the_full_config_needs_its_files(tmp_path):
    config = cifar10.get_config()
    config.data.path = str(tmp_path / "none.tar.gz")
    with pytest.raises(FileNotFoundError, match="none"):
        stages.run(config, tmp_path / "run", "all", command="test")
    with pytest.raises(ValueError, match="the only variant is 'tiny'"):
        cifar10.get_config("small")


def test_the_shipped_network_denoises_and_its_card_says_how_it_was_made(tmp_path):
    config = tiny()
    task, model = build.task_of(config, judged=False), build.model_of(config, tmp_path)
    x0 = jnp.asarray(task.split("test")[:128], jnp.int32)
    bits = []
    for t in (0.001, 0.2, 0.9):
        x = model.process.corrupt(jax.random.key(0), x0, jnp.float32(t))
        log_posterior = jax.jit(lambda model, x, t: model.log_score(x, t))(model, x, jnp.float32(t))
        bits.append(-float(jnp.take_along_axis(log_posterior, x0[..., None], -1).mean()) / np.log(2))
    assert bits[0] < 1.0 < bits[1] < 2.4 < bits[2] < 3.0  # pixels by themselves have 2.9 bits, given their place
    sizes, _, card = weights.load(weights.resolve("digits_unet.safetensors"))
    assert sizes.shape == (1, 8, 8) and card["process"]["name"] == "gaussian" and "--stage=train" in card["command"]
    assert weights.resolve("digits_unet.safetensors").stat().st_size < 1e6
