"""Samplers whose number of network evaluations depends on the sequence, on text, at an equal mean of 8 and of 16.

    python -m lsd_jax.main --config=configs/adaptive.py

The thresholds are fitted so that a sequence takes 8, or 16, evaluations on average; it may take four times as many. -log p of the
adaptive samplers, of "top-k margin" and of our student is exact, that of the untuned orders an upper bound.
Hardware and time: 2 CPU cores, 20 minutes for 8 evaluations.
Expect (seed 0, 8 evaluations; -log p of 24 held-out sequences, nats; docs/results/adaptive.md):

    path-KL student 180.5, dilated order 184.1, golden order 184.6, Tweedie 196.7 (the last three at most)
    top-k margin 233.4, entropy bound 248.8, confidence threshold 270.3
"""

from ml_collections import ConfigDict

from lsd_jax.configs import characters
from lsd_jax.configs.benchmark import OURS, PLAIN, SAMPLERS
from lsd_jax.configs.common import variant

NAMES = (
    "Tweedie",
    "golden order, uniform grid",
    "dilated order, uniform grid",
    "MaskGIT, cosine grid, choice T=1",
    "top-k margin",
    "entropy bound",
    "confidence threshold",
    "KLASS",
)


def get_config() -> ConfigDict:
    """Adaptive samplers on text."""
    config = characters.get_config()
    config.distill.steps = 0
    config.nfe = (8, 16)
    config.samplers = (
        variant(OURS),
        *[variant(name, **{**PLAIN, **SAMPLERS[name]}) for name in NAMES],
    )
    config.evaluation.held_out, config.evaluation.weighted = 64, 24
    config.report.ours = OURS
    return config
