"""Duo, or Duo-distilled (uniform process, 170 M parameters), under few-step samplers, scored by MDLM's convention, which Duo uses.

    python -m lsd_jax.main --config=configs/duo.py --stage=verify --config.verify.path=wikitext103_test.txt
    python -m lsd_jax.main --config=configs/duo.py
    python -m lsd_jax.main --config=configs/duo.py:distilled # on top of a network that was distilled to few steps already
    python -m lsd_jax.main --config=configs/duo.py:tiny      # the same path on tiny random weights, half a minute

Weights: s-sahoo/duo on the Hugging Face hub, and s-sahoo/duo-distilled for `:distilled`, fetched once; without a network name a
folder that holds them, or its authors' duo.ckpt or duo-distilled.ckpt, by `--config.model.weights=PATH`, and others by
config.data.tokenizer and config.evaluation.scorer.
`:distilled` is Duo after Discrete Consistency Distillation (Sahoo et al. 2025, arXiv 2506.10892): the same shape and time input,
so it is read by the same code. We know of no published number for a learned sampler on top of it, and have not measured one. The
teacher is the distilled network with 1,024 steps; its own samplers are ancestral, with an argmax at the end ("greedy tail").
Published numbers of these samplers on this network: we know of none. Positions jump many times, so nothing is revealed and no order
is learned: grids only, and Tweedie and Euler differ. Conversions pass the logits more often than the estimate counts.
Hardware and time: it was not run here. Estimates for the whole command, from operations and bytes alone (python -m
measurements.full_size --estimate), three fifths of it for the 1,024-step reference: A100 2.0, H100 0.8, TPU v4-8 0.6 hours.
`--stage=verify` expects a perplexity of 33.57 on WikiText-103, the paper's zero-shot bound (secondary, from memory: check it there);
for `:distilled` we know of no published one, and config.verify.perplexity has to be given.
Students get their orders and grids (distill.steps=0); `:lsd` after the config's name learns the paper's coefficients by score
alignment instead, a step's scores at a time. effective_transition keeps all teacher scores, 0.2 GB per path and time: not at
this size.
"""

from ml_collections import ConfigDict

from lsd_jax.configs.language import VARIANTS, language_config


def get_config(variant: str = "") -> ConfigDict:
    """Duo (uniform process, 170 M parameters); "distilled" is Duo-distilled, "tiny" runs on random weights."""
    variants = (*VARIANTS, "distilled")
    weights, known = ("s-sahoo/duo-distilled", 0.0) if variant == "distilled" else ("s-sahoo/duo", 33.57)
    config = language_config("duo", weights, known, "tiny_duo", 28.4347, variant, "uniform", variants)
    config.evaluation.protocol = "mdlm"
    return config
