"""MDLM (absorbing, SUBS, 170 M parameters) under few-step samplers, scored by MDLM's own convention.

    python -m lsd_jax.main --config=configs/mdlm.py --stage=verify --config.verify.path=wikitext103_test.txt
    python -m lsd_jax.main --config=configs/mdlm.py
    python -m lsd_jax.main --config=configs/mdlm.py:tiny      # the same path on tiny random weights, half a minute

Weights: kuleshov-group/mdlm-owt on the Hugging Face hub, fetched once; without a network name a folder that holds them by
`--config.model.weights=FOLDER`, and others by config.data.tokenizer and config.evaluation.scorer.
Published (ReMDM's harness, float64, 1,024 steps; secondary: not measured here): gen-PPL 51.3 at entropy 5.46 nats, MAUVE 0.042; other
papers have 38.5 and 41.3 for the same network: never compare across them.
Hardware and time: it was not run here. Estimates for the whole command, from operations and bytes alone (python -m
measurements.full_size --estimate), three fifths of it for the 1,024-step reference: A100 2.0, H100 0.8, TPU v4-8 0.6 hours.
`--stage=verify` expects a perplexity of 32.83 on WikiText-103, the paper's zero-shot bound (secondary, from memory: check it there).
Students get their orders and grids (distill.steps=0); `:lsd` after the config's name learns the paper's coefficients by score
alignment instead, a step's scores at a time. effective_transition keeps all teacher scores, 0.2 GB per path and time: not at
this size.
"""

from ml_collections import ConfigDict

from lsd_jax.configs.language import language_config


def get_config(variant: str = "") -> ConfigDict:
    """MDLM (absorbing, SUBS, 170 M parameters); variant "tiny" runs on random weights."""
    config = language_config("mdlm", "kuleshov-group/mdlm-owt", 32.83, "tiny_mdlm", 16.1916, variant)
    config.evaluation.protocol = "mdlm"
    return config
