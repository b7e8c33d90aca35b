"""Uniform noise on countdown: what a step gains whose tokens depend on each other, M = 1 to 64, three seeds.

    python -m lsd_jax.main --config=configs/ablation_uniform_potentials.py

Hardware and time: 2 CPU cores, 34 minutes beside other work. The control without a network: python -m measurements.bigram
Expect (docs/results.md; path KL in nats per sequence, mean of seeds 0 to 2; the control has 0.32 at 0 NFE):

    NFE                               1       4      8      16     32    64
    Tweedie                           782.43  70.65  29.77  14.32  6.62  3.58
    grid: optimal                     782.33  45.94  19.92  9.40   4.35  2.29
    grid: halving, and potentials     0.38    35.26  17.74  8.65   4.37
    grid: optimal given potentials    0.38    0.45   0.44   0.44   0.56
"""

from ml_collections import ConfigDict

from lsd_jax.configs import ablation_uniform
from lsd_jax.configs.ablation_countdown import BASE, EULER, compare
from lsd_jax.configs.common import variant

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
    few = {"student__steps": (1, 4, 8, 16, 32), "student__potentials": SEQUENCES}
    config.samplers = (
        variant("Euler", **EULER),
        variant("Tweedie", **BASE),
        variant("grid: optimal"),
        variant(FIXED, student__grid="halving", **few),
        variant(FREE, **few),
    )
    config.report.ours = FREE
    config.report.figure_samplers = ("Euler", "Tweedie", "grid: optimal", FIXED, FREE)
    config.report.frontier_steps = config.report.frontier_mix = config.report.frontier_temperatures = ()
    return config
