"""The uniform process on countdown with its exact denoiser: what a few steps can and cannot learn there.

    python -m lsd_jax.main --config=configs/ablation_uniform.py

Hardware and time: 2 CPU cores, about an hour. It resumes cell by cell; tables and figures go to the run's report/.
Expect (docs/results.md; path KL in nats per sequence, mean of seeds 0 to 2):

    NFE              4       8       16     32     64
    Euler            1049.6  1236.8  874.0  402.5  426.3
    Tweedie          70.65   29.77   14.32  6.62   3.58
    grid: optimal    45.94   19.14   9.05   4.41   2.20
"""

from ml_collections import ConfigDict

from lsd_jax.configs import countdown
from lsd_jax.configs.ablation_countdown import BASE, EULER, FEW, LSD, compare, kl_mix
from lsd_jax.configs.common import variant

SHARES = (0.5, 1.0)


def get_config() -> ConfigDict:
    """Countdown under uniform noise."""
    config = countdown.get_config()
    config.process.name = "uniform"
    config.student.order = "fixed"
    config.student.coupling.name = "iid"
    config.student.grid_points = 128
    config.student.draws = 1
    config.teacher.paths = 64
    compare(config, num_samples=1024, held_out=256)
    config.samplers = (
        variant("Euler", **EULER),
        variant("Tweedie", **BASE),
        *[variant(f"Tweedie, T={t:g}", f"Tweedie T={t:g}", **BASE, student__temperature=t) for t in (0.9, 0.8)],
        variant("LSD (Eq. 6), as printed", "LSD eq. 6, as printed", **LSD, **FEW),
        variant(
            "LSD+ (Eq. 8), summed",
            "LSD+ eq. 8, summed",
            **{**LSD, **FEW, "distill__objective": "effective_transition"},
        ),
        variant("grid: halving (JYS search)", student__grid="halving", distill__steps=0),
        variant("grid: optimal", distill__steps=0),
        variant("grid: optimal, refined", student__refine=True, distill__steps=0),
        variant("grid: optimal, optimized", "grid: optimal, polished", distill__steps=60, distill__draws=2),
        variant(
            "grid: optimal, fresh low-discrepancy shifts", student__coupling__name="low_discrepancy", distill__steps=0
        ),
        *kl_mix(SHARES, steps=60),
    )
    config.report.ours = "grid: optimal"
    config.report.figure_samplers = (
        "Euler",
        "Tweedie",
        "LSD (Eq. 6), as printed",
        "grid: halving (JYS search)",
        "grid: optimal",
    )
    config.report.frontier_mix = ("grid: optimal", *[f"KL mix {p:g}" for p in SHARES])
    config.report.frontier_temperatures = ("Tweedie", "Tweedie, T=0.9", "Tweedie, T=0.8")
    return config
