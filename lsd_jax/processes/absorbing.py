"""The absorbing (masking) process: every token jumps to the mask at rate sigma(t) and stays there."""

import dataclasses

import jax
import jax.numpy as jnp

from lsd_jax.errors import InputError
from lsd_jax.processes.draws import fine_uniform
from lsd_jax.processes.noise import Noise, check_states
from lsd_jax.processes.potentials import Factors, PairTransition
from lsd_jax.processes.soft import SOFT_FLOOR, is_soft
from lsd_jax.processes.transition import Transition, jump_where

_IMPOSSIBLE = -1e9  # finite, so that no gradient is infinity minus infinity


@dataclasses.dataclass(frozen=True)
class Absorbing:
    """Masking diffusion over `vocab_size` data tokens; the mask has index `vocab_size`.

    `log_score` is meaningful at masked positions only. Methods are documented in `processes/process.py`.

    Attributes:
        vocab_size: number of data tokens.
        noise: the schedule.
        lengths: of sequences of different lengths, the share of each length 0, 1, ..., L. The last data token is then the pad,
            which follows a sequence up to L. Noise never touches a pad, so that a sampler draws the length first, from these
            shares, and spends nothing on pads. (): every sequence has L tokens, and there is no pad.

    Raises:
        ValueError: shares that are no distribution.
    """

    vocab_size: int
    noise: Noise
    lengths: tuple[float, ...] = ()

    def __post_init__(self):
        check_states(self.vocab_size, self.noise)
        try:  # a list, from a JSON file; numpy's numbers
            object.__setattr__(self, "lengths", tuple(float(share) for share in self.lengths))
        except (TypeError, ValueError):
            raise InputError(f"lengths={self.lengths!r}: must be numbers, one of each length 0, 1, ...") from None
        if self.lengths and not (min(self.lengths) >= 0 and abs(sum(self.lengths) - 1) < 1e-3):
            raise InputError(f"lengths={self.lengths}: must be shares that sum to one, one of each length 0, 1, ...")

    name = "absorbing"
    jumps_once = True
    ordered = False
    score_is_posterior = True

    @property
    def num_states(self) -> int:
        return self.vocab_size + 1

    @property
    def mask(self) -> int:
        return self.vocab_size

    @property
    def pad(self) -> int | None:
        """The token that noise never touches; None without one."""
        return self.vocab_size - 1 if self.lengths else None

    @property
    def longest(self) -> int | None:
        """L, where the process knows the shares of lengths up to it; else None."""
        return len(self.lengths) - 1 if self.lengths else None

    def _is_pad(self, x: jax.Array) -> jax.Array:
        return jnp.zeros(x.shape, bool) if self.pad is None else x == self.pad

    def _masked_where(self, masked: jax.Array, x0: jax.Array) -> jax.Array:
        return jnp.where(masked if self.pad is None else masked & (x0 != self.pad), self.mask, x0)

    def start(self, x0_BL: jax.Array) -> jax.Array:
        """The state at time 1 of every sampler's path to x_0: masks, and the pads."""
        return self._masked_where(jnp.ones(x0_BL.shape, bool), x0_BL)

    def possible(self, logits_BLS: jax.Array) -> jax.Array:
        """Logits in which no mask can become a pad."""
        if self.pad is None:
            return logits_BLS
        return logits_BLS.at[..., self.pad].set(_IMPOSSIBLE)

    def mask_probability(self, t: jax.Array) -> jax.Array:
        """m(t) = 1 - exp(-sigma_bar(t))."""
        return -jnp.expm1(-self.noise.sigma_bar(t))

    def mask_share(self, t: jax.Array) -> jax.Array:
        """m(t) / m(1): the share of positions that a sampler, which starts from all masks, has masked at time t."""
        return self.mask_probability(t) / self.mask_probability(jnp.ones(()))

    def time_of(self, mask_probability: jax.Array) -> jax.Array:
        """The time at which a share `mask_probability` of the positions is masked."""
        return self.noise.inverse(-jnp.log1p(-mask_probability))

    def prior_sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        if self.pad is None:
            return jnp.full(shape, self.mask, jnp.int32)
        self.check_length(shape[-1])
        length = jax.random.categorical(key, jnp.log(jnp.asarray(self.lengths)), shape=(*shape[:-1], 1))
        return self._masks_then_pads(shape, length)

    def prior_log_prob(self, x: jax.Array) -> jax.Array:
        if self.pad is None:
            return jnp.where(x == self.mask, 0.0, -jnp.inf).sum(-1)
        length = (x == self.mask).sum(-1, keepdims=True)
        whole = (x == self._masks_then_pads(x.shape, length)).all(-1)
        return jnp.where(whole, jnp.log(jnp.asarray(self.lengths))[length[..., 0]], -jnp.inf)

    def _masks_then_pads(self, shape: tuple[int, ...], length: jax.Array) -> jax.Array:
        place = jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
        return jnp.where(place < length, self.mask, self.pad)

    def check_length(self, length: int) -> None:
        """Raises ValueError where the shares of lengths are not those of sequences of `length` positions."""
        if self.lengths and len(self.lengths) != length + 1:
            raise InputError(f"length={length}: the process knows lengths up to {len(self.lengths) - 1}")

    def corrupt(self, key: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        masked = jax.random.uniform(key, x0.shape) < self.mask_probability(t)
        return self._masked_where(masked, x0)

    def path_uniforms(self, key: jax.Array, length: int) -> jax.Array:
        """The reveal thresholds (L,) of one sequence."""
        return fine_uniform(key, (length,))

    def noised(self, uniforms: jax.Array, x0_BL: jax.Array, t: jax.Array) -> jax.Array:
        """The state of a sampler's path to x_0: a position is masked while m(t) / m(1) is above its threshold."""
        return self._masked_where(uniforms < self.mask_share(t), x0_BL)

    def marginal(self, x0: jax.Array, t: jax.Array) -> jax.Array:
        m = jnp.where(self._is_pad(x0), 0.0, self.mask_probability(t))
        kept = (1 - m)[..., None] * jax.nn.one_hot(x0, self.num_states)
        return kept + m[..., None] * jax.nn.one_hot(jnp.full_like(x0, self.mask), self.num_states)

    def log_likelihood(self, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        if is_soft(x_BL):
            # A mask says nothing at any factor. At this one it weighs what the average token does, so that a gradient from
            # mask to token has about the size of the change: at one, those toward a rare token are many times too large.
            soft_BLS = x_BL[..., : self.vocab_size] + x_BL[..., self.mask :] / self.vocab_size
            return jnp.log(soft_BLS + SOFT_FLOOR)
        match_BLS = jax.nn.one_hot(x_BL, self.vocab_size) > 0
        # A pad is never a mask's, but its own.
        return jnp.where((self.reverse_base_rate(x_BL) > 0) | match_BLS, 0.0, -jnp.inf)

    def forward_log_prob(self, x_BL: jax.Array, earlier_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        delta = self.noise.sigma_bar(t) - self.noise.sigma_bar(u)
        masked_BL = jnp.where(earlier_BL == self.mask, 0.0, jnp.log(-jnp.expm1(-delta)))
        return jnp.where(x_BL == self.mask, masked_BL, jnp.where(self._is_pad(x_BL), 0.0, -delta))

    def bridge(self, x_BL: jax.Array, x0_BL: jax.Array, t: jax.Array, u: jax.Array) -> Transition:
        kept = self.mask_probability(u) / self.mask_probability(t)
        log_stay_BL = jnp.where(x_BL == self.mask, jnp.log(kept), 0.0)
        data_BLS = jax.nn.one_hot(x0_BL, self.vocab_size) > 0
        return Transition(x_BL, log_stay_BL, jnp.where(data_BLS, 0.0, -jnp.inf))

    def rate_matrix(self) -> jax.Array:
        """Q (S + 1, S + 1), row = from, with unit total rate out of a data token."""
        noised = self.mask if self.pad is None else self.pad
        to_mask = jnp.zeros((self.num_states, self.num_states)).at[:noised, self.mask].set(1.0)
        return to_mask - jnp.diag(to_mask.sum(1))

    def reverse_base_rate(self, x: jax.Array) -> jax.Array:
        rate = jnp.broadcast_to((x == self.mask)[..., None].astype(jnp.float32), (*x.shape, self.vocab_size))
        return rate if self.pad is None else rate.at[..., self.pad].set(0.0)

    def add_forward(self, mean_BLS: jax.Array, x_BL: jax.Array, scale: jax.Array) -> jax.Array:
        to_mask_BL = jnp.where((x_BL == self.mask) | self._is_pad(x_BL), 0.0, scale)
        return jnp.concatenate([mean_BLS, to_mask_BL[..., None]], -1)

    def log_score(self, log_posterior_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """exp(-sigma_bar) / (1 - exp(-sigma_bar)) p(v) at masked positions (SEDD, Lou et al. 2024, section 3.3)."""
        del x_BL
        return log_posterior_BLS - jnp.log(jnp.expm1(self.noise.sigma_bar(t)))

    def log_score_of_mean(self, log_mean_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """As `log_score`: a mask tells nothing, so leaving out the position itself changes nothing."""
        return self.log_score(log_mean_BLS, x_BL, t)

    def log_score_of_sedd(self, logits_BLS: jax.Array, x_BL: jax.Array, sigma_bar: jax.Array) -> jax.Array:
        """SEDD's output scaling: minus log(expm1(sigma_bar)) and log S."""
        del x_BL
        scale = jnp.log(jnp.expm1(jnp.asarray(sigma_bar))) + jnp.log(self.vocab_size)
        return logits_BLS - jnp.reshape(scale, (-1, 1, 1))

    def log_concrete_score(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        del x_BL, t
        return log_score_BLS

    def masked(self, x: jax.Array, log_score_BLS: jax.Array) -> jax.Array:
        """Zeros at revealed positions: of a token that it sees, an exact denoiser says log 0, whose gradient is not a number.

        The log-score of soft tokens is finite already.
        """
        return log_score_BLS if is_soft(x) else jnp.where((x == self.mask)[..., None], log_score_BLS, 0.0)

    def log_clean(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        del x_BL, t
        return log_score_BLS

    def settle(self, x_BL: jax.Array, log_clean_BLS: jax.Array) -> Transition:
        """Every mask is revealed."""
        return Transition(x_BL, jnp.where(x_BL == self.mask, -jnp.inf, 0.0), log_clean_BLS)

    def jump(self, x_BL: jax.Array, log_mass_BLS: jax.Array) -> Transition:
        return jump_where(x_BL, log_mass_BLS, x_BL == self.mask)

    def euler_log_mass(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        del x_BL
        return log_score_BLS + jnp.log((t - u) * self.noise.sigma(t))

    def tweedie_log_mass(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        """Mass expm1(sigma_bar(t) - sigma_bar(u)) s(v)."""
        del x_BL
        return log_score_BLS + jnp.log(jnp.expm1(self.noise.sigma_bar(t) - self.noise.sigma_bar(u)))

    def ancestral_log_mass(
        self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array, factor: jax.Array | float
    ) -> jax.Array:
        """Mass factor (m(t) - m(u)) / m(t) p(v)."""
        del x_BL
        m_t, m_u = self.mask_probability(t), self.mask_probability(u)
        return jax.nn.log_softmax(log_score_BLS) + jnp.log(factor * (m_t - m_u) / m_t)

    def coupled(self, transition: Transition, log_potential_DSS: jax.Array | Factors) -> Transition:
        """Potentials between tokens revealed in the same step."""
        fields = transition.x_BL, transition.log_stay_BL, transition.log_destination_BLS
        return PairTransition(*fields, log_potential_DSS)
