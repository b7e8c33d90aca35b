"""Distills few-step students for a text diffusion model that ships with the repository, and compares samplers.

    python -m lsd_jax.main --config=configs/text.py
    python -m lsd_jax.main --config=configs/text.py:tiny     # the same path in two minutes
    python -m lsd_jax.main --config=configs/text.py:full     # more samplers and steps; not run to its end

Data: the State of the Union addresses in 1,024 byte-pair tokens, 128 per sequence, which are some 440 characters; the splits of
configs/characters.py: test blocks for every number, training text for orders and grids. The network was trained on a GPU
(lsd_jax/shipped/weights/README.md); its ELBO is 4.60 bits per token of the validation split, 1.33 bits per character.
Hardware and time: 2 CPU cores, 3 to 8 minutes by machine; 5 to 13 minutes of CPU time.
Expect (seed 0; -log p of 6 test sequences, bits per token, exact for students, at most for the others; docs/results/text.md has 128
sequences and every sampler):

    NFE                          4      8      16
    path-KL student              4.543  4.486  4.375
    golden order, cosine grid    4.777  4.502  4.458
    Euler                        5.202  4.805  4.605
"""

from ml_collections import ConfigDict

from lsd_jax.configs.benchmark import PLAIN, UNTUNED
from lsd_jax.configs.common import base_config, variant

OURS = "path-KL student"
SAMPLERS = {
    "golden order, cosine grid": {**UNTUNED, "student__grid": "cosine"},
    "Euler": {"student__kernel": "euler"},
    "one token at a time (exact)": {"student__kernel": "first_hitting"},
}
MORE = {
    "Euler, T=0.8": {"student__kernel": "euler", "student__temperature": 0.8},
    "Euler, T=0.9": {"student__kernel": "euler", "student__temperature": 0.9},
    "MaskGIT, cosine grid, choice T=1": {"student__kernel": "maskgit_cool", "student__grid": "cosine"},
    "ReMDM conf, top-p 0.9": {"student__kernel": "remdm_conf", "student__top_p": 0.9},
    "top-k margin": {"student__kernel": "margin"},
    "entropy bound": {"student__kernel": "eb"},
}


def get_config(variant_name: str = "") -> ConfigDict:
    """The main job; "tiny" is two minutes of it, "full" has more of everything.

    Raises:
        ValueError: another variant.
    """
    if variant_name not in ("", "tiny", "full"):
        raise ValueError("the variants are 'tiny' and 'full'")
    config = base_config()
    config.cpu_devices = 2
    config.data.name, config.data.vocab_size, config.data.sequence_length = "subwords", 1024, 128
    config.model.weights, config.evaluation.scorer = "subwords_teacher.safetensors", "subwords_scorer.safetensors"
    config.model.dim, config.model.depth, config.model.heads = 256, 6, 4
    config.teacher.source, config.teacher.steps, config.teacher.paths = "data", 128, 32
    config.student.steps, config.student.grid_points = (4, 8, 16), 48
    config.distill.steps = 0
    config.evaluation.num_samples, config.evaluation.batch_size = 24, 12
    config.evaluation.held_out, config.evaluation.weighted, config.evaluation.paths = 12, 6, 8
    config.report.ours = OURS
    samplers = SAMPLERS | MORE if variant_name == "full" else SAMPLERS
    config.samplers = (variant(OURS), *[variant(name, **{**PLAIN, **samplers[name]}) for name in samplers])
    if variant_name == "tiny":
        _tiny(config)
    elif variant_name == "full":
        _full(config)
    return config


def _tiny(config: ConfigDict) -> None:
    """The same path on few sequences."""
    config.teacher.paths, config.student.grid_points, config.student.steps = 4, 8, (4,)
    config.evaluation.num_samples = config.evaluation.batch_size = 8
    config.evaluation.held_out, config.evaluation.weighted, config.evaluation.paths = 4, 2, 2
    config.samplers = tuple(entry for entry in config.samplers if entry[0] in (OURS, "Euler"))


def _full(config: ConfigDict) -> None:
    """Enough sequences to tell samplers apart."""
    config.student.steps = (4, 8, 16, 32)
    config.teacher.paths = 128
    config.evaluation.num_samples, config.evaluation.batch_size = 512, 64
    config.evaluation.held_out, config.evaluation.weighted, config.evaluation.paths = 128, 64, 32
