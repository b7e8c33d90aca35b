"""Distills few-step students on countdown with its exact denoiser: what is left of the error is the sampler's own.

    python -m lsd_jax.main --config=configs/countdown.py

Hardware and time: 2 CPU cores, 5 to 10 minutes (distilling all four students: 30 s with compilation, without the gradients).
Data: the countdown chain, 32 tokens, 256 per sequence, transitions mixed with 0.3 % of the uniform distribution.
Expect (seed 0; token error of 2,048 samples; the data's own is 0.0028):

    NFE                4       8       16      32      256
    Euler              0.2282  0.1005  0.0455  0.0223  0.0047
    path-KL student    0.0298  0.0030  0.0027  0.0026
"""

from ml_collections import ConfigDict

from lsd_jax.configs.common import base_config


def get_config() -> ConfigDict:
    """Countdown with its exact denoiser."""
    config = base_config()
    config.data.name = "countdown"
    config.data.sequence_length = 256
    config.data.vocab_size = 32
    config.model.name = "oracle"
    config.teacher.steps = 256  # one reveal per step in a low-discrepancy order: sequential, exact
    config.teacher.paths = 128
    config.student.grid_points = 256
    config.evaluation.num_samples = 2048
    config.evaluation.batch_size = 512
    config.evaluation.held_out = 512
    config.evaluation.reference_steps = 256
    return config
