"""SEDD-small (absorbing, 170 M parameters) under few-step samplers: the main experiment of the LSD paper.

    python -m lsd_jax.main --config=configs/sedd_small.py --stage=verify --config.verify.path=wikitext103_test.txt
    python -m lsd_jax.main --config=configs/sedd_small.py
    python -m lsd_jax.main --config=configs/sedd_small.py:tiny      # the same path on tiny random weights, half a minute

Weights: louaaron/sedd-small on the Hugging Face hub, fetched once; without a network name a folder that holds them by
`--config.model.weights=FOLDER`, and others by config.data.tokenizer and config.evaluation.scorer.
Published (Fu et al. 2025, SEDD-small, gen-PPL by GPT-2 large on 1,024 samples of 1,024 tokens; secondary: taken from a summary of
the paper, not measured here; no entropy is reported):

    NFE             8      16     32     64
    Euler           423.1  215.5  72.8   56.2
    Tweedie         404.9  177.5  64.3   50.2
    JYS-Euler       308.1  125.3  55.8   32.9
    LSD+-Euler      128.4   51.8  36.8   20.7
    LSD+-Tweedie    137.9   61.0  38.2   20.5

Another harness (ReMDM, its own conventions) has 104.7 at entropy 5.62 nats for 1,024 steps.
Hardware and time: it was not run here. Estimates for the whole command, from operations and bytes alone (python -m
measurements.full_size --estimate), three fifths of it for the 1,024-step reference: A100 2.0, H100 0.8, TPU v4-8 0.6 hours.
`--stage=verify` expects a perplexity of 40.62 on WikiText-103, the paper's zero-shot bound (secondary, from memory: check it there).
Students get their orders and grids (distill.steps=0); `:lsd` after the config's name learns the paper's coefficients by score
alignment instead, a step's scores at a time. effective_transition keeps all teacher scores, 0.2 GB per path and time: not at
this size.
"""

from ml_collections import ConfigDict

from lsd_jax.configs.language import language_config


def get_config(variant: str = "") -> ConfigDict:
    """SEDD-small (absorbing, 170 M parameters); variant "tiny" runs on random weights."""
    config = language_config("sedd", "louaaron/sedd-small", 40.62, "tiny_sedd_absorb", 12.3605, variant)
    return config
