"""Uniform noise on countdown: what a step gains whose tokens depend on each other, M = 1 to 64, three seeds.

python -m lsd_jax.main --config=configs/ablation_uniform_neighbours.py
"""

from ml_collections import ConfigDict

from configs import ablation_uniform
from configs.ablation_countdown import BASE, EULER, compare
from lsd_jax.ablation import variant

SEQUENCES = 1024  # training sequences that the potentials are fitted on
FIXED = "grid: halving, and potentials"
FREE = "grid: optimal given potentials"


def get_config() -> ConfigDict:
    """Potentials on Tweedie's grid, on that of independent steps, and with a grid of their own."""
    config = ablation_uniform.get_config()
    config.teacher.source = "data"
    compare(config, num_samples=1024, held_out=256)
    config.student.steps = (1, 4, 8, 16, 32, 64)
    config.distill.steps = 0
    few = {"student__steps": (1, 4, 8, 16, 32), "student__neighbours": SEQUENCES}
    config.variants = (
        variant("Euler", **EULER),
        variant("Tweedie", **BASE),
        variant("grid: optimal"),
        variant(FIXED, student__grid="greedy", **few),
        variant(FREE, **few),
    )
    config.figure_variants = ("Euler", "Tweedie", "grid: optimal", FIXED, FREE)
    config.frontier = ConfigDict({"steps": (), "dial": (), "temperatures": ()})
    return config
