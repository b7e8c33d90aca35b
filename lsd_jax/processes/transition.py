"""What a kernel returns: the distribution of one step at every position, in jump form."""

import dataclasses

import jax
import jax.numpy as jnp

from lsd_jax.processes.draws import inverse_cdf

# Below this the logarithm of the probability of jumping would be -inf, whose gradient is not a number.
_LEAST_STAY = -1e-30
# A jump never quite reaches probability one before the last step, so that log-probabilities and gradients stay finite.
_MAX_JUMP = 1 - 1e-6


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Transition:
    """Stay with probability exp(log_stay), else draw a data token in proportion to exp(log_destination).

    Positions are independent of each other. `processes/potentials.py` has the transitions whose tokens are not.

    Attributes:
        x_BL: the tokens the step starts from (int32).
        log_stay_BL: log-probability of keeping the token.
        log_destination_BLS: unnormalized log-probabilities of the data token jumped to.
    """

    x_BL: jax.Array
    log_stay_BL: jax.Array
    log_destination_BLS: jax.Array

    def sample(self, jump_uniform_BL: jax.Array, token_bits_BL: jax.Array) -> jax.Array:
        """The next tokens from a uniform per position for whether to jump, and random bits for where to (inverse CDF).

        Two draws keep the probability of a jump exact: a float32 categorical over "stay" and S tokens loses everything
        below about 1e-7, which a teacher of a thousand steps needs.
        """
        jump_BL = self.jumps(jump_uniform_BL)
        next_BL = jnp.where(jump_BL, self.draw_destinations(jump_BL, token_bits_BL), self.x_BL)
        return jnp.where(self.x_BL < 0, self.x_BL, next_BL)  # what was no number once is no token later

    def jumps(self, jump_uniform_BL: jax.Array) -> jax.Array:
        """Which positions (B, L) jump; also where the probability is not a number, so that the draw is not one either."""
        return (jump_uniform_BL < -jnp.expm1(self.log_stay_BL)) | jnp.isnan(self.log_stay_BL)

    def draw_destinations(self, jump_BL: jax.Array, bits_BL: jax.Array) -> jax.Array:
        """The token (B, L) that every position would jump to, given which positions jump."""
        del jump_BL
        return inverse_cdf(self.log_destination_BLS, bits_BL)

    @property
    def log_jump_BL(self) -> jax.Array:
        """Log-probability of jumping, (B, L)."""
        return jnp.log(-jnp.expm1(jnp.minimum(self.log_stay_BL, _LEAST_STAY)))

    def log_prob(self, next_BL: jax.Array) -> jax.Array:
        """Log-probability (B, L) of moving to tokens `next_BL` at each position, given the positions to its left."""
        moved_BL = self.log_jump_BL + self.destination_log_prob(next_BL, next_BL != self.x_BL)
        return jnp.where(next_BL == self.x_BL, self.log_stay_BL, moved_BL)

    def destination_log_prob(self, token_BL: jax.Array, jump_BL: jax.Array) -> jax.Array:
        """Log-probability (B, L) of token_BL given which positions jump and the tokens to the left; unused elsewhere."""
        return self._chosen(self.log_destination_BLS, self._readable(token_BL))

    def _readable(self, token_BL: jax.Array) -> jax.Array:
        """Tokens that index the destinations: a mask, whose value nobody reads, becomes token 0."""
        return jnp.where(token_BL < self.log_destination_BLS.shape[-1], token_BL, 0)

    @staticmethod
    def _chosen(log_destination_BLS: jax.Array, token_BL: jax.Array) -> jax.Array:
        chosen_BL = jnp.take_along_axis(log_destination_BLS, token_BL[..., None], -1)[..., 0]
        return chosen_BL - jax.nn.logsumexp(log_destination_BLS, -1)

    def probabilities(self) -> tuple[jax.Array, jax.Array]:
        """The probability of staying (B, L) and of jumping to each data token (B, L, S), positions taken as independent."""
        stay_BL = jnp.exp(self.log_stay_BL)
        return stay_BL, (1 - stay_BL)[..., None] * jax.nn.softmax(self.log_destination_BLS)

    def log_distribution(self) -> jax.Array:
        """Log-probabilities (B, L, S) of the next token, staying included, positions independent; x_BL are data tokens."""
        here_BLS = jax.nn.one_hot(self.x_BL, self.log_destination_BLS.shape[-1]) > 0
        moved_BLS = self.log_jump_BL[..., None] + jax.nn.log_softmax(self.log_destination_BLS)
        return jnp.where(here_BLS, self.log_stay_BL[..., None], moved_BLS)

    def kl_from(self, other: "Transition") -> jax.Array:
        """KL(other || self) in nats at every position, (B, L).

        Both start from the same tokens, and the positions of `other` are independent.
        """
        stay_BL, jump_BLS = other.probabilities()
        log_own_BLS = self.log_jump_BL[..., None] + jax.nn.log_softmax(self.log_destination_BLS)
        log_stay_BL = jnp.where(stay_BL > 0, self.log_stay_BL, 0.0)
        stay_part_BL = jax.scipy.special.xlogy(stay_BL, stay_BL) - stay_BL * log_stay_BL
        log_own_BLS = jnp.where(jump_BLS > 0, log_own_BLS, 0.0)
        return stay_part_BL + (jax.scipy.special.xlogy(jump_BLS, jump_BLS) - jump_BLS * log_own_BLS).sum(-1)


def from_log_probs(x_BL: jax.Array, log_mass_BLS: jax.Array) -> Transition:
    """The transition whose distribution over all tokens, the present one included, is proportional to exp(log_mass)."""
    log_probs_BLS = jax.nn.log_softmax(log_mass_BLS)
    here_BLS = jax.nn.one_hot(x_BL, log_probs_BLS.shape[-1]) > 0
    log_destination_BLS = jnp.where(here_BLS, -jnp.inf, log_probs_BLS)
    # The probabilities of jumping and of staying are each computed in the form that keeps their digits.
    log_jump_BL = jnp.minimum(jax.nn.logsumexp(log_destination_BLS, -1), 0.0)
    log_stay_BL = jnp.where(here_BLS, log_probs_BLS, 0.0).sum(-1)
    log_stay_BL = jnp.where(log_jump_BL < -1.0, jnp.log1p(-jnp.exp(log_jump_BL)), log_stay_BL)
    log_stay_BL = jnp.where(jnp.isnan(log_mass_BLS.sum(-1)), jnp.nan, log_stay_BL)
    return Transition(x_BL, log_stay_BL, log_destination_BLS)


def jump_where(x_BL: jax.Array, log_mass_BLS: jax.Array, movable_BL: jax.Array | None = None) -> Transition:
    """A transition from the log-probability of jumping to each data token, which may sum to more than one.

    Args:
        x_BL: the tokens the step starts from.
        log_mass_BLS: log-probabilities of jumping.
        movable_BL: which positions can jump; None for all, whose present token is then no destination.
    """
    if movable_BL is None:
        # A large negative number instead of -inf, so that the gradient with respect to the temperature is 0, not NaN.
        here_BLS = jax.nn.one_hot(x_BL, log_mass_BLS.shape[-1]) > 0
        log_mass_BLS = jnp.where(here_BLS, -1e30, log_mass_BLS)
    log_total_BL = jax.nn.logsumexp(log_mass_BLS, -1)
    log_stay_BL = jnp.log1p(-jnp.minimum(jnp.exp(log_total_BL), _MAX_JUMP))
    if movable_BL is not None:
        log_stay_BL = jnp.where(movable_BL, log_stay_BL, 0.0)
    return Transition(x_BL, log_stay_BL, normalized(log_mass_BLS, log_total_BL))


def normalized(log_mass_BLS: jax.Array, log_total_BL: jax.Array) -> jax.Array:
    """log_mass less the logarithm of its sum; what is nowhere possible stays so.

    A draw does not need it, but XLA's memory does: the sum then has one reader, and the array before it is freed
    (measurements/sampler_memory.py: one array of the vocabulary's size less).
    """
    return log_mass_BLS - jnp.maximum(log_total_BL, -1e30)[..., None]
