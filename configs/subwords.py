"""Subwords."""

from ml_collections import ConfigDict

from lsd_jax.configs.common import base_config


def get_config(variant_name: str = "") -> ConfigDict:
    """Text."""
    config = base_config()
    config.cpu_devices = 2
    config.data.name, config.data.vocab_size, config.data.sequence_length = "subwords", 1024, 128
    config.model.weights = "subwords_teacher.safetensors"
    config.model.dim, config.model.depth, config.model.heads = 256, 6, 4
    return config
