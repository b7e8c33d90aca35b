"""Distills few-step students for a diffusion model of text in byte-pair tokens, and compares samplers.

    python -m lsd_jax.main --config=configs/subwords.py
    python -m lsd_jax.main --config=configs/subwords.py:tiny     # the same path in two minutes

Data: the State of the Union addresses in 1,024 byte-pair tokens, 128 per sequence, which are some 443 characters; the character
task's splits (configs/text.py): test blocks for every number, training text for orders and grids. The network was trained on a GPU
(lsd_jax/shipped/weights/README.md); its bound is 4.60 bits per token of the validation split, 1.33 bits per character.
Hardware and time: 2 CPU cores. The study has not been run to its end yet.
"""

from ml_collections import ConfigDict

from lsd_jax.configs.benchmark import PLAIN, UNTUNED
from lsd_jax.configs.common import base_config, variant

OURS = "path-KL student"
SAMPLERS = {
    "golden order, cosine grid": {**UNTUNED, "student__grid": "cosine"},
    "Euler": {"student__kernel": "euler"},
    "Euler, T=0.8": {"student__kernel": "euler", "student__temperature": 0.8},
    "MaskGIT, cosine grid, choice T=1": {"student__kernel": "maskgit_cool", "student__grid": "cosine"},
    "top-k margin": {"student__kernel": "margin"},
    "one token at a time (exact)": {"student__kernel": "first_hitting"},
}


def get_config(variant_name: str = "") -> ConfigDict:
    """The study; "tiny" is two minutes of it.

    Raises:
        ValueError: another variant.
    """
    if variant_name not in ("", "tiny"):
        raise ValueError("the only variant is 'tiny'")
    config = base_config()
    config.cpu_devices = 2
    config.data.name, config.data.vocab_size, config.data.sequence_length = "subwords", 1024, 128
    config.model.weights, config.evaluation.scorer = "subwords_teacher.safetensors", "subwords_scorer.safetensors"
    config.model.dim, config.model.depth, config.model.heads = 256, 6, 4
    config.teacher.source, config.teacher.steps, config.teacher.paths = "data", 128, 32
    config.student.steps, config.student.grid_points = (4, 8, 16, 32), 48
    config.distill.steps = 0
    config.evaluation.num_samples, config.evaluation.batch_size = 64, 16
    config.evaluation.held_out, config.evaluation.weighted, config.evaluation.paths = 32, 12, 8
    config.samplers = (
        variant(OURS),
        *[variant(name, **{**PLAIN, **changes}) for name, changes in SAMPLERS.items()],
    )
    config.report.ours = OURS
    return _tiny(config) if variant_name else config


def _tiny(config: ConfigDict) -> ConfigDict:
    """The same path on few sequences."""
    config.teacher.paths, config.student.grid_points, config.student.steps = 4, 8, (4,)
    config.evaluation.num_samples = config.evaluation.batch_size = 8
    config.evaluation.held_out, config.evaluation.weighted, config.evaluation.paths = 4, 2, 2
    config.samplers = tuple(entry for entry in config.samplers if entry[0] in (OURS, "Euler"))
    return config
