"""RADD (absorbing, no time input, 162 M parameters) under few-step samplers.

    python -m lsd_jax.main --config=configs/radd.py --stage=verify --config.verify.path=wikitext103_test.txt
    python -m lsd_jax.main --config=configs/radd.py
    python -m lsd_jax.main --config=configs/radd.py:tiny      # the same path on tiny random weights, half a minute

Weights: JingyangOu/radd-lambda-dce on the Hugging Face hub, fetched once; without a network name a folder that holds them by
`--config.model.weights=FOLDER`, and others by config.data.tokenizer and config.evaluation.scorer.
Published (Fu et al. 2025, RADD, gen-PPL by GPT-2 large at NFE 8; secondary: taken from a summary, not measured here): Euler 671.0,
LSD+ 89.8. Many steps (theta-trapezoidal paper, another harness, NFE 128/1,024): Euler 86.3/44.7, theta-trapezoidal 49.1/27.6.
Hardware and time: it was not run here. Estimates for the whole command, from operations and bytes alone (python -m
measurements.full_size --estimate), three fifths of it for the 1,024-step reference: A100 2.0, H100 0.8, TPU v4-8 0.6 hours.
`--stage=verify` expects a perplexity of 37.98 on WikiText-103, the paper's zero-shot bound (secondary, from memory: check it there).
Students get their orders and grids (distill.steps=0); `:lsd` after the config's name learns the paper's coefficients by score
alignment instead, a step's scores at a time. effective_transition keeps all teacher scores, 0.2 GB per path and time: not at
this size.
"""

from ml_collections import ConfigDict

from lsd_jax.configs.language import language_config


def get_config(variant: str = "") -> ConfigDict:
    """RADD (absorbing, no time input, 162 M parameters); variant "tiny" runs on random weights."""
    config = language_config("radd", "JingyangOu/radd-lambda-dce", 37.98, "tiny_radd", 15.0556, variant)
    return config
