"""What a kernel returns: one step's law at every position, in jump form."""

import dataclasses

import jax
import jax.numpy as jnp

from lsd_jax.samplers.draws import inverse_cdf
from lsd_jax.samplers.redraw import Redraw, redraw


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transition:
    """Stay with probability exp(log_stay), else draw a data token in proportion to exp(log_destination).

    Attributes:
        x_BL: the tokens the step starts from (int32).
        log_stay_BL: log-probability of keeping the token.
        log_destination_BLS: unnormalised log-probabilities of the data token jumped to.
        log_neighbour_DSS: potentials (distance - 1, token to the left, own token), added between a position that jumps and
            the nearest one to its left that jumps in the same step, up to D apart; None draws independently.
        redraws: the potentials, of distance one, act on the whole law of every position instead, staying included
            (samplers/redraw.py): under uniform noise no token is settled by staying.
    """

    x_BL: jax.Array
    log_stay_BL: jax.Array
    log_destination_BLS: jax.Array
    log_neighbour_DSS: jax.Array | None = None
    redraws: bool = dataclasses.field(default=False, metadata={"static": True})

    def sample(self, jump_uniform_BL: jax.Array, token_uniform_BL: jax.Array) -> jax.Array:
        """The next tokens from two uniforms a position, one for whether to jump and one for where to (inverse CDF).

        Two draws keep the probability of a jump exact: a float32 categorical over "stay" and S tokens loses everything
        below about 1e-7, which a teacher of a thousand steps lives on.
        """
        if (joint := self.redraw()) is not None:
            return joint.sample(token_uniform_BL)
        jump_BL = self.jumps(jump_uniform_BL)
        if self.log_neighbour_DSS is None:
            token_BL = inverse_cdf(self.log_destination_BLS, token_uniform_BL)
        else:
            token_BL = self._from_left_to_right(jump_BL, token_uniform_BL)
        return jnp.where(jump_BL, token_BL, self.x_BL)

    def jumps(self, jump_uniform_BL: jax.Array) -> jax.Array:
        """Which positions (B, L) jump."""
        return jump_uniform_BL < -jnp.expm1(self.log_stay_BL)

    def _from_left_to_right(self, jump_BL: jax.Array, uniform_BL: jax.Array) -> jax.Array:
        distance_BL, _ = nearest_left(jump_BL)

        def draw(left_B, position):
            log_destination_BS, jump_B, uniform_B, distance_B = position
            log_potential_BS = _potential(self.log_neighbour_DSS, distance_B, left_B)
            token_B = inverse_cdf(log_destination_BS + log_potential_BS, uniform_B)
            return jnp.where(jump_B, token_B, left_B), token_B

        positions = self.log_destination_BLS, jump_BL, uniform_BL, distance_BL
        positions = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), positions)
        return jax.lax.scan(draw, jnp.zeros(jump_BL.shape[0], jnp.int32), positions)[1].T

    def log_prob(self, next_BL: jax.Array) -> jax.Array:
        """log-probability (B, L) of moving to tokens `next_BL` at each position, given the positions to its left."""
        if (joint := self.redraw()) is not None:
            return joint.log_prob(next_BL)
        log_jump_BL = jnp.log(-jnp.expm1(jnp.minimum(self.log_stay_BL, -1e-30)))
        moved_BL = log_jump_BL + self.destination_log_prob(next_BL, next_BL != self.x_BL)
        return jnp.where(next_BL == self.x_BL, self.log_stay_BL, moved_BL)

    def destination_log_prob(self, token_BL: jax.Array, jump_BL: jax.Array) -> jax.Array:
        """log-probability (B, L) of token_BL given which positions jump and the tokens to the left; unused elsewhere."""
        token_BL = jnp.where(token_BL < self.log_destination_BLS.shape[-1], token_BL, 0)  # a mask reads token 0
        log_destination_BLS = self.log_destination_BLS
        if self.log_neighbour_DSS is not None:
            distance_BL, left_BL = nearest_left(jump_BL)
            left_BL = jnp.take_along_axis(token_BL, left_BL, 1)
            log_destination_BLS += _potential(self.log_neighbour_DSS, distance_BL, left_BL)
        chosen_BL = jnp.take_along_axis(log_destination_BLS, token_BL[..., None], -1)[..., 0]
        return chosen_BL - jax.nn.logsumexp(log_destination_BLS, -1)

    def probabilities(self) -> tuple[jax.Array, jax.Array]:
        """(probability of staying (B, L), probability of jumping to each data token (B, L, S)) without neighbours."""
        stay_BL = jnp.exp(self.log_stay_BL)
        return stay_BL, (1 - stay_BL)[..., None] * jax.nn.softmax(self.log_destination_BLS)

    def log_law(self) -> jax.Array:
        """log-probabilities (B, L, S) of the next token, staying included, without neighbours; x_BL are data tokens."""
        here_BLS = jax.nn.one_hot(self.x_BL, self.log_destination_BLS.shape[-1]) > 0
        log_jump_BL = jnp.log(-jnp.expm1(jnp.minimum(self.log_stay_BL, -1e-30)))
        moved_BLS = log_jump_BL[..., None] + jax.nn.log_softmax(self.log_destination_BLS)
        return jnp.where(here_BLS, self.log_stay_BL[..., None], moved_BLS)

    def redraw(self) -> Redraw | None:
        """The joint law of the next tokens where potentials act on whole laws, else None."""
        if not self.redraws or self.log_neighbour_DSS is None:
            return None
        return redraw(self.log_law(), self.log_neighbour_DSS[0])


def nearest_left(jump_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Distance to and index of the nearest jumping position to the left, each (B, L); distance 0 where there is none."""
    position_L = jnp.arange(jump_BL.shape[1])
    latest_BL = jax.lax.cummax(jnp.where(jump_BL, position_L[None], -1), axis=1)
    left_BL = jnp.pad(latest_BL[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return jnp.where(left_BL < 0, 0, position_L[None] - left_BL), jnp.maximum(left_BL, 0)


def _potential(log_neighbour_DSS: jax.Array, distance: jax.Array, left: jax.Array) -> jax.Array:
    reach = log_neighbour_DSS.shape[0]
    found = log_neighbour_DSS[jnp.clip(distance - 1, 0, reach - 1), left]
    return jnp.where(((distance > 0) & (distance <= reach))[..., None], found, 0.0)


def fine_uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniforms in (0, 1) from 32 bits each, so that an event of probability 1e-8 keeps its frequency in float32.

    `jax.random.uniform` has 23 bits: it returns multiples of 1.2e-7.
    """
    bits = jax.random.bits(key, shape, jnp.uint32)
    return jnp.minimum((bits.astype(jnp.float32) + 0.5) * 2.0**-32, 1 - 2.0**-24)
