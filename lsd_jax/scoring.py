"""From a config to the autoregressive scorer behind gen-PPL: our own, or GPT-2 by a named protocol."""

from typing import Any, NamedTuple

import ml_collections
import numpy as np
from tokenizers import Tokenizer

from lsd_jax import evaluation
from lsd_jax.data.tokenizer import end_of_text, load_tokenizer
from lsd_jax.metrics import gen_ppl
from lsd_jax.models import pretrained, weights
from lsd_jax.models.ddit import DDiT
from lsd_jax.models.gpt2 import GPT2

_FIELD = "config.evaluation.scorer"


class Scorer(NamedTuple):
    """A scorer, what names it in a record, and the tokenizers (samples', its own) of a protocol that goes through text."""

    model: Any
    params: Any
    identity: dict[str, Any]
    tokenizers: tuple[Tokenizer, Tokenizer] | None = None
    end: int = -1

    def __call__(self, tokens_NL: np.ndarray, batch_size: int) -> np.ndarray:
        """(nats, scored tokens) of every sequence, (N, 2)."""
        if isinstance(self.model, DDiT):
            nats = evaluation.scorer_nats(self.model, self.params, tokens_NL, batch_size)
            return np.stack([nats, np.full(len(nats), tokens_NL.shape[1])], -1)
        if self.tokenizers:
            tokens_NL = gen_ppl.retokenized(tokens_NL, *self.tokenizers, self.end)
        weight = gen_ppl.protocol_weight(self.identity["protocol"], tokens_NL, self.end)
        return evaluation.gpt2_nats(self.model, self.params, tokens_NL, weight, batch_size)


def load_scorer(config: ml_collections.ConfigDict) -> Scorer | None:
    """The scorer that `config.evaluation` names; None where it names none.

    Raises:
        ValueError, FileNotFoundError: missing, broken, or not for these sequences; one line.
    """
    source, protocol = config.evaluation.scorer, config.evaluation.protocol
    if not source:
        return None
    if not protocol:
        path = weights.resolve(source)
        sizes, params, _ = weights.load(path)
        return Scorer(DDiT(sizes), params, {"name": path.name, "sha256": weights.sha256(path)})
    if protocol not in gen_ppl.PROTOCOLS:
        raise ValueError(
            f"config.evaluation.protocol={protocol!r}: choose one of {gen_ppl.PROTOCOLS}, or leave it empty"
        )
    sizes, params, sha256 = pretrained.load("gpt2", source, _FIELD)
    identity = {
        "name": f"GPT-2, {sizes.depth} blocks of {sizes.dim}",
        "id": source,
        "sha256": sha256,
        "protocol": protocol,
    }
    if config.data.sequence_length > sizes.positions:
        raise ValueError(
            f"{_FIELD}={source!r} reads {sizes.positions} tokens, config.data.sequence_length={config.data.sequence_length}"
        )
    if protocol == "jys":  # raw ids: both must mean the same by them
        if config.data.vocab_size > sizes.vocab_size:
            raise ValueError(
                f"{_FIELD}={source!r} has {sizes.vocab_size} tokens, config.data.vocab_size={config.data.vocab_size}"
            )
        return Scorer(GPT2(sizes), params, identity)
    if not config.data.tokenizer:
        raise ValueError("config.evaluation.protocol='mdlm' decodes samples: name config.data.tokenizer")
    theirs = load_tokenizer(config.data.tokenizer, config.data.vocab_size, "config.data.tokenizer")
    own = load_tokenizer(source, sizes.vocab_size, _FIELD)
    return Scorer(GPT2(sizes), params, identity, (theirs, own), end_of_text(own, _FIELD))
