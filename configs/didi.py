"""DiDi-Instruct (MDLM distilled to few steps, absorbing, 170 M parameters) under few-step samplers, scored by MDLM's convention.

    python -m lsd_jax.main --config=configs/didi.py
    python -m lsd_jax.main --config=configs/didi.py --stage=distill   # students only
    python -m lsd_jax.main --config=configs/didi.py:tiny      # the same path on MDLM's tiny random weights, half a minute

Weights: haoyangzheng/didi-instruct-small on the Hugging Face hub (model.safetensors, the student's moving average; the
discriminator beside it is not used), fetched once; without a network name a folder that holds them, or the authors'
didi-instruct.ckpt, by `--config.model.weights=PATH`, and others by config.data.tokenizer and config.evaluation.scorer.
The network has MDLM's shape and is read as MDLM: the noise level that it is shown is 0, as its config says (time_conditioning:
False). Its authors' guided sampler shows it the true level, their ancestral one 0; {"time_conditioning": true} in a config.json
beside the weights shows it the true level here too.
Published (Zheng et al. 2025, arXiv 2509.25035, gen-PPL by GPT-2 large with its own reward-guided sampler, which calls the
discriminator besides; secondary: not measured here):

    NFE             8      16     32     64     128
    DiDi-Instruct   62.2   38.2   25.0   21.9   18.4

with an entropy of 5.21 nats at 16. We know of no published number for a learned sampler on top of a distilled network, and have
not measured one. The teacher is this network with 1,024 steps; look at its samples first, since it was trained for few.
Hardware and time: it was not run here. The network and the schedule are those of configs/mdlm.py, and so are the estimates for the
whole command: A100 2.0, H100 0.8, TPU v4-8 0.6 hours.
`--stage=verify`: we know of no published bound; config.verify.perplexity has to be given.
Students get their orders and grids (distill.steps=0); `:lsd` after the config's name learns the LSD paper's coefficients instead.
"""

from ml_collections import ConfigDict

from lsd_jax.configs.language import language_config


def get_config(variant: str = "") -> ConfigDict:
    """DiDi-Instruct (absorbing, SUBS, 170 M parameters); variant "tiny" runs on random weights."""
    config = language_config("mdlm", "haoyangzheng/didi-instruct-small", 0.0, "tiny_mdlm", 16.1916, variant)
    config.evaluation.protocol = "mdlm"
    return config
