"""The components that matter on text, with the shipped network: M = 4 to 64, three seeds.

    python -m lsd_jax.main --config=configs/ablation_text.py

Hardware and time: 2 CPU cores, about 50 minutes per seed beside another run; the KL mix and the "LSD" rows take most of it. Orders,
grids and numbers are fitted on training text, every figure is of the test split.
Expect (docs/results.md; nats per sequence above the continuous-time ELBO, mean of seeds 0 to 2, 128 test sequences):

    NFE                                   4     8     16    32    64
    Euler                                 42.9  21.3  11.3  6.1   3.5
    optimal grid, random order            41.8  22.3  11.9  6.9   3.2
    order: golden, optimal grid           15.6  3.3   1.7   1.8   1.6
    order: chosen, optimal grid (ours)    12.5  0.3   -2.9  -4.5  -4.9
"""

from ml_collections import ConfigDict

from lsd_jax.configs import characters
from lsd_jax.configs.ablation_countdown import BASE, DILATED, EULER, FEW, LSD, OURS, SHARED, compare, kl_mix
from lsd_jax.configs.common import variant

TEMPERATURES = (0.9, 0.8, 0.7)
SHARES = (0.5, 1.0)


def get_config() -> ConfigDict:
    """Text, main components."""
    config = characters.get_config()
    compare(config, num_samples=128, held_out=128)
    config.samplers = (
        variant("Euler", **EULER),
        *[variant(f"Euler, T={t:g}", f"Euler T={t:g}", **EULER, **FEW, student__temperature=t) for t in TEMPERATURES],
        variant("LSD (Eq. 6), as printed", "LSD eq. 6, as printed", **LSD, **FEW, teacher__source="samples"),
        variant(
            "LSD+ (Eq. 8), summed",
            "LSD+ eq. 8, summed",
            **{**SHARED, **FEW, "distill__objective": "effective_transition"},
            teacher__source="samples",
        ),
        variant("grid: optimal, random order (Chen et al.)", **{**BASE, "student__grid": "optimal"}),
        variant("order: dilated (van der Corput), uniform grid", **DILATED),
        variant("order: golden, uniform grid", **{**BASE, "student__coupling__name": "low_discrepancy"}),
        variant("order: golden, optimal grid", student__order="fixed", **OURS),
        variant("order: chosen, optimal grid", **OURS),
        variant("order: chosen, optimized", "order: chosen, polished", distill__steps=60, distill__draws=2),
        *kl_mix(SHARES, steps=60),
    )
    config.report.figure_samplers = (
        *("Euler", "LSD (Eq. 6), as printed", "LSD+ (Eq. 8), summed", "grid: optimal, random order (Chen et al.)"),
        *("order: golden, optimal grid", "order: chosen, optimal grid"),
    )
    config.report.frontier_mix = ("order: chosen, optimal grid", *[f"KL mix {p:g}" for p in SHARES])
    config.report.frontier_temperatures = ("Euler", *[f"Euler, T={t:g}" for t in TEMPERATURES])
    return config
