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

PSEUDO_PPL = Column("pseudo_ppl", "pseudo-perplexity (second model)", "{:.2f}", "pseudo-PPL")
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
        return np.stack([nats_N, np.full(len(nats_N), tokens_NL.shape[1])], -1)


def load_masked_scorer(source: str, batch_size: int) -> MaskedScorer:
    """A masked language model of antibodies as a judge.

    Args:
        source: "sapiens" or "antiberty", whose wheel is installed, or FAMILY:PATH for a file or a folder of one.

    Raises:
        ValueError, FileNotFoundError: missing, broken, or no such network; one line.
    """
    name, _, path = source.partition(":")
    if name not in PUBLISHED or PUBLISHED[name].module is not Bert:
        choices = [name for name, family in PUBLISHED.items() if family.module is Bert]
        raise InputError(f"scorer={source!r}: choose one of {choices}, or FAMILY:PATH")
    try:
        model = load_model(name, path)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(str(error).replace("weights=", "scorer=", 1)) from None
    identity = {"name": name, "sha256": model.identity.sha256, "passes": PASSES}
    return MaskedScorer(model, batch_size, identity)


@functools.partial(jax.jit, static_argnames="mesh")
def _nats(model: Diffusion, mesh: Mesh, tokens_BL: jax.Array) -> jax.Array:
    """-log p (B,) in nats, summed over the tokens, PASSES network evaluations per sequence."""

    def local(model: Diffusion, tokens_BL: jax.Array) -> jax.Array:
        process = model.process

        def pass_(nats_B: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
            masked_BL = jnp.broadcast_to(jnp.arange(tokens_BL.shape[1])[None] % PASSES == index, tokens_BL.shape)
            x_BL = jnp.where(masked_BL, process.mask, tokens_BL)
            log_prob_BLS = jax.nn.log_softmax(model.log_score(x_BL, jnp.ones(())))
            chosen_BL = jnp.take_along_axis(log_prob_BLS, tokens_BL[..., None], -1)[..., 0]
            return nats_B - jnp.where(masked_BL, chosen_BL, 0.0).sum(-1), None

        return jax.lax.scan(pass_, 0.0 * tokens_BL[:, 0].astype(jnp.float32), jnp.arange(PASSES))[0]

    return parallel.map_over_data(local, mesh)(model, tokens_BL)
