import os
import signal

import grain
import jax
import numpy as np
import pytest

from lsd_jax.checkpoints import STOPPED
from lsd_jax.models.ddit import DDiTConfig
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.noise import Exponential, LogLinear
from lsd_jax.processes.process import make_process
from lsd_jax.training import train as training
from lsd_jax.training.train import TrainingSettings

SETTINGS = {
    "steps": 6,
    "batch_size": 16,
    "microbatch": 1,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "decay_share": 0.3,
    "weight_decay": 0.1,
    "ema_decay": 0.99,
    "checkpoint_every": 100,
    "validate_every": 100,
    "validation_sequences": 32,
}
S, LENGTH = 8, 16


def countdown(count: int) -> np.ndarray:
    """Sequences that count down to 0 and start again anywhere."""
    rng = np.random.default_rng(0)
    rows = np.zeros((count, LENGTH), np.int32)
    for i in range(LENGTH):
        anywhere = rng.integers(0, S, count)
        rows[:, i] = anywhere if i == 0 else np.where(rows[:, i - 1] == 0, anywhere, rows[:, i - 1] - 1)
    return rows


ROWS = countdown(512)


def run(folder, process="absorbing", **changes):
    settings = TrainingSettings(**{**SETTINGS, **changes})
    causal = settings.loss == "autoregressive"
    sizes = DDiTConfig(S, 16, 1, 2, time_conditioned=settings.loss == "score_entropy", causal=causal)
    dataset = grain.MapDataset.source(ROWS[:448]).seed(0).shuffle().repeat().batch(settings.batch_size)
    noising = make_process(process, S, LogLinear())
    return training.train(settings, sizes, noising, iter(dataset.to_iter_dataset()), ROWS[448:], folder, seed=0)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path, monkeypatch, capsys):
    straight, _ = run(tmp_path / "straight")
    real_step = training.parallel.shard_batch
    calls = []

    def killed(batch, mesh):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return real_step(batch, mesh)

    monkeypatch.setattr(training.parallel, "shard_batch", killed)
    with pytest.raises(SystemExit, match=f"^{STOPPED}$"):
        run(tmp_path / "killed")
    assert capsys.readouterr().err.endswith("stopped at step 4; run the same command again to go on\n")
    monkeypatch.setattr(training.parallel, "shard_batch", real_step)
    resumed, _ = run(tmp_path / "killed")
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)


@pytest.mark.parametrize(
    ("loss", "process"),
    [
        pytest.param("score_entropy", "absorbing", marks=pytest.mark.slow),
        pytest.param("autoregressive", "absorbing", marks=pytest.mark.slow),
        pytest.param("denoising", "uniform", marks=pytest.mark.slow),
    ],
)
def test_other_losses_learn(tmp_path, loss, process):
    _, before = run(tmp_path / "a", process, loss=loss, steps=1, warmup_steps=0, learning_rate=1e-6)
    _, after = run(tmp_path / "b", process, loss=loss, steps=40, learning_rate=1e-2, ema_decay=0.5)
    assert after["validation_bits"] < before["validation_bits"] - 0.1


def test_impossible_settings_are_told(tmp_path):
    with pytest.raises(ValueError, match="^batch_size=12: must be divisible by microbatch=1 times 8 devices"):
        run(tmp_path, batch_size=12)
    with pytest.raises(ValueError, match="^loss='mse': choose one of"):
        run(tmp_path, loss="mse")
    with pytest.raises(ValueError, match="^loss='score_entropy': the gaussian process trains by 'denoising'"):
        training.SequenceLoss("score_entropy", None, DiscretizedGaussian(S, Exponential()))


def test_training_that_diverges_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"^learning_rate=1e\+30: too large; the loss is nan at step \d"):
        run(tmp_path / "a", learning_rate=1e30, checkpoint_every=1, warmup_steps=0)
    kept = sorted(int(step.name) for step in (tmp_path / "a" / "checkpoints").iterdir() if step.name.isdigit())
    assert kept and kept[-1] < 6


def test_a_parameter_that_is_no_number_reaches_no_checkpoint():
    """A loss is that of the parameters before its step."""
    largest = training._largest({"a": np.ones(3), "b": np.array([1.0, -np.inf])})
    with pytest.raises(ValueError, match=r"^learning_rate=0\.002: too large; the largest parameter is inf at step 7"):
        training._check_finite("largest parameter", largest, TrainingSettings(), 7)
    training._check_finite("largest parameter", training._largest({"a": -np.ones(3)}), TrainingSettings(), 7)
