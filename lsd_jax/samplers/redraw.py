"""A law drawn from left to right, whose tokens depend on each other: a whole step of the uniform process, staying included."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsd_jax.samplers.draws import inverse_cdf


class Redraw(NamedTuple):
    """Position i takes token v in proportion to exp(log_base[i, v] + log_neighbour[token at i - 1, v]).

    Attributes:
        log_base_BLS: unnormalised log-probabilities without the token to the left.
        log_neighbour_LS: potentials (S + 1, S); the last row, zeros, is what the first position reads.
    """

    log_base_BLS: jax.Array
    log_neighbour_LS: jax.Array

    def sample(self, uniform_BL: jax.Array) -> jax.Array:
        """Tokens (B, L) from one uniform a position."""

        def draw(left_B, position):
            log_base_BS, uniform_B = position
            token_B = inverse_cdf(log_base_BS + self.log_neighbour_LS[left_B], uniform_B)
            return token_B, token_B

        first_B = jnp.full(uniform_BL.shape[0], self.log_base_BLS.shape[-1], jnp.int32)
        return jax.lax.scan(draw, first_B, (jnp.moveaxis(self.log_base_BLS, 1, 0), uniform_BL.T))[1].T

    def log_prob(self, token_BL: jax.Array) -> jax.Array:
        """log-probability (B, L) of tokens, each given the one to its left."""
        first = self.log_base_BLS.shape[-1]
        left_BL = jnp.pad(token_BL[:, :-1], ((0, 0), (1, 0)), constant_values=first)
        log_prob_BLS = jax.nn.log_softmax(self.log_base_BLS + self.log_neighbour_LS[left_BL])
        return jnp.take_along_axis(log_prob_BLS, token_BL[..., None], -1)[..., 0]

    def kl_from(self, law_BLS: jax.Array) -> jax.Array:
        """KL(law || this) in nats (B, L) of a law of independent positions, summed exactly over the tokens to the left."""
        left_BLS = jnp.pad(law_BLS[:, :-1], ((0, 0), (1, 0), (0, 1)))
        left_BLS = left_BLS.at[:, 0, -1].set(1.0)
        top_BL1 = jax.lax.stop_gradient(self.log_base_BLS.max(-1, keepdims=True))
        mass_BLS = jnp.exp(self.log_base_BLS - top_BL1) @ jnp.exp(self.log_neighbour_LS).T
        own_BL = (law_BLS * jnp.where(law_BLS > 0, self.log_base_BLS, 0.0)).sum(-1)
        pair_BL = (left_BLS @ self.log_neighbour_LS * law_BLS).sum(-1)
        entropy_BL = -jax.scipy.special.xlogy(law_BLS, law_BLS).sum(-1)
        return (left_BLS * jnp.log(mass_BLS)).sum(-1) + top_BL1[..., 0] - own_BL - pair_BL - entropy_BL


def redraw(log_law_BLS: jax.Array, log_neighbour_SS: jax.Array) -> Redraw:
    """The law of a step whose positions alone would have `log_law` (normalised), with potentials (token to the left, own).

    A potential is read against its mean under the network's own law of the token to the left: what the network knows of
    that token is in its marginals already and must not be counted twice. Where the network knows nothing this is Bayes'
    rule for a Markov chain with exp(log_neighbour) as its transitions, where it knows the token it changes nothing.
    """
    mean_BLS = jnp.exp(log_law_BLS[:, :-1]) @ jnp.exp(log_neighbour_SS)
    log_base_BLS = log_law_BLS - jnp.pad(jnp.log(mean_BLS), ((0, 0), (1, 0), (0, 0)))
    return Redraw(log_base_BLS, jnp.pad(log_neighbour_SS, ((0, 1), (0, 0))))
