"""The discretized Gaussian process over ordinal states: tauLDR's `GaussianTargetRate` (Campbell et al. 2022, appendix E).

States next to each other exchange at a high rate, distant ones hardly ever, and the stationary distribution is a Gaussian over
the states. The matrix exponential is a product of matrices without a negative entry, tabulated in float64 on the host, so that in
float32 even its smallest entries have a small relative error. An eigendecomposition in float32 has errors of 3e-7: over a
thousand steps that noise would cause thousands of spurious jumps.

What is passed around as `log_score` is log p(x_0 = v | x_t) here. The posterior gives the score, a smooth average of it, but no
floating-point inverse gives the posterior back, and steps of any size need it. `log_concrete_score` is the score itself.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.processes.draws import counts_of, random_bits, share_of
from lsd_jax.processes.noise import Noise, check_states
from lsd_jax.processes.potentials import Factors
from lsd_jax.processes.soft import SOFT_FLOOR, is_soft
from lsd_jax.processes.transition import Transition, from_log_probs, jump_where

_TERMS = 14  # of the exponential's series, whose argument is below one
_BASE = 8  # digits of a duration, each with its own table

# tauLDR's eps_ratio, added to q(x_t | x_0) before a posterior is divided by it. Without it, tiny network probabilities on
# impossible values are divided by about zero and dominate the sum.
EPS_RATIO = 1e-9


@dataclasses.dataclass(frozen=True)
class DiscretizedGaussian:
    """Diffusion over `vocab_size` ordered states.

    Attributes:
        noise: its sigma(t) is tauLDR's time-dependent scalar, `Exponential` there.
        rate_sigma: how far one jump reaches, in states.
        q_sigma: the stationary distribution's standard deviation, in states; far above vocab_size it is nearly uniform.
    """

    vocab_size: int
    noise: Noise
    rate_sigma: float = 6.0
    q_sigma: float = 512.0

    def __post_init__(self):
        check_states(self.vocab_size, self.noise)
        for field in ("rate_sigma", "q_sigma"):
            if not 0 < getattr(self, field) < math.inf:
                raise InputError(f"{field}={getattr(self, field)!r}: must be above 0")

    name = "gaussian"
    jumps_once = False
    longest = None
    ordered = True
    score_is_posterior = True

    @property
    def num_states(self) -> int:
        return self.vocab_size

    def prior_sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        cumulative_S = jnp.cumsum(counts_of(jnp.asarray(self._prior, jnp.float32)))
        target = share_of(random_bits(key, shape), cumulative_S[-1])
        return jnp.searchsorted(cumulative_S, target, side="right").astype(jnp.int32)

    def prior_log_prob(self, x: jax.Array) -> jax.Array:
        return jnp.asarray(np.log(self._prior), jnp.float32)[x].sum(-1)

    def prior_kl(self, x0_BL: jax.Array) -> jax.Array:
        probs_SS = self.marginal(jnp.arange(self.vocab_size), jnp.ones(()))
        log_prior_S = self.prior_log_prob(jnp.arange(self.vocab_size)[:, None])
        kl_S = (probs_SS * (jnp.log(probs_SS) - log_prior_S[None])).sum(-1)
        return kl_S[x0_BL].sum(-1)

    def corrupt(self, key: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        """Draws x_t given x_0; `t` is a scalar, or (B, 1) against x0 (B, L)."""
        t = jnp.asarray(t)
        if t.ndim:
            time_B = jnp.broadcast_to(t, (len(x0), 1))[:, 0]
            return jax.vmap(self.corrupt)(jax.random.split(key, len(x0)), x0, time_B)
        return self.quantile(random_bits(key, x0.shape), x0, t)

    def path_uniforms(self, key: jax.Array, length: int) -> jax.Array:
        """Random bits (L,) of one sequence."""
        return random_bits(key, (length,))

    def noised(self, uniforms: jax.Array, x0_BL: jax.Array, t: jax.Array) -> jax.Array:
        return self.quantile(uniforms, x0_BL, t)

    def quantile(self, bits: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        """x_t from random bits per position and x_0 (int32), t scalar: the inverse of q(x_t | x_0)'s distribution function.

        A bisection over the (S, S) table: no array of size S per position is made.
        """
        cumulative_SS = jnp.cumsum(counts_of(self.transition(self.noise.sigma_bar(t))), -1)
        target = share_of(bits, cumulative_SS[x0, -1])
        low, high = jnp.zeros_like(x0, jnp.int32), jnp.full_like(x0, self.vocab_size - 1, jnp.int32)
        for _ in range(max(1, math.ceil(math.log2(self.vocab_size)))):
            middle = (low + high) // 2
            above = cumulative_SS[x0, middle] <= target
            low, high = jnp.where(above, jnp.minimum(middle + 1, high), low), jnp.where(above, high, middle)
        return low

    def marginal(self, x0: jax.Array, t: jax.Array) -> jax.Array:
        """q(x_t | x_0) as probabilities (..., S); t scalar or of x0's shape."""
        transition = self.transition(self.noise.sigma_bar(jnp.asarray(t)))
        if transition.ndim == 2:
            return transition[x0]
        return jnp.take_along_axis(transition, x0[..., None, None], -2)[..., 0, :]

    def transition(self, delta_sigma_bar: jax.Array) -> jax.Array:
        """exp(delta_sigma_bar Q) (..., S, S), row = from; no entry is negative.

        The duration is written as digits times powers of the base, and a rest below one mean jump, each factor's matrix
        looked up or summed. Beyond sigma_bar(1), rounded up to a whole digit, it stays where it is.
        """
        tables, powers, fastest = _factors(*self._matrix, self._longest)
        scaled = jnp.maximum(jnp.asarray(delta_sigma_bar, jnp.float32) * fastest, 0.0)
        whole = jnp.minimum(jnp.floor(jax.lax.stop_gradient(scaled)), _BASE ** len(tables) - 1.0)
        rest = jnp.minimum(scaled - whole, 1.0)
        weights = [jnp.exp(-rest) * rest**k * (1.0 / math.factorial(k)) for k in range(_TERMS)]
        product = jnp.einsum("...k,kij->...ij", jnp.stack(weights, -1), powers, precision="highest")
        whole = whole.astype(jnp.int32)
        for place, table in enumerate(tables):
            digit = whole // _BASE**place % _BASE
            product = jnp.matmul(product, jnp.asarray(table)[digit], precision="highest")
        return product

    def log_transition(self, delta_sigma_bar: jax.Array) -> jax.Array:
        """The logarithm of `transition`, at least that of float32's smallest number, -87."""
        return jnp.log(jnp.maximum(self.transition(delta_sigma_bar), jnp.finfo(jnp.float32).tiny))

    def log_likelihood(self, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        sigma_bar = self.noise.sigma_bar(t)
        if is_soft(x_BL):
            return jnp.log(jnp.matmul(x_BL, self.transition(sigma_bar).T, precision="highest") + SOFT_FLOOR)
        return self.log_transition(sigma_bar).T[x_BL]

    def forward_log_prob(self, x_BL: jax.Array, earlier_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        return self.log_transition(self.noise.sigma_bar(t) - self.noise.sigma_bar(u))[earlier_BL, x_BL]

    def bridge(self, x_BL: jax.Array, x0_BL: jax.Array, t: jax.Array, u: jax.Array) -> Transition:
        sigma_bar_t, sigma_bar_u = self.noise.sigma_bar(t), self.noise.sigma_bar(u)
        log_forward = self.log_transition(sigma_bar_t - sigma_bar_u)
        return from_log_probs(x_BL, self.log_transition(sigma_bar_u)[x0_BL] + log_forward.T[x_BL])

    def rate_matrix(self) -> jax.Array:
        return jnp.asarray(base_rate(*self._matrix), jnp.float32)

    def reverse_base_rate(self, x: jax.Array) -> jax.Array:
        """Q(v, x) for every token v != x, (..., S), 0 at v = x."""
        rate = base_rate(*self._matrix)
        return jnp.asarray((rate - np.diag(np.diag(rate))).T, jnp.float32)[x]

    def add_forward(self, mean_BLS: jax.Array, x_BL: jax.Array, scale: jax.Array) -> jax.Array:
        return mean_BLS + scale * jnp.maximum(self.rate_matrix(), 0.0)[x_BL]

    def log_score(self, log_posterior_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """The log-posterior as it is (module docstring)."""
        del x_BL, t
        return log_posterior_BLS

    def log_score_of_mean(self, log_mean_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """Raises ValueError: no network of this kind exists for ordered states."""
        raise InputError("output='mean': is Duo's; the gaussian process reads 'posterior'")

    def possible(self, logits_BLS: jax.Array) -> jax.Array:
        return logits_BLS

    def check_length(self, length: int) -> None:
        del length

    def log_score_of_sedd(self, logits_BLS: jax.Array, x_BL: jax.Array, sigma_bar: jax.Array) -> jax.Array:
        """Raises ValueError: no posterior follows from a score here."""
        raise InputError("output='score': is SEDD's; the gaussian process reads 'posterior'")

    def log_concrete_score(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """log s, s(v) = sum_y p(y) q_t(v | y) / (q_t(x | y) + EPS_RATIO) (Campbell et al. 2022, prop. 3); 0 at v = x."""
        transition = self.transition(self.noise.sigma_bar(t))
        weight_BLS = jnp.exp(log_score_BLS) / (transition.T[x_BL] + EPS_RATIO)
        score_BLS = jnp.matmul(weight_BLS, transition, precision="highest")
        log_score_BLS = jnp.log(jnp.maximum(score_BLS, jnp.finfo(score_BLS.dtype).tiny))
        return jnp.where(jax.nn.one_hot(x_BL, self.vocab_size) > 0, 0.0, log_score_BLS)

    def masked(self, x: jax.Array, log_score_BLS: jax.Array) -> jax.Array:
        """The log-score as it is: every position is read."""
        del x
        return log_score_BLS

    def log_clean(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        del x_BL, t
        return log_score_BLS

    def settle(self, x_BL: jax.Array, log_clean_BLS: jax.Array) -> Transition:
        return self.jump(x_BL, jax.nn.log_softmax(log_clean_BLS))

    def jump(self, x_BL: jax.Array, log_mass_BLS: jax.Array) -> Transition:
        return jump_where(x_BL, log_mass_BLS)

    def euler_log_mass(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        """From the concrete log-score (B, L, S)."""
        base_rate_BLS = jnp.maximum(self.reverse_base_rate(x_BL), jnp.finfo(jnp.float32).tiny)
        return log_score_BLS + (jnp.log((t - u) * self.noise.sigma(t)) + jnp.log(base_rate_BLS))

    def tweedie_log_mass(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        """Raises ValueError: the analytic step has no such form for ordered states."""
        raise InputError("kernel='tweedie': is not defined for the gaussian process; choose 'ancestral'")

    def ancestral_log_mass(
        self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array, factor: jax.Array | float
    ) -> jax.Array:
        """The bridge averaged over the posterior; the coefficient has scaled the posterior, and so the mass of every jump."""
        del factor
        sigma_bar_t, sigma_bar_u = self.noise.sigma_bar(t), self.noise.sigma_bar(u)
        weight_BLS = jnp.exp(log_score_BLS) / (self.transition(sigma_bar_t).T[x_BL] + EPS_RATIO)
        back_BLS = jnp.matmul(weight_BLS, self.transition(sigma_bar_u), precision="highest")
        log_back_BLS = jnp.log(jnp.maximum(back_BLS, jnp.finfo(jnp.float32).tiny))
        return log_back_BLS + self.log_transition(sigma_bar_t - sigma_bar_u).T[x_BL]

    def coupled(self, transition: Transition, log_potential_DSS: jax.Array | Factors) -> Transition:
        """Raises ValueError: pair potentials have no form for ordered states."""
        raise InputError("potentials=...: need the absorbing or the uniform process, not 'gaussian'")

    @property
    def _matrix(self) -> tuple[int, float, float]:
        return self.vocab_size, self.rate_sigma, self.q_sigma

    @property
    def _prior(self) -> np.ndarray:
        return stationary_distribution(self.vocab_size, self.q_sigma)

    @property
    def _longest(self) -> float:
        with jax.ensure_compile_time_eval():
            return float(self.noise.sigma_bar(jnp.ones(())))


def stationary_distribution(vocab_size: int, q_sigma: float) -> np.ndarray:
    """tauLDR's initial distribution (S,), float64: a Gaussian around S/2, where states count from one.

    Theirs is around S // 2, which is not the distribution that their own matrix keeps where S is odd.
    """
    log_mass_S = -((np.arange(1, vocab_size + 1) - vocab_size / 2) ** 2) / (2 * q_sigma**2)
    probs_S = np.exp(log_mass_S - log_mass_S.max())
    return probs_S / probs_S.sum()


@functools.cache
def base_rate(vocab_size: int, rate_sigma: float, q_sigma: float) -> np.ndarray:
    """Q (S, S), float64: jumps toward the middle at exp(-(distance - 1)^2 / rate_sigma^2), and outward in detailed balance."""
    state = np.arange(vocab_size)
    away = np.abs(state[:, None] - state[None])
    reach = np.exp(-((np.maximum(away, 1) - 1.0) ** 2) / rate_sigma**2)
    # A jump is inward where it stays strictly inside the two states that lie as far from the middle as it starts.
    start, end = state[:, None], state[None]
    rising = (start < vocab_size // 2) & (end > start) & (end < vocab_size - start)
    falling = (start > vocab_size // 2) & (end < start) & (end > vocab_size - 1 - start)
    rate = np.where(rising | falling, reach, 0.0)
    probs_S = stationary_distribution(vocab_size, q_sigma)
    outward = rate.T * probs_S[None] / probs_S[:, None]
    rate = np.where(outward > 0, outward, rate)
    np.fill_diagonal(rate, 0.0)
    return rate - np.diag(rate.sum(1))


@functools.cache
def _factors(
    vocab_size: int, rate_sigma: float, q_sigma: float, longest: float
) -> tuple[tuple[np.ndarray, ...], np.ndarray, float]:
    """Tables (digit, S, S) for every place of a duration, powers of the jump chain (term, S, S), and its jumps per unit of sigma_bar."""
    rate = base_rate(vocab_size, rate_sigma, q_sigma)
    fastest = float(-np.diag(rate).min())
    jump = rate / fastest + np.eye(vocab_size)
    powers = [np.eye(vocab_size)]
    for _ in range(2 * _TERMS):
        powers.append(powers[-1] @ jump)
    unit = sum(math.exp(-1.0) / math.factorial(k) * power for k, power in enumerate(powers))
    tables, step = [], unit
    for _ in range(max(1, math.ceil(math.log(max(longest * fastest, 2.0) + 1, _BASE)))):
        table = [np.eye(vocab_size)]
        for _ in range(_BASE):
            table.append(table[-1] @ step)
        step = table.pop()
        tables.append(np.asarray(table, np.float32))
    return tuple(tables), np.asarray(powers[:_TERMS], np.float32), fastest
