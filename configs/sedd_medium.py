"""SEDD-medium (absorbing, 424 M parameters) under few-step samplers.

    python -m lsd_jax.main --config=configs/sedd_medium.py --stage=verify --config.verify.path=wikitext103_test.txt
    python -m lsd_jax.main --config=configs/sedd_medium.py
    python -m lsd_jax.main --config=configs/sedd_medium.py:tiny      # the same path on tiny random weights, half a minute

Weights: louaaron/sedd-medium on the Hugging Face hub, fetched once; without a network name a folder that holds them by
`--config.model.weights=FOLDER`, and others by config.data.tokenizer and config.evaluation.scorer.
Published numbers of few-step samplers on this network: we know of none; configs/sedd_small.py has the small one's.
Hardware and time: it was not run here. Estimates for the whole command, from operations and bytes alone (python -m
measurements.full_size --estimate), three fifths of it for the 1,024-step reference: A100 4.1, H100 1.4, TPU v4-8 1.2 hours.
`--stage=verify` expects a perplexity of 29.98 on WikiText-103, the paper's zero-shot bound (secondary, from memory: check it there).
Students get their orders and grids (distill.steps=0); `:lsd` after the config's name learns the paper's coefficients by score
alignment instead, a step's scores at a time. effective_transition keeps all teacher scores, 0.2 GB per path and time: not at
this size.
"""

from ml_collections import ConfigDict

from lsd_jax.configs.language import language_config


def get_config(variant: str = "") -> ConfigDict:
    """SEDD-medium (absorbing, 424 M parameters); variant "tiny" runs on random weights."""
    config = language_config("sedd", "louaaron/sedd-medium", 29.98, "tiny_sedd_absorb", 12.3605, variant)
    return config
