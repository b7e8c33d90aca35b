"""Causal networks: the likelihood of a sequence token by token, which the autoregressive scorer trains on and reports."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Network = Callable[[jax.Array, jax.Array], jax.Array]  # tokens (B, L), times (B,) -> (B, L, S)


def autoregressive_loss(network: Network, start_token: int, x0_BL: jax.Array) -> jax.Array:
    """Next-token negative log-likelihood (B,) in nats, the first token predicted from `start_token`."""
    inputs_BL = jnp.pad(x0_BL[:, :-1], ((0, 0), (1, 0)), constant_values=start_token)
    logits_BLS = network(inputs_BL, jnp.zeros(x0_BL.shape[0]))
    import optax  # where it is used: it takes a quarter of a second to import

    return optax.softmax_cross_entropy_with_integer_labels(logits_BLS, x0_BL).sum(-1)
