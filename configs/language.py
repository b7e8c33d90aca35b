"""What the language experiments of the LSD paper share: published networks, GPT-2's vocabulary, no data set.

The experiments are configs/sedd_small.py, sedd_medium.py, radd.py, mdlm.py and duo.py, and on networks that others have distilled
already configs/didi.py and `configs/duo.py:distilled`. After a config's name, `:lsd` asks for the paper's own students
(coefficients by score alignment, eq. 6, 9 and 10, on Euler's uniform grid) in place of ours, and `:tiny` runs the whole path in
seconds on random weights of 40,000 parameters that ship with the package: the numbers mean nothing, the code is the same.
"""

from ml_collections import ConfigDict

from lsd_jax.configs.common import base_config

VARIANTS = ("", "lsd", "tiny")


def language_config(
    name: str,
    weights: str,
    perplexity: float,
    shipped: str,
    shipped_perplexity: float,
    variant: str = "",
    process: str = "absorbing",
    variants: tuple[str, ...] = VARIANTS,
) -> ConfigDict:
    """Fu et al. 2025, section 5.1: teacher of 1,024 steps, zeta 5 %, 1,024 samples of 1,024 tokens, NFE 8, 16, 32, 64.

    Args:
        name: the network's family, config.model.name.
        weights: its checkpoint on the hub.
        perplexity: what its paper reports on WikiText-103, for --stage=verify; 0 where it reports none.
        shipped: the random checkpoint that `:tiny` loads instead.
        shipped_perplexity: its own on the shipped random tokens, recorded with this code.
        variant: "", "lsd" or "tiny", or one that changes nothing here.
        process: config.process.name.
        variants: those that the config has.

    Raises:
        ValueError: unknown variant.
    """
    if variant not in variants:
        raise ValueError(f"choose one of {variants[1:]} after the colon, or nothing")
    config = base_config()
    config.data.name = "tokens"
    config.data.sequence_length, config.data.vocab_size = 1024, 50257
    config.data.tokenizer = "openai-community/gpt2"
    config.process.name = process
    config.model.name, config.model.weights, config.model.dtype = name, weights, "bfloat16"
    config.teacher.source, config.teacher.steps, config.teacher.paths = "samples", 1024, 16
    config.student.steps = (8, 16, 32, 64)
    config.distill.steps = 0  # orders and grids; docs/results.md: coefficients add nothing to them
    config.distill.batch_size = 4
    config.distill.alignment.radius = 0.05
    config.evaluation.scorer, config.evaluation.protocol = "openai-community/gpt2-large", "jys"
    config.evaluation.num_samples, config.evaluation.batch_size = 1024, 8
    config.evaluation.reference_steps = 1024
    config.verify.perplexity = perplexity
    if process == "uniform":  # positions jump many times: no order of reveals
        config.student.order, config.student.coupling.name, config.student.grid_points = "fixed", "iid", 64
    if variant == "lsd":
        config.student.kernel, config.student.grid, config.student.order = "euler", "uniform", "fixed"
        config.student.coupling.name = "shared" if process == "absorbing" else "iid"
        config.distill.objective, config.distill.steps = "score_alignment", 60
    if variant == "tiny":
        _shrink(config, shipped, shipped_perplexity)
    return config


def _shrink(config: ConfigDict, shipped: str, perplexity: float) -> None:
    config.data.sequence_length, config.data.vocab_size = 9, 11
    config.data.tokenizer = "tiny_tokenizer.json"
    config.model.weights, config.model.dtype = shipped, "float32"
    config.teacher.steps, config.teacher.paths, config.student.grid_points = 16, 32, 8
    config.student.steps = (2,)
    config.distill.steps, config.distill.batch_size = 10, 8
    config.evaluation.scorer = "tiny_gpt2"
    config.evaluation.num_samples = config.evaluation.batch_size = 32
    config.evaluation.reference_steps, config.evaluation.temperatures = 2, (0.8,)
    config.verify.path, config.verify.tolerance, config.verify.sequences = "tiny_tokens.npy", 1e-3, 8
    config.verify.perplexity = perplexity
