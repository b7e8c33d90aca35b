"""Distills few-step students of tauLDR's CIFAR-10 network, and compares samplers by M-step ELBO and FID.

    python -m lsd_jax.main --config=configs/cifar10.py --config.model.weights=PATH/ckpt_0001999999.pt \\
        --config.evaluation.features=PATH/pt_inception-2015-12-05-6726825d.pth

Needs tauLDR's checkpoint (Campbell et al. 2022, github.com/andrew-cr/tauLDR; its EMA weights are used), pytorch-fid's Inception
weights, and a network for CIFAR-10's archive, or config.data.path=PATH/cifar-10-binary.tar.gz. The LSD paper's settings
(arXiv 2509.19962): N = 1024 teacher steps, zeta = 5 % (distill.alignment.radius, read by its objectives score_alignment and
effective_transition), NFE 8 to 64, FID on 50,000 samples. Reference statistics are of the 49,000 training images, unless
evaluation.feature_statistics names a file; published FIDs use 50,000.

This command has not been run: we have no numbers of our own and know of no published ones. tauLDR's min_time = 0.01 ends every grid.
`--stage=verify` expects 3.59 bits per channel on test images, a perplexity of 12.04: the paper's bound (from memory: check it there).
Estimated cost, from FLOPs and not from a run: the network takes 11.7 GFLOP per image forward (XLA's count; 35.7 M parameters). Teacher
paths, cost table and distillation are below 1 % of evaluation, 728 network calls for each of 50,000
samples: 4.3e17 FLOP. At 30 % of peak in bfloat16 (config.model.dtype): 1.3 hours on an A100, 0.4 on an H100, 0.4 on
a TPU v4-8; the draws over 256 values, 3072 per sample and step, come on top.

    python -m lsd_jax.main --config=configs/cifar10.py:tiny --workdir=runs/digits

runs the same path on scikit-learn's digits, with a network and a feature network that ship: no download, 55 seconds on 2
CPU cores. The network was trained in 5 minutes there to 2.444 +- 0.018 bits per pixel of -log p(x_0 | x_t) (validation, t uniform) by

    python -m lsd_jax.main --config=configs/cifar10.py:tiny --stage=train --workdir=runs/digits_unet --config.model.weights=
"""

from ml_collections import ConfigDict

from lsd_jax.configs.common import base_config


def get_config(variant: str = "") -> ConfigDict:
    """The experiment on CIFAR-10, or with `:tiny` on digits."""
    if variant not in ("", "tiny"):
        raise ValueError("the only variant is 'tiny'")
    config = base_config()
    config.data.name = "cifar10"
    config.data.shape = (3, 32, 32)
    config.data.sequence_length = 3072
    config.data.vocab_size = 256
    config.process.name = "gaussian"
    config.process.noise = ConfigDict(
        {"name": "exponential", "time_base": 3.0, "time_exponential": 100.0, "min_time": 0.01}
    )
    config.model.name = "unet"
    config.model.weights = "tauldr/ckpt_0001999999.pt"
    config.student.kernel = "ancestral"
    config.student.steps = (8, 16, 32, 64)
    config.student.grid_points = 128
    config.student.order = "fixed"
    config.student.coupling.name = "iid"
    config.teacher.source = "samples"
    config.teacher.steps = 1024
    config.teacher.paths = 64
    config.evaluation.features = "features/pt_inception-2015-12-05-6726825d.pth"
    config.evaluation.num_samples = 50_000
    config.evaluation.batch_size = 256
    config.evaluation.held_out = 64
    config.evaluation.reference_steps = 128
    config.verify.perplexity = 12.04
    return tiny(config) if variant else config


def tiny(config: ConfigDict) -> ConfigDict:
    """The same path on scikit-learn's digits with a network that ships: 2 CPU cores, under a minute."""
    config.data.name = "digits"
    config.data.shape = (1, 8, 8)
    config.data.sequence_length = 64
    config.data.vocab_size = 17
    config.process.rate_sigma = 3.0
    config.process.q_sigma = 16.0
    config.process.noise.time_base = 0.5
    config.model.weights = "digits_unet.safetensors"
    config.model.unet = ConfigDict(
        {
            "ch": 24,
            "num_res_blocks": 1,
            "ch_mult": (1, 2),
            "attention_scale": 1,
            "time_embed_dim": 24,
            "fix_logistic": True,
        }
    )
    config.teacher.source = "data"
    config.teacher.steps = 64
    config.teacher.paths = 32
    config.student.steps = (4,)
    config.student.grid_points = 32
    config.distill.steps = 10
    config.distill.batch_size = 8
    config.evaluation.features = "digits_features.safetensors"
    config.evaluation.num_samples = 256
    config.evaluation.batch_size = 128
    config.evaluation.reference_steps = 32
    config.evaluation.temperatures = ()
    config.evaluation.held_out = 128
    config.verify.perplexity = 5.9588  # recorded with this code, at the weights that ship
    config.verify.tolerance = 0.02
    config.training.steps = 2500
    config.training.batch_size = 64
    config.training.microbatch = 64
    config.training.learning_rate = 2e-3
    config.training.weight_decay = 0.01
    config.training.validation_sequences = 200
    return config
