"""Every component on and off on countdown with its exact denoiser: M = 4 to 64, three seeds.

    python -m lsd_jax.main --config=configs/ablation_countdown.py

Hardware and time: 2 CPU cores, about 50 minutes. It resumes cell by cell; tables and figures go to the run's report/.
Expect (docs/results.md; token error, mean of seeds 0 to 2; the data's own is 0.0028):

    NFE                                   4       8       16      32      64
    Euler                                 0.2260  0.1011  0.0460  0.0222  0.0118
    LSD (Eq. 6), as printed               0.1628  0.0942  0.0587  0.0409  0.0307
    optimal grid, random order            0.0960  0.0383  0.0185  0.0101  0.0065
    order: chosen, optimal grid (ours)    0.0295  0.0029  0.0030  0.0028  0.0030
    KL mix 0.9                            0.0087  0.0027  0.0029
"""

from ml_collections import ConfigDict

from lsd_jax.configs import countdown
from lsd_jax.configs.common import variant

TEMPERATURES = (0.9, 0.8, 0.7, 0.5)
SHARES = (0.5, 0.9, 1.0)
RADII = (0.0, 0.01, 0.05, 0.10, 0.20)

BASE = {"student__order": "fixed", "student__grid": "uniform", "student__coupling__name": "iid", "distill__steps": 0}
EULER = {**BASE, "student__kernel": "euler"}
# The paper's own: coefficients on Euler's uniform grid, student and teacher with noise of their own.
LSD = {
    **EULER,
    "distill__steps": 100,
    "distill__learning_rate": 0.1,
    "distill__objective": "score_alignment",
    "distill__alignment__noise": "independent",
}
SHARED = {**LSD, "student__coupling__name": "shared", "distill__alignment__noise": "shared"}
DILATED = {**BASE, "student__coupling__name": "low_discrepancy", "student__coupling__generator": "van_der_corput"}
OURS = {"distill__steps": 0}
FEW = {"student__steps": (4, 8, 16)}  # what costs most, or matters least where steps are many


def kl_mix(shares: tuple[float, ...], steps: int) -> list[tuple]:
    """The forward-reverse KL mix at several shares, from diverse to precise."""
    settings = {**FEW, "distill__objective": "kl_mix", "distill__learning_rate": 0.03, "distill__steps": steps}
    return [variant(f"KL mix {p:g}", f"dial {p:g}", **settings, distill__reverse_share=p) for p in shares]


def compare(config: ConfigDict, num_samples: int, held_out: int) -> None:
    """What every ablation measures: M = 4 to 64, three seeds, intervals over seeds instead of within one."""
    config.student.steps = (4, 8, 16, 32, 64)
    config.seeds = (0, 1, 2)
    config.evaluation.update({"num_samples": num_samples, "held_out": held_out, "resamples": 0})
    config.stream = "{slug}_M{steps}_seed{seed}"
    config.report.ours = "order: chosen, optimal grid"
    config.report.frontier_steps = (4, 8)


def variants() -> tuple:
    """What is compared; ours last."""
    return (
        variant("Euler", **EULER),
        variant("Tweedie", **BASE),
        *[variant(f"Euler, T={t:g}", f"Euler T={t:g}", **EULER, **FEW, student__temperature=t) for t in TEMPERATURES],
        variant("LSD (Eq. 6), as printed", "LSD eq. 6, as printed", **LSD),
        variant("LSD (Eq. 6), KL", "LSD eq. 6, KL", **LSD, **FEW, distill__alignment__distance="kl"),
        variant(
            "LSD (Eq. 6), coefficient on the log-score",
            "LSD eq. 6, coefficient on the log-score",
            **LSD,
            **FEW,
            student__coefficient="log_score",
        ),
        *[
            variant(
                f"LSD (Eq. 6), shared noise, zeta={z:g}",
                f"LSD eq. 6, shared noise, zeta={z:g}",
                **SHARED,
                **FEW,
                distill__alignment__radius=z,
            )
            for z in RADII
        ],
        variant(
            "LSD (Eq. 6), shared noise, unrolled",
            "LSD eq. 6, shared noise, unrolled",
            **SHARED,
            **FEW,
            distill__alignment__gradient="unrolled",
        ),
        variant(
            "LSD+ (Eq. 8), as printed",
            "LSD+ eq. 8, as printed",
            **{**SHARED, **FEW, "distill__objective": "effective_transition"},
            distill__alignment__literal=True,
        ),
        variant(
            "LSD+ (Eq. 8), summed",
            "LSD+ eq. 8, summed",
            **{**SHARED, "distill__objective": "effective_transition"},
        ),
        variant("grid: information profile (Lavenant, Zanella)", **{**BASE, "student__grid": "profile"}),
        variant("grid: halving (JYS search)", **{**BASE, "student__grid": "halving"}),
        variant("grid: optimal, random order (Chen et al.)", **{**BASE, "student__grid": "optimal"}),
        variant("order: dilated (van der Corput), uniform grid", **DILATED),
        variant("order: golden, uniform grid", **{**BASE, "student__coupling__name": "low_discrepancy"}),
        variant("order: golden, optimal grid", student__order="fixed", **OURS),
        variant("order: chosen, optimal grid", **OURS),
        variant("order: chosen, optimized", "order: chosen, polished", distill__steps=60, distill__draws=2),
        variant("order: learned", **FEW, student__order="learned", student__draws=4, **OURS),
        *kl_mix(SHARES, steps=100),
    )


def get_config() -> ConfigDict:
    """Countdown, all components."""
    config = countdown.get_config()
    compare(config, num_samples=1024, held_out=256)
    config.samplers = variants()
    config.report.figure_samplers = (
        *("Euler", "LSD (Eq. 6), as printed", "LSD+ (Eq. 8), summed", "grid: optimal, random order (Chen et al.)"),
        *("order: golden, uniform grid", "order: chosen, optimal grid"),
    )
    config.report.frontier_mix = ("order: chosen, optimal grid", *[f"KL mix {p:g}" for p in SHARES])
    config.report.frontier_temperatures = ("Euler", *[f"Euler, T={t:g}" for t in TEMPERATURES])
    return config
