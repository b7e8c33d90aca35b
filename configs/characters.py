"""Distills few-step students for a small diffusion model of characters that ships with the repository, and compares samplers.

    python -m lsd_jax.main --config=configs/characters.py

Hardware and time: 2 CPU cores, 10 to 45 minutes (it makes some 200,000 network evaluations of one sequence; machines made 300, 150 and
130 per second).
Data: characters of the State of the Union addresses, 128 per sequence; test split for every number, training text for orders
and grids.
Expect (seed 0; -log p of 24 held-out sequences, bits per character; exact for students, at most for Euler; docs/results/main.md):

    NFE                4      8      16     32
    Euler              2.440  2.230  2.137  2.092
    path-KL student    2.180  2.034  2.008  2.006

The teacher was trained in 1.1 hours on 2 CPU cores to a validation ELBO of 2.095 +- 0.020 bits per character by

    python -m lsd_jax.main --config=configs/characters.py --stage=train --workdir=runs/teacher --config.model.weights=

and the scorer as lsd_jax/shipped/weights/README.md says.
"""

from ml_collections import ConfigDict

from lsd_jax.configs.common import base_config


def get_config() -> ConfigDict:
    """Text in characters."""
    config = base_config()
    config.cpu_devices = 2
    config.model.weights = "text_teacher.safetensors"
    config.teacher.source = "data"
    config.teacher.steps = 128  # one reveal per step in a low-discrepancy order: sequential
    config.student.grid_points = 64
    config.evaluation.held_out, config.evaluation.weighted = 128, 12
    config.evaluation.scorer = "text_scorer.safetensors"
    return config
