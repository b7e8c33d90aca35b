"""Text: what pair potentials between tokens revealed together add to the chosen order, M = 4 to 16, three seeds.

    python -m lsd_jax.main --config=configs/ablation_potentials.py

Hardware and time: 2 CPU cores, 21 minutes beside another run. Tables are fitted on training text, every figure is of the
test split.
Expect (docs/results.md; nats per sequence above the continuous-time ELBO, mean of seeds 0 to 2, 128 test sequences):

    NFE                                              4     8     16
    Euler                                            43.3  21.7  11.7
    order: chosen                                    13.1  0.4   -2.5
    order and potentials: chosen, 64 sequences       12.8  0.5   -2.1
    order and potentials: chosen, 2048 sequences     7.8   0.4   -2.2
"""

from ml_collections import ConfigDict

from lsd_jax.configs import characters
from lsd_jax.configs.ablation_countdown import EULER, FEW, OURS, compare
from lsd_jax.configs.common import variant

SEQUENCES = (64, 2048)  # training sequences that the potentials are fitted on
TEMPERATURES = (0.9, 0.8)


def get_config() -> ConfigDict:
    """Potentials on and off, beside Euler and its temperature sweep."""
    config = characters.get_config()
    compare(config, num_samples=128, held_out=128)
    config.samplers = (
        variant("Euler", **EULER, **FEW),
        *[variant(f"Euler, T={t:g}", f"Euler T={t:g}", **EULER, **FEW, student__temperature=t) for t in TEMPERATURES],
        variant("order: chosen", **FEW, **OURS),
        *[
            variant(
                f"order and potentials: chosen, {n} sequences",
                f"order and neighbours: chosen, {n} sequences",
                **FEW,
                **OURS,
                student__potentials=n,
            )
            for n in SEQUENCES
        ],
    )
    config.report.ours = f"order and potentials: chosen, {SEQUENCES[-1]} sequences"
    config.report.figure_samplers = ("Euler", "order: chosen", config.report.ours)
    config.report.frontier_temperatures = ("Euler", *[f"Euler, T={t:g}" for t in TEMPERATURES])
    return config
