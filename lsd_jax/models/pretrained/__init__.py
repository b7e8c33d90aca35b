"""Published networks, from PyTorch checkpoints to our parameters: SEDD, RADD, MDLM, Duo, AntiBERTy, and GPT-2 and Sapiens as judges."""

import dataclasses
import functools
import hashlib
from typing import Any

from lsd_jax import parallel
from lsd_jax.errors import InputError
from lsd_jax.models import weights
from lsd_jax.models.pretrained import bert, sources
from lsd_jax.models.pretrained.files import read_tensors, shards
from lsd_jax.models.pretrained.mapping import to_ours


@functools.lru_cache(maxsize=2)  # a run's stages ask again
def load(
    family: str,
    source: str,
    field: str,
    masked: bool = False,
    dtype: str = "float32",
    vocab_size: int | None = None,
) -> tuple[Any, Any, str]:
    """(sizes, float32 parameters, sha256 of the weights' file) of a published network.

    Args:
        family: one of mapping.FAMILIES or bert.LAYOUTS.
        source: a shipped name, a file, a folder or a hub repository, as in sources.find.
        field: the setting that names it, for messages.
        masked: whether an entry of its vocabulary is a mask.
        dtype: of its matrix products.
        vocab_size: number of data tokens, where they are known; the network's table may have more rows.

    Raises:
        ValueError, FileNotFoundError: nothing there, or another network; one line that names the tensors.
    """
    path = sources.find(source, sources.WEIGHTS, field)
    try:
        card = sources.card(path, source, field)
        tensors = read_tensors(path)
        if family in bert.LAYOUTS:
            sizes, params = bert.to_ours(family, tensors, card, vocab_size)
        else:
            sizes, params = to_ours(family, tensors, card, masked, vocab_size)
    except ValueError as error:
        raise InputError(f"{field}={source!r}: cannot be read as {family.upper()}: {error}") from None
    parts = [path, *(shards(path) if path.name.endswith(".index.json") else ())]
    digest = weights.sha256(path)
    if len(parts) > 1:  # an index alone says nothing of what its files hold
        digest = hashlib.sha256("".join(map(weights.sha256, parts)).encode()).hexdigest()
    return dataclasses.replace(sizes, dtype=dtype), parallel.placed(params), digest


def process_name(source: str, field: str) -> str | None:
    """The process that SEDD's config.json beside its weights names, "absorbing" or "uniform"; None without one.

    Raises:
        ValueError, FileNotFoundError: no weights there.
    """
    card = sources.card(sources.find(source, sources.WEIGHTS, field), source, field)
    return {"absorb": "absorbing", "uniform": "uniform"}.get(card.get("graph", {}).get("type"))
