"""Generative perplexity: under a scorer of our own, trained on the same corpus, or under GPT-2 by a named protocol.

Published numbers follow different conventions, 12 to 24 % apart on the same samples; two of them are named here. A fourth,
SEDD's, averages the perplexities of samples, and one repetitive or broken sample can move it without bound.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from lsd_jax.models.ddit import DDiT
from lsd_jax.models.gpt2 import GPT2
from lsd_jax.training.losses import autoregressive_loss

PROTOCOLS = ("jys", "mdlm")


def scorer_nll(model: DDiT, params: Any, tokens_BL: jax.Array) -> jax.Array:
    """-log p(tokens) (B,), nats a sequence, under a causal network.

    Gen-PPL is exp(mean nll / L), over all samples together; report it only beside entropy and a divergence, since
    repetition lowers it without end.
    """
    start = model.config.vocab_size
    return autoregressive_loss(lambda x, sigma_bar: model.apply(params, x, sigma_bar), start, tokens_BL)


def weighted_nll(model: GPT2, params: Any, tokens_BL: jax.Array, weight_BL: jax.Array) -> jax.Array:
    """(sum of weight times -log p, sum of weight) of every sequence, (B, 2), nats; the first token is given, not scored."""
    logits_BLV, next_BL = model.apply(params, tokens_BL[:, :-1]), tokens_BL[:, 1:]
    # As a difference, so that the (B, L, V) logits are reduced without a normalised copy.
    chosen_BL = jnp.take_along_axis(logits_BLV, next_BL[..., None], -1)[..., 0]
    nll_BL = jax.nn.logsumexp(logits_BLV, -1) - chosen_BL
    weight_BL = weight_BL[:, 1:]
    return jnp.stack([(nll_BL * weight_BL).sum(-1), weight_BL.sum(-1)], -1)


def protocol_weight(protocol: str, tokens_NL: np.ndarray, end: int) -> np.ndarray:
    """Which tokens count, (N, L) of 0 and 1.

    jys (Park et al. 2024): every one, on raw ids. mdlm (Sahoo et al. 2024, and Duo): none after the first end-of-text but
    those that start a new text, that is, ends after the first.

    Raises:
        ValueError: unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"config.evaluation.protocol={protocol!r}: choose one of {PROTOCOLS}")
    if protocol == "jys":
        return np.ones(tokens_NL.shape, np.float32)
    ends = tokens_NL == end
    return (~ends | (ends.cumsum(-1) == 1)).astype(np.float32)


def retokenized(tokens_NL: np.ndarray, theirs: Tokenizer, own: Tokenizer, end: int) -> np.ndarray:
    """The samples as the scorer reads their text (N, L): decoded, encoded, cut to L and filled with end-of-text."""
    texts = theirs.decode_batch(tokens_NL.tolist(), skip_special_tokens=False)
    length = tokens_NL.shape[1]
    rows = [encoding.ids[:length] for encoding in own.encode_batch(texts)]
    return np.asarray([ids + [end] * (length - len(ids)) for ids in rows], np.int32)


def perplexity(nats_and_tokens_N2: np.ndarray) -> float:
    """exp(nats a token) over all sequences together, whatever batches they were scored in."""
    nats, tokens = np.asarray(nats_and_tokens_N2, np.float64).sum(0)
    return float(np.exp(nats / tokens))
