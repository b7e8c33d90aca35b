"""Features of sequences: the mean hidden state of the autoregressive scorer, from the same pass as its likelihood."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.models.ddit import DDiT
from lsd_jax.training.losses import autoregressive_loss


@functools.partial(jax.jit, static_argnums=range(2))
def _read(model, mesh, params, tokens_BL):
    def local(params, tokens_BL):
        hidden = []

        def network(x_BL, sigma_bar):
            logits_BLS, kept = model.apply(params, x_BL, sigma_bar, mutable=["intermediates"])
            hidden.append(kept["intermediates"]["hidden"][0])
            return logits_BLS

        nll_B = autoregressive_loss(network, model.config.vocab_size, tokens_BL)
        return nll_B, jnp.mean(hidden[0], 1)

    return parallel.map_over_data(local, mesh)(params, tokens_BL)


def read_sequences(model: DDiT, params: Any, tokens_NL: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """-log p (N,) in nats and features (N, D) of sequences under a causal network, whatever the batch size.

    A sequence's feature is the network's last hidden state, the one its logits are read from, averaged over the L places
    that a token was predicted at: of what came before, so the last token itself is not in it.

    Raises:
        ValueError: a network that is not causal.
    """
    if not model.config.causal:
        raise ValueError(
            "config.evaluation.scorer must be a causal network (trained by config.training.loss='autoregressive')"
        )
    read = functools.partial(_read, model, parallel.data_mesh(), params)
    return parallel.in_batches(read, batch_size, np.asarray(tokens_NL, np.int32))
