"""The discretised Gaussian process over ordinal states: tauLDR's `GaussianTargetRate` (Campbell et al. 2022, appendix E).

States next to each other exchange at a high rate, distant ones hardly ever, and the stationary law is a Gaussian over the
states. The matrix exponential is a product of matrices without a negative entry, tabulated in float64 on the host, so that in
float32 even its smallest entries have a small relative error. An eigendecomposition in float32 is right to 3e-7 and no
better: at a thousand steps that noise is thousands of jumps that nobody asked for.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.processes.noise import Noise

_TERMS = 14  # of the exponential's series, whose argument is below one
_BASE = 8  # digits of a duration, each with its own table


@dataclasses.dataclass(frozen=True)
class DiscretizedGaussian:
    """Diffusion over `vocab_size` ordered states.

    Attributes:
        noise: its sigma(t) is tauLDR's time-dependent scalar, `Exponential` there.
        rate_sigma: how far one jump reaches, in states.
        q_sigma: the stationary law's standard deviation, in states; far above vocab_size it is nearly uniform.
    """

    vocab_size: int
    noise: Noise
    rate_sigma: float = 6.0
    q_sigma: float = 512.0

    name = "gaussian"

    @property
    def num_states(self) -> int:
        return self.vocab_size

    def prior_sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """States drawn from the stationary law (int32)."""
        cumulative_S = jnp.asarray(np.cumsum(self._prior), jnp.float32)
        drawn = jnp.searchsorted(cumulative_S, jax.random.uniform(key, shape), side="right")
        return jnp.minimum(drawn, self.vocab_size - 1).astype(jnp.int32)

    def prior_log_prob(self, x: jax.Array) -> jax.Array:
        """log probability (B,) of tokens (B, L) under the prior."""
        return jnp.asarray(np.log(self._prior), jnp.float32)[x].sum(-1)

    def corrupt(self, key: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        """Draws x_t given x_0; `t` is a scalar, or (B, 1) against x0 (B, L)."""
        t = jnp.asarray(t)
        if t.ndim:
            time_B = jnp.broadcast_to(t, (len(x0), 1))[:, 0]
            return jax.vmap(self.corrupt)(jax.random.split(key, len(x0)), x0, time_B)
        return self.quantile(jax.random.uniform(key, x0.shape), x0, t)

    def quantile(self, uniform: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        """x_t from one uniform a position and x_0 (int32), t scalar: the inverse of q(x_t | x_0)'s distribution function.

        A bisection over the (S, S) table: nothing of size S a position.
        """
        cumulative_SS = jnp.cumsum(self.transition(self.noise.sigma_bar(t)), -1)
        target = jnp.minimum(uniform, 1 - 2.0**-23) * cumulative_SS[x0, -1]
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

    def rate_matrix(self) -> jax.Array:
        """Q (S, S), row = from."""
        return jnp.asarray(base_rate(*self._matrix), jnp.float32)

    def reverse_base_rate(self, x: jax.Array) -> jax.Array:
        """Q(v, x) for every token v != x, (..., S), 0 at v = x."""
        rate = base_rate(*self._matrix)
        return jnp.asarray((rate - np.diag(np.diag(rate))).T, jnp.float32)[x]

    @property
    def _matrix(self) -> tuple[int, float, float]:
        return self.vocab_size, self.rate_sigma, self.q_sigma

    @property
    def _prior(self) -> np.ndarray:
        return stationary_law(self.vocab_size, self.q_sigma)

    @property
    def _longest(self) -> float:
        with jax.ensure_compile_time_eval():
            return float(self.noise.sigma_bar(jnp.ones(())))


def stationary_law(vocab_size: int, q_sigma: float) -> np.ndarray:
    """tauLDR's initial distribution (S,), float64: a Gaussian around S/2, where states count from one.

    Theirs is around S // 2, off the law that their own matrix keeps where S is odd.
    """
    log_law = -((np.arange(1, vocab_size + 1) - vocab_size / 2) ** 2) / (2 * q_sigma**2)
    law = np.exp(log_law - log_law.max())
    return law / law.sum()


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
    law = stationary_law(vocab_size, q_sigma)
    outward = rate.T * law[None] / law[:, None]
    rate = np.where(outward > 0, outward, rate)
    np.fill_diagonal(rate, 0.0)
    return rate - np.diag(rate.sum(1))


@functools.cache
def _factors(
    vocab_size: int, rate_sigma: float, q_sigma: float, longest: float
) -> tuple[tuple[np.ndarray, ...], np.ndarray, float]:
    """Tables (digit, S, S) for every place of a duration, powers of the jump chain (term, S, S), and its jumps a unit."""
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
