"""Generative perplexity: under a scorer of our own, trained on the same corpus, or under GPT-2 by a named protocol.

Published numbers follow different conventions, 12 to 24 % apart on the same samples; two of them are named here. A fourth,
SEDD's, averages the perplexities of samples, and one repetitive or broken sample can move it without bound. Repetition lowers
gen-PPL without end: it is reported only beside entropy and a divergence.
"""

from typing import TYPE_CHECKING

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics.bootstrap import resample_weights, shifted_interval
from lsd_jax.metrics.metric import Column

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PROTOCOLS = ("jys", "mdlm")


def gen_ppl_column(scorer: str = "", protocol: str = "") -> Column:
    """The column of gen-PPL under the scorer and by the protocol that a heading names."""
    return Column(
        "gen_ppl", f"gen-PPL ({scorer}, {protocol})" if protocol else "gen-PPL (our scorer)", "{:.2f}", "gen-PPL"
    )


def protocol_weight(protocol: str, tokens_NL: np.ndarray, end: int) -> np.ndarray:
    """Which tokens count, (N, L) of 0 and 1.

    jys (Park et al. 2024): every one, on raw ids. mdlm (Sahoo et al. 2024, and Duo): none after the first end-of-text but
    those that start a new text, that is, ends after the first.

    Raises:
        ValueError: unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol={protocol!r}: choose one of {PROTOCOLS}")
    if protocol == "jys":
        return np.ones(tokens_NL.shape, np.float32)
    ends = tokens_NL == end
    return (~ends | (ends.cumsum(-1) == 1)).astype(np.float32)


def retokenized(tokens_NL: np.ndarray, theirs: "Tokenizer", own: "Tokenizer", end: int) -> np.ndarray:
    """The samples as the scorer reads their text (N, L): decoded, encoded, cut to L and filled with end-of-text."""
    texts = theirs.decode_batch(tokens_NL.tolist(), skip_special_tokens=False)
    length = tokens_NL.shape[1]
    rows = [encoding.ids[:length] for encoding in own.encode_batch(texts)]
    return np.asarray([ids + [end] * (length - len(ids)) for ids in rows], np.int32)


def perplexity(nats_and_tokens_N2: np.ndarray) -> float:
    """exp(nats per token) over all sequences together, whatever batches they were scored in."""
    nats, tokens = np.asarray(nats_and_tokens_N2, np.float64).sum(0)
    return float(np.exp(nats / tokens))


def perplexity_interval(
    nats_and_tokens_N2: np.ndarray, seed: int = 0, resamples: int = 200
) -> tuple[float, float, float]:
    """(perplexity, low, high) under resampling of the sequences."""
    scored_N2 = np.asarray(nats_and_tokens_N2, np.float64)
    nats, tokens = (resample_weights(len(scored_N2), seed, resamples) @ scored_N2).T
    return shifted_interval(perplexity(scored_N2), np.exp(nats / tokens))
