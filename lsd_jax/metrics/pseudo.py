"""Pseudo-perplexity: samples judged by a masked language model that had no part in making them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lsd_jax import parallel
from lsd_jax.errors import InputError
from lsd_jax.metrics.metric import Column
from lsd_jax.models.backbones import PUBLISHED
from lsd_jax.models.bert import Bert
from lsd_jax.models.load import load_model
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.process import Process

PSEUDO_PPL = Column("pseudo_ppl", "pseudo-perplexity (second model)", "{:.2f}", "pseudo-PPL")
ACIDS = 20  # the data tokens of such models
PASSES = 8  # an eighth of the tokens is masked at a time, about the share that such models are trained at


class MaskedScorer(NamedTuple):
    """A masked language model as a judge.

    Attributes:
        identity: what names it in a record.
    """

    model: Diffusion
    batch_size: int
    identity: dict[str, Any]

    def __call__(self, tokens_NL: np.ndarray) -> np.ndarray:
        """(nats, scored tokens) of every sequence, (N, 2): every token is predicted from those that are not masked with it."""
        score = functools.partial(_nats, self.model, parallel.data_mesh())
        nats_N = parallel.in_batches(score, self.batch_size, np.asarray(tokens_NL, np.int32))
        return np.stack([nats_N, _data(self.model.process, tokens_NL).sum(1)], -1)


def load_masked_scorer(source: str, batch_size: int, length: int, padded: bool = False) -> MaskedScorer:
    """A masked language model of antibodies as a judge.

    Args:
        source: "sapiens" or "antiberty", whose wheel is installed, or FAMILY:PATH for a file or a folder of one.
        batch_size: sequences per batch, over all devices.
        length: tokens of a sequence, pads included.
        padded: whether sequences have a pad, the token after the amino acids.

    Raises:
        ValueError, FileNotFoundError: missing, broken, no such network, or one for shorter sequences; one line.
    """
    name, _, path = source.partition(":")
    if name not in PUBLISHED or PUBLISHED[name].module is not Bert:
        choices = [name for name, family in PUBLISHED.items() if family.module is Bert]
        raise InputError(f"scorer={source!r}: choose one of {choices}, or FAMILY:PATH")
    try:
        model = load_model(name, path, _padded(length) if padded else None)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(str(error).replace("weights=", "scorer=", 1)) from None
    try:
        jax.eval_shape(model.log_score, jnp.zeros((1, length), jnp.int32), jnp.ones(()))
    except InputError as error:
        raise InputError(f"scorer={source!r}: {error}") from None
    identity = {"name": name, "sha256": model.identity.sha256, "passes": PASSES}
    return MaskedScorer(model, batch_size, identity)


def _padded(length: int) -> Absorbing:
    """A process that knows a pad; a judge draws no lengths, so that their shares do not matter."""
    return Absorbing(ACIDS + 1, LogLinear(), lengths=(*[0.0] * length, 1.0))


def _data(process: Process, tokens: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Where a token is the data's and no pad, booleans."""
    return tokens < process.vocab_size - (process.longest is not None)


@functools.partial(jax.jit, static_argnames="mesh")
def _nats(model: Diffusion, mesh: Mesh, tokens_BL: jax.Array) -> jax.Array:
    """-log p (B,) in nats, summed over the tokens, PASSES network evaluations per sequence."""

    def local(model: Diffusion, tokens_BL: jax.Array) -> jax.Array:
        process = model.process

        def pass_(nats_B: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
            masked_BL = (jnp.arange(tokens_BL.shape[1])[None] % PASSES == index) & _data(process, tokens_BL)
            x_BL = jnp.where(masked_BL, process.mask, tokens_BL)
            log_prob_BLS = jax.nn.log_softmax(model.log_score(x_BL, jnp.ones(())))
            chosen_BL = jnp.take_along_axis(log_prob_BLS, tokens_BL[..., None], -1)[..., 0]
            return nats_B - jnp.where(masked_BL, chosen_BL, 0.0).sum(-1), None

        return jax.lax.scan(pass_, 0.0 * tokens_BL[:, 0].astype(jnp.float32), jnp.arange(PASSES))[0]

    return parallel.map_over_data(local, mesh)(model, tokens_BL)
