"""TODO"""

from ml_collections import ConfigDict

from configs.language import language_config


def get_config(variant: str = "") -> ConfigDict:
    """TODO"""
    config = language_config("duo", "s-sahoo/duo", "tiny_duo", variant, process="uniform")
    return config
