"""TODO"""

from ml_collections import ConfigDict

from configs.language import language_config


def get_config(variant: str = "") -> ConfigDict:
    """TODO"""
    config = language_config("radd", "JingyangOu/radd-lambda-dce", "tiny_radd", variant)
    return config
