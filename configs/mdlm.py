"""TODO"""

from ml_collections import ConfigDict

from configs.language import language_config


def get_config(variant: str = "") -> ConfigDict:
    """TODO"""
    config = language_config("mdlm", "kuleshov-group/mdlm-owt", "tiny_mdlm", variant)
    return config
