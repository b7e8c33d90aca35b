"""PLACEHOLDER"""

from ml_collections import ConfigDict

from configs.common import base_config


def get_config(variant: str = "") -> ConfigDict:
    """The experiment on CIFAR-10, or with `:tiny` on digits."""
    if variant not in ("", "tiny"):
        raise ValueError(f"configs/cifar10.py:{variant}: there is only :tiny")
    config = base_config()
    config.data.name = "cifar10"
    config.data.shape = (3, 32, 32)
    config.data.sequence_length = 3072
    config.data.vocab_size = 256
    config.process.name = "gaussian"
    config.process.noise = ConfigDict({"name": "exponential", "time_base": 3.0, "time_exponential": 100.0})
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
    config.teacher.steps = 64
    config.teacher.paths = 32
    config.student.steps = (4, 8)
    config.student.grid_points = 32
    config.distill.steps = 20
    config.evaluation.features = "digits_features.safetensors"
    config.evaluation.num_samples = 256
    config.evaluation.batch_size = 128
    config.evaluation.reference_steps = 64
    config.evaluation.temperatures = (0.9,)
    config.training.steps = 2500
    config.training.batch_size = 64
    config.training.microbatch = 64
    config.training.learning_rate = 2e-3
    config.training.weight_decay = 0.01
    config.training.validation_sequences = 200
    return config
