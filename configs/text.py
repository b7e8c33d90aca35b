"""Distills few-step students for a small text diffusion model that ships with the repository, and compares samplers.

    python -m lsd_jax.main --config=configs/text.py

Hardware and time: 2 CPU cores, 9 minutes (distilling: 79 s).
Data: characters of the State of the Union addresses, 128 per sequence; test split for every number, training text for orders
and grids.
Expect (seed 0; M-step ELBO on held-out text, bits per character; the continuous-time ELBO in random order is 2.124):

    NFE                4      8      16     32     128
    Euler              2.578  2.346  2.249  2.184  2.135
    path-KL student    2.259  2.122  2.076  2.063

The teacher was trained in 1.1 hours on 2 CPU cores to a validation ELBO of 2.095 +- 0.020 bits per character by

    python -m lsd_jax.main --config=configs/text.py --stage=train --workdir=runs/teacher --config.model.weights=

and the scorer as lsd_jax/shipped/weights/README.md says.
"""

from ml_collections import ConfigDict

from configs.common import base_config


def get_config() -> ConfigDict:
    """The main job."""
    config = base_config()
    config.cpu_devices = 2
    config.model.weights = "text_teacher.safetensors"
    config.teacher.source = "data"
    config.teacher.steps = 128  # one reveal per step in a low-discrepancy order: sequential
    config.student.grid_points = 64
    config.evaluation.held_out, config.evaluation.weighted = 128, 24
    config.evaluation.scorer = "text_scorer.safetensors"
    return config
