"""Published networks: SEDD, RADD, MDLM, Duo and the evaluator GPT-2, from PyTorch checkpoints to our parameters."""

import dataclasses
import functools
from typing import Any

from lsd_jax.models import weights
from lsd_jax.models.pretrained import sources
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.models.pretrained.mapping import FAMILIES, to_ours

DIFFUSION = tuple(family for family in FAMILIES if family != "gpt2")
PARAMETERIZATION = {"sedd": "score", "radd": "posterior", "mdlm": "posterior", "duo": "mean"}
PROCESSES = {"sedd": ("absorbing", "uniform"), "radd": ("absorbing",), "mdlm": ("absorbing",), "duo": ("uniform",)}


@functools.lru_cache(maxsize=2)  # a run's stages ask again
def load(family: str, source: str, field: str, masked: bool = False, dtype: str = "float32") -> tuple[Any, Any, str]:
    """(sizes, float32 parameters, sha256 of the weights' file) of a published network.

    Args:
        family: one of FAMILIES.
        source: a shipped name, a file, a folder or a hub repository, as in sources.find.
        field: the config's field, for messages.
        masked: whether the last entry of its vocabulary is a mask.
        dtype: of its matrix products.

    Raises:
        ValueError, FileNotFoundError: nothing there, or another network; one line that names the tensors.
    """
    path = sources.find(source, sources.WEIGHTS, field)
    try:
        sizes, params = to_ours(family, read_tensors(path), sources.card(path, source, field), masked)
    except ValueError as error:
        raise ValueError(f"{field}={source!r} cannot be read as {family.upper()}: {error}") from None
    return dataclasses.replace(sizes, dtype=dtype), params, weights.sha256(path)
