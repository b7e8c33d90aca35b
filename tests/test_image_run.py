"""The image experiment end to end on digits, and bad input."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cifar10
from lsd_jax import experiment, workflow
from lsd_jax.data import loader
from lsd_jax.models import weights
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


def test_from_network_to_report(tmp_path, capsys):
    # A network of one scale, untrained, compiles in a fraction of the shipped one's time.
    sizes, file = UNetConfig(17, (1, 8, 8), 8, 1, (1,), -1, 8), tmp_path / "unet.safetensors"
    weights.save(file, weights.initial(sizes, jax.random.key(0)), sizes, {})
    changes = {"model.weights": str(file)}
    run = tmp_path / "run"
    workflow.run(tiny(**changes), run, "all", command="test")
    assert "LSD+ student" in capsys.readouterr().out
    rows = {row["cell"]: row for row in json.loads((run / "report" / "metrics.json").read_text())}
    assert set(rows) == {"data", "student_3", "euler_3", "ancestral_3"}
    assert all("digits_features.safetensors" in row["features"] and row["frechet"][0] >= 0 for row in rows.values())
    assert rows["data"]["frechet"][0] < rows["student_3"]["frechet"][0]  # of an untrained network
    page = (run / "report" / "index.html").read_text()
    assert "digits_features.safetensors" in page and (run / "report" / "images.png").stat().st_size > 5_000
    record = json.loads((run / "students" / "M3" / "student.json").read_text())
    assert record["process"] == "gaussian" and record["q_sigma"] == 16.0 and record["kernel"] == "ancestral"
    workflow.sample(
        tiny(**changes), tmp_path, str(run / "students" / "M3" / "student.json"), 3, str(tmp_path / "three.png")
    )
    assert (tmp_path / "three.png").stat().st_size > 1_000
    with pytest.raises(ValueError, match="q_sigma=16.0, this config 17.0"):
        workflow.sample(
            tiny(**changes, **{"process.q_sigma": 17.0}), tmp_path, str(run / "students" / "M3" / "student.json"), 3, ""
        )


def test_verify_knows_the_shipped_network_from_another(tmp_path, capsys):
    workflow.run(cifar10.get_config("tiny"), tmp_path / "run", "verify", command="test")
    assert "verified: perplexity 6.0" in capsys.readouterr().out
    sizes, params, _ = weights.load(weights.resolve("digits_unet.safetensors"))
    file = tmp_path / "other.safetensors"
    weights.save(file, jax.tree.map(lambda leaf: 1.1 * leaf, params), sizes, {})
    with pytest.raises(ValueError, match=r"config\.model\.weights=.*perplexity .* but 6\.069 is known"):
        workflow.run(tiny(**{"model.weights": str(file)}), tmp_path / "run", "verify", command="test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.sequence_length": 63}, r"config\.data\.sequence_length=63: .*shape=\(1, 8, 8\) has 64"),
        ({"data.shape": (1, 4, 16)}, r"config\.data\.shape=\(1, 4, 16\).*\(1, 8, 8\)"),
        ({"data.vocab_size": 16}, r"vocab_size=16: digits has"),
        ({"data.name": "countdown"}, r"config\.model\.name='unet' and .* are for the images"),
        ({"model.weights": "text_teacher.safetensors"}, r"text_teacher.safetensors' are a ddit network; .* unet for"),
        ({"model.weights": "missing/unet.pt"}, r"missing/unet.pt'?: no such file"),
        ({"model.weights": "missing.safetensors"}, r"missing.safetensors'?: no such file"),
        (
            {"evaluation.features": "missing.safetensors"},
            r"config\.evaluation\.features='missing.safetensors': no such file",
        ),
        ({"evaluation.features": "text_scorer.safetensors"}, r"no feature network of ours"),
        ({"evaluation.feature_statistics": "none.npz"}, r"feature_statistics='none.npz': no such file"),
        ({"evaluation.features": "", "evaluation.feature_statistics": "a.npz"}, r"needs config\.evaluation\.features"),
        ({"student.coupling.name": "low_discrepancy", "student.order": "auto"}, r"config\.student\.order"),
        ({"student.kernel": "tweedie"}, r"kernel 'tweedie' is defined for"),
        ({"training.loss": "score_entropy"}, r"config\.training\.loss='score_entropy'"),
    ],
)
def test_bad_input_is_one_line_before_long_work(changes, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as found:
        workflow.run(tiny(**changes), tmp_path / "run", "all", command="test")
    assert "\n" not in str(found.value)


def test_the_full_config_needs_its_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="tauldr"):
        workflow.run(cifar10.get_config(), tmp_path / "run", "all", command="test")
    with pytest.raises(ValueError, match="only :tiny"):
        cifar10.get_config("small")


def test_the_shipped_network_denoises_and_its_card_says_how_it_was_made(tmp_path):
    config = tiny()
    process, model = experiment.process_of(config), experiment.backbone_of(config, tmp_path).model
    x0 = jnp.asarray(loader.load_split(config.data, "test")[:128], jnp.int32)
    bits = []
    for t in (0.001, 0.2, 0.9):
        x = process.corrupt(jax.random.key(0), x0, jnp.float32(t))
        log_posterior = jax.jit(model.apply)(model.params, x, jnp.float32(t))
        bits.append(-float(jnp.take_along_axis(log_posterior, x0[..., None], -1).mean()) / np.log(2))
    assert bits[0] < 1.0 < bits[1] < 2.4 < bits[2] < 3.0  # pixels by themselves have 2.9 bits, given their place
    sizes, _, card = weights.load(weights.resolve("digits_unet.safetensors"))
    assert sizes.shape == (1, 8, 8) and card["process"]["name"] == "gaussian" and "--stage=train" in card["command"]
    assert weights.resolve("digits_unet.safetensors").stat().st_size < 1e6
