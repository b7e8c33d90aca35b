"""Distills few-step students for diffusion models of molecules that ship with the repository, and compares samplers."""

from ml_collections import ConfigDict

from lsd_jax.configs.common import base_config

_SETS = {"moses": (25, 56, 256, 6, 8), "qm9": (31, 22, 192, 3, 6)}  # tokens, length; dim, depth, heads


def get_config(variant_name: str = "moses") -> ConfigDict:
    """MOSES or QM9."""
    config = base_config()
    config.cpu_devices = 2
    config.data.name, config.data.path = "molecules", variant_name
    config.data.vocab_size, config.data.sequence_length, *sizes = _SETS[variant_name]
    config.model.weights = f"{variant_name}.safetensors"
    config.model.dim, config.model.depth, config.model.heads = sizes
    return config
