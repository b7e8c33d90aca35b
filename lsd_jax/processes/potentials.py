"""Transitions whose tokens depend on each other through pair potentials, drawn from left to right.

Where a position jumps once, a potential acts between positions that jump in the same step (`PairTransition`). Where a position
may jump many times no token is settled by staying, so a potential acts on the whole distribution of every position
(`ChainTransition`).
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lsd_jax.processes.draws import inverse_cdf
from lsd_jax.processes.transition import Transition

# An accelerator would round what is multiplied to a few digits, and the logarithm of the sum with it.
_matmul = functools.partial(jnp.matmul, precision="highest")


class Factors(NamedTuple):
    """Pair potentials of low rank R, for vocabularies whose tables would be too large.

    Attributes:
        left_DSR: what the token to the left says, by distance - 1.
        own_DRS: what it means for the own token. A potential is the inner product of the two.
    """

    left_DSR: jax.Array
    own_DRS: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PairTransition(Transition):
    """A transition with potentials between positions that jump in the same step.

    Attributes:
        log_potential_DSS: potentials (distance - 1, token to the left, own token), or their factors, added between a
            position that jumps and the nearest one to its left that jumps in the same step, up to D apart.
    """

    log_potential_DSS: jax.Array | Factors

    def draw_destinations(self, jump_BL: jax.Array, bits_BL: jax.Array) -> jax.Array:
        distance_BL, _ = nearest_left(jump_BL)

        def draw(left_B, position):
            log_destination_BS, jump_B, bits_B, distance_B = position
            log_potential_BS = potential(self.log_potential_DSS, distance_B, left_B)
            token_B = inverse_cdf(log_destination_BS + log_potential_BS, bits_B)
            return jnp.where(jump_B, token_B, left_B), token_B

        positions = self.log_destination_BLS, jump_BL, bits_BL, distance_BL
        positions = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), positions)
        return jax.lax.scan(draw, jnp.zeros(jump_BL.shape[0], jnp.int32), positions)[1].T

    def destination_log_prob(self, token_BL: jax.Array, jump_BL: jax.Array) -> jax.Array:
        token_BL = self._readable(token_BL)
        distance_BL, left_BL = nearest_left(jump_BL)
        left_BL = jnp.take_along_axis(token_BL, left_BL, 1)
        log_potential_BLS = potential(self.log_potential_DSS, distance_BL, left_BL)
        return self._chosen(self.log_destination_BLS + log_potential_BLS, token_BL)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ChainTransition(Transition):
    """A transition in which every position is drawn anew, given the token drawn to its left.

    Attributes:
        log_potential_SS: potentials (token to the left, own token).
    """

    log_potential_SS: jax.Array

    def sample(self, jump_uniform_BL: jax.Array, token_bits_BL: jax.Array) -> jax.Array:
        del jump_uniform_BL
        return self.chain().sample(token_bits_BL)

    def log_prob(self, next_BL: jax.Array) -> jax.Array:
        return self.chain().log_prob(next_BL)

    def kl_from(self, other: Transition) -> jax.Array:
        return self.chain().kl_from(jnp.exp(other.log_distribution()))

    def chain(self) -> "Chain":
        """The joint distribution of the next tokens."""
        return tilted_chain(self.log_distribution(), self.log_potential_SS)


class Chain(NamedTuple):
    """Position i takes token v in proportion to exp(log_base[i, v] + log_potential[token at i - 1, v]).

    Attributes:
        log_base_BLS: unnormalized log-probabilities without the token to the left.
        log_potential_LS: potentials (S + 1, S); the last row, zeros, is what the first position reads.
    """

    log_base_BLS: jax.Array
    log_potential_LS: jax.Array

    def sample(self, bits_BL: jax.Array) -> jax.Array:
        """Tokens (B, L) from random bits of every position."""

        def draw(left_B, position):
            log_base_BS, bits_B = position
            token_B = inverse_cdf(log_base_BS + self.log_potential_LS[left_B], bits_B)
            return token_B, token_B

        first_B = jnp.full(bits_BL.shape[0], self.log_base_BLS.shape[-1], jnp.int32)
        return jax.lax.scan(draw, first_B, (jnp.moveaxis(self.log_base_BLS, 1, 0), bits_BL.T))[1].T

    def log_prob(self, token_BL: jax.Array) -> jax.Array:
        """Log-probability (B, L) of tokens, each given the one to its left."""
        first = self.log_base_BLS.shape[-1]
        left_BL = jnp.pad(token_BL[:, :-1], ((0, 0), (1, 0)), constant_values=first)
        log_prob_BLS = jax.nn.log_softmax(self.log_base_BLS + self.log_potential_LS[left_BL])
        return jnp.take_along_axis(log_prob_BLS, token_BL[..., None], -1)[..., 0]

    def kl_from(self, probs_BLS: jax.Array) -> jax.Array:
        """KL(probs || this) in nats (B, L) of independent positions, summed exactly over the tokens to the left."""
        left_BLS = jnp.pad(probs_BLS[:, :-1], ((0, 0), (1, 0), (0, 1)))
        left_BLS = left_BLS.at[:, 0, -1].set(1.0)
        top_BL1 = jax.lax.stop_gradient(self.log_base_BLS.max(-1, keepdims=True))
        mass_BLS = _matmul(jnp.exp(self.log_base_BLS - top_BL1), jnp.exp(self.log_potential_LS).T)
        own_BL = (probs_BLS * jnp.where(probs_BLS > 0, self.log_base_BLS, 0.0)).sum(-1)
        pair_BL = (_matmul(left_BLS, self.log_potential_LS) * probs_BLS).sum(-1)
        entropy_BL = -jax.scipy.special.xlogy(probs_BLS, probs_BLS).sum(-1)
        return (left_BLS * jnp.log(mass_BLS)).sum(-1) + top_BL1[..., 0] - own_BL - pair_BL - entropy_BL


def tilted_chain(log_probs_BLS: jax.Array, log_potential_SS: jax.Array) -> Chain:
    """The joint distribution of a step whose positions alone would have `log_probs` (normalized), tilted by potentials.

    A potential is read against its mean under the network's own distribution of the token to the left: what the network knows
    of that token is in its marginals already and must not be counted twice. Where the network knows nothing this is Bayes' rule
    for a Markov chain with exp(log_potential) as its transitions. Where it knows the token, the potential changes nothing.
    """
    mean_BLS = _matmul(jnp.exp(log_probs_BLS[:, :-1]), jnp.exp(log_potential_SS))
    log_base_BLS = log_probs_BLS - jnp.pad(jnp.log(mean_BLS), ((0, 0), (1, 0), (0, 0)))
    return Chain(log_base_BLS, jnp.pad(log_potential_SS, ((0, 1), (0, 0))))


def nearest_left(jump_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Distance to and index of the nearest jumping position to the left, each (B, L); distance 0 where there is none."""
    position_L = jnp.arange(jump_BL.shape[1])
    latest_BL = jax.lax.cummax(jnp.where(jump_BL, position_L[None], -1), axis=1)
    left_BL = jnp.pad(latest_BL[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return jnp.where(left_BL < 0, 0, position_L[None] - left_BL), jnp.maximum(left_BL, 0)


def potential(log_potential_DSS: jax.Array | Factors, distance: jax.Array, left: jax.Array) -> jax.Array:
    """Potentials (..., S) of every token, given distance (...) and token (...) to the left; zeros at distances not held."""
    if isinstance(log_potential_DSS, Factors):
        return _product(log_potential_DSS, distance, left)
    reach = log_potential_DSS.shape[0]
    found = log_potential_DSS[jnp.clip(distance - 1, 0, reach - 1), left]
    return jnp.where(((distance > 0) & (distance <= reach))[..., None], found, 0.0)


def _product(factors: Factors, distance: jax.Array, left: jax.Array) -> jax.Array:
    """One matrix product for all distances: the rows of the other distances are zero, and none of (..., R, S) is gathered."""
    reach, _, rank = factors.left_DSR.shape
    said = factors.left_DSR[jnp.clip(distance - 1, 0, reach - 1), left]
    at = jax.nn.one_hot(distance - 1, reach, dtype=said.dtype)
    rows = (at[..., None] * said[..., None, :]).reshape(*distance.shape, reach * rank)
    return _matmul(rows, factors.own_DRS.reshape(reach * rank, -1))
