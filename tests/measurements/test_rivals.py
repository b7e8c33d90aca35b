"""The search of rivals' settings: what is searched holds what is published, and validation sequences judge."""

import json

import numpy as np

import lsd_jax as lsd
from lsd_jax.samplers.kernels import remdm
from lsd_jax.samplers.kernels.confidence import MASKGIT
from measurements import rivals


def test_published_settings_are_among_the_candidates():
    found = rivals.candidates()
    masked = found["MaskGIT, cosine grid, choice T=4.5"][0]
    assert masked.step.args == MASKGIT.step.args
    assert f"ReMDM rescale, eta={remdm._RESCALE}, top-p 0.9" in found
    assert len(found) == len(rivals.CHOICE_TEMPERATURES) + 2 * len(rivals.ETAS)


def test_real_text_is_nearer_to_validation_than_noise():
    _, task, minimized = rivals.judges(lsd.Absorbing(32, lsd.LogLinear()))["text"]
    real = task.split("train")[:64]
    noise = np.random.default_rng(0).permutation(real.ravel()).reshape(real.shape)
    assert minimized(real) < minimized(noise) - 0.1


def test_a_record_has_every_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(rivals, "CHOICE_TEMPERATURES", (1.0,))
    monkeypatch.setattr(rivals, "ETAS", ())
    judges = rivals.judges
    monkeypatch.setattr(rivals, "judges", lambda process: {"countdown": judges(process)["countdown"]})
    output = tmp_path / "record.json"
    argv = [f"--output={output}", "--steps", "2", "--count=4", "--seeds=2", "--batch_size=4"]
    assert rivals.main(argv) == 0
    (row,) = json.loads(output.read_text())["rows"]
    assert len(row["values"]) == 2 and 0 < row["values"][0] <= 1 and row["values"][0] != row["values"][1]
