"""TODO"""

from ml_collections import ConfigDict

from configs.language import language_config


def get_config(variant: str = "") -> ConfigDict:
    """TODO"""
    config = language_config("sedd", "louaaron/sedd-medium", "tiny_sedd_absorb", variant)
    return config
