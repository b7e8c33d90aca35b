"""Autoregressive scorers of samples: likelihood by token and, of a network of our own, features of sequences."""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lsd_jax import parallel, shards
from lsd_jax.errors import InputError
from lsd_jax.metrics import gen_ppl
from lsd_jax.models import pretrained, weights
from lsd_jax.models.causal import autoregressive_loss
from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.models.gpt2 import GPT2

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Scorer(NamedTuple):
    """A causal network of our own.

    Attributes:
        identity: what names it in a record.
    """

    model: DDiT
    params: Any
    batch_size: int
    identity: dict[str, Any]

    def __call__(self, tokens_NL: np.ndarray) -> np.ndarray:
        """(nats, scored tokens) of every sequence, (N, 2)."""
        return self.read(tokens_NL)[0]

    def read(self, tokens_NL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(nats, scored tokens) (N, 2) and features (N, D) of every sequence, from one pass.

        A sequence's feature is the network's last hidden state, the one its logits are read from, averaged over the L
        places that a token was predicted at. The last token itself is not in it.
        """
        read = functools.partial(_read, self.model, parallel.data_mesh(), self.params)
        nats_N, features_ND = parallel.in_batches(read, self.batch_size, np.asarray(tokens_NL, np.int32))
        return np.stack([nats_N, np.full(len(nats_N), tokens_NL.shape[1])], -1), features_ND


class Gpt2Scorer(NamedTuple):
    """GPT-2 by a published protocol.

    Attributes:
        identity: what names it in a record, the protocol too.
        tokenizers: (the samples', its own) of a protocol that goes through text.
        end: its end-of-text token.
    """

    model: GPT2
    params: Any
    batch_size: int
    identity: dict[str, Any]
    tokenizers: "tuple[Tokenizer, Tokenizer] | None" = None
    end: int = -1

    def __call__(self, tokens_NL: np.ndarray) -> np.ndarray:
        """(nats, scored tokens) of every sequence, (N, 2)."""
        if self.tokenizers:
            tokens_NL = gen_ppl.retokenized(tokens_NL, *self.tokenizers, self.end)
        weight_NL = gen_ppl.protocol_weight(self.identity["protocol"], tokens_NL, self.end)
        return gpt2_nats(self.model, self.params, tokens_NL, weight_NL, self.batch_size)


def load_scorer(source: str, batch_size: int, vocab_size: int) -> Scorer:
    """A causal network that training wrote, for sequences over `vocab_size` tokens.

    Args:
        source: a shipped name or a path.

    Raises:
        ValueError, FileNotFoundError: missing, broken, not causal, or of another vocabulary; one line.
    """
    path = weights.resolve(source)
    sizes, params, _ = weights.load(path, "scorer")
    if not isinstance(sizes, DDiTConfig) or not sizes.causal:
        raise InputError(f"scorer={source!r}: not a causal network; train one with loss='autoregressive'")
    if sizes.vocab_size != vocab_size:
        raise InputError(f"scorer={source!r}: it reads {sizes.vocab_size} tokens, vocab_size={vocab_size}")
    return Scorer(DDiT(sizes), parallel.placed(params), batch_size, {"name": path.name, "sha256": weights.sha256(path)})


def load_gpt2_scorer(
    source: str, protocol: str, batch_size: int, vocab_size: int, length: int, tokenizer: str
) -> Gpt2Scorer:
    """GPT-2 for sequences of `length` tokens of a vocabulary of `vocab_size`.

    Args:
        source: a shipped name, a file, a folder or a repository of the hub.
        protocol: one of gen_ppl.PROTOCOLS.
        tokenizer: the samples'; read by the protocol "mdlm" alone.

    Raises:
        ValueError, FileNotFoundError: missing, broken, or not for these sequences; one line.
    """
    if protocol not in gen_ppl.PROTOCOLS:
        raise InputError(f"protocol={protocol!r}: choose one of {gen_ppl.PROTOCOLS}, or leave it empty")
    sizes, params, sha256 = pretrained.load("gpt2", source, "scorer")
    name = f"GPT-2, {sizes.depth} blocks of {sizes.dim}"
    identity = {"name": name, "id": source, "sha256": sha256, "protocol": protocol}
    if length > sizes.positions:
        raise InputError(f"scorer={source!r}: it reads {sizes.positions} tokens, sequence_length={length}")
    if protocol == "jys":  # raw ids: both must mean the same by them
        if vocab_size > sizes.vocab_size:
            raise InputError(f"scorer={source!r}: it has {sizes.vocab_size} tokens, vocab_size={vocab_size}")
        return Gpt2Scorer(GPT2(sizes), params, batch_size, identity)
    if not tokenizer:
        raise InputError("protocol='mdlm': it decodes samples, and the data names no tokenizer")
    from lsd_jax.models.pretrained.tokenizer import end_of_text, load_tokenizer

    theirs = load_tokenizer(tokenizer, vocab_size, "tokenizer")
    own = load_tokenizer(source, sizes.vocab_size, "scorer")
    return Gpt2Scorer(GPT2(sizes), params, batch_size, identity, (theirs, own), end_of_text(own, "scorer"))


@functools.partial(jax.jit, static_argnames=("model", "mesh"))
def _read(model: DDiT, mesh: Mesh, params: Any, tokens_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """-log p (B,) in nats and features (B, D)."""

    def local(params, tokens_BL):
        hidden = []

        def network(x_BL, sigma_bar):
            logits_BLS, kept = shards.applied(model, params, x_BL, sigma_bar, mutable=["intermediates"])
            hidden.append(kept["intermediates"]["hidden"][0])
            return logits_BLS

        nll_B = autoregressive_loss(network, model.config.vocab_size, tokens_BL)
        return nll_B, jnp.mean(hidden[0], 1)

    return parallel.map_over_data(local, mesh)(params, tokens_BL)


@functools.partial(jax.jit, static_argnames=("model", "mesh"))
def _weighted(model: GPT2, mesh: Mesh, params: Any, tokens_BL: jax.Array, weight_BL: jax.Array) -> jax.Array:
    def local(params, batch):
        return weighted_nll(model, params, *batch)

    return parallel.map_over_data(local, mesh)(params, (tokens_BL, weight_BL))


def weighted_nll(model: GPT2, params: Any, tokens_BL: jax.Array, weight_BL: jax.Array) -> jax.Array:
    """(sum of weight times -log p, sum of weight) of every sequence, (B, 2), nats; the first token is given, not scored."""
    logits_BLV, next_BL = shards.applied(model, params, tokens_BL[:, :-1]), tokens_BL[:, 1:]
    # As a difference, so that the (B, L, V) logits are reduced without a normalized copy.
    chosen_BL = jnp.take_along_axis(logits_BLV, next_BL[..., None], -1)[..., 0]
    nll_BL = jax.nn.logsumexp(logits_BLV, -1) - chosen_BL
    weight_BL = weight_BL[:, 1:]
    return jnp.stack([(nll_BL * weight_BL).sum(-1), weight_BL.sum(-1)], -1)


def gpt2_nats(model: GPT2, params: Any, tokens_NL: np.ndarray, weight_NL: np.ndarray, batch_size: int) -> np.ndarray:
    """(nats, scored tokens) (N, 2) of sequences under GPT-2, whose tokens count by their weight."""
    score = functools.partial(_weighted, model, parallel.data_mesh(), params)
    return parallel.in_batches(score, batch_size, tokens_NL.astype(np.int32), weight_NL)
