"""Noise schedules: the rate sigma(t), its integral sigma_bar(t) and the inverse of the integral.

Time t runs in [0, 1] with 1 = noise. All functions take and return float32 arrays of any one shape.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise InputError(f"noise.{name}={value}: must be 0 or more and below 1")


@dataclasses.dataclass(frozen=True)
class LogLinear:
    """Mask probability 1 - exp(-sigma_bar) = (1 - eps) t (SEDD, Lou et al. 2024, appendix C.1)."""

    eps: float = 1e-3

    def __post_init__(self):
        _check_share("eps", self.eps)

    def clock(self, t: jax.Array) -> jax.Array:
        """The time input of a network that reads the time itself."""
        return t

    def sigma(self, t: jax.Array) -> jax.Array:
        return (1 - self.eps) / (1 - (1 - self.eps) * t)

    def sigma_bar(self, t: jax.Array) -> jax.Array:
        return -jnp.log1p(-(1 - self.eps) * t)

    def inverse(self, sigma_bar: jax.Array) -> jax.Array:
        """The time at which the integral equals `sigma_bar`."""
        return -jnp.expm1(-sigma_bar) / (1 - self.eps)


@dataclasses.dataclass(frozen=True)
class Geometric:
    """sigma_bar(t) = sigma_min^(1-t) sigma_max^t (SEDD, Lou et al. 2024, appendix C.1)."""

    sigma_min: float = 1e-3
    sigma_max: float = 20.0

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max < np.inf:
            raise InputError(f"noise.sigma_min={self.sigma_min}, sigma_max={self.sigma_max}: must rise, and be above 0")

    def clock(self, t: jax.Array) -> jax.Array:
        """The time input of a network that reads the time itself."""
        return t

    def sigma(self, t: jax.Array) -> jax.Array:
        return self.sigma_bar(t) * jnp.log(self.sigma_max / self.sigma_min)

    def sigma_bar(self, t: jax.Array) -> jax.Array:
        return self.sigma_min ** (1 - t) * self.sigma_max**t

    def inverse(self, sigma_bar: jax.Array) -> jax.Array:
        """The time at which the integral equals `sigma_bar`."""
        return jnp.log(sigma_bar / self.sigma_min) / jnp.log(self.sigma_max / self.sigma_min)


@dataclasses.dataclass(frozen=True)
class Cosine:
    """exp(-sigma_bar) = eps + (1 - eps) (1 - cos(pi/2 (1 - t))) (MDLM, Sahoo et al. 2024, appendix E)."""

    eps: float = 1e-3

    def __post_init__(self):
        _check_share("eps", self.eps)

    def clock(self, t: jax.Array) -> jax.Array:
        """The time input of a network that reads the time itself."""
        return t

    def _mask_probability(self, t: jax.Array) -> jax.Array:
        return (1 - self.eps) * jnp.sin(0.5 * jnp.pi * t)

    def sigma(self, t: jax.Array) -> jax.Array:
        slope = (1 - self.eps) * 0.5 * jnp.pi * jnp.cos(0.5 * jnp.pi * t)
        return slope / (1 - self._mask_probability(t))

    def sigma_bar(self, t: jax.Array) -> jax.Array:
        return -jnp.log1p(-self._mask_probability(t))

    def inverse(self, sigma_bar: jax.Array) -> jax.Array:
        """The time at which the integral equals `sigma_bar`."""
        return jnp.arcsin(-jnp.expm1(-sigma_bar) / (1 - self.eps)) / (0.5 * jnp.pi)


@dataclasses.dataclass(frozen=True)
class Exponential:
    """sigma_bar(t) = time_base (time_exponential^clock - 1): tauLDR's scalar (Campbell et al. 2022), its CIFAR-10 values.

    tauLDR neither trains nor samples below `min_time`, but denoises there: its networks are too vague about nearly clean
    data, and the rates that follow from them have no bound. Here its clock runs from `min_time` to 1 while t runs from just
    above 0 to 1, and at t = 0 itself the data is clean: whatever the grid, the last step starts at `min_time` or later.
    """

    time_base: float = 3.0
    time_exponential: float = 100.0
    min_time: float = 0.0

    def __post_init__(self):
        if not (self.time_base > 0 and self.time_exponential > 1 and 0 <= self.min_time < 1):
            raise InputError(
                f"noise.time_base={self.time_base}, time_exponential={self.time_exponential}, min_time={self.min_time}: must be "
                "above 0, above 1, and from 0 to below 1"
            )

    def clock(self, t: jax.Array) -> jax.Array:
        """tauLDR's time, the time input of its networks."""
        return self.min_time + (1 - self.min_time) * t

    def sigma(self, t: jax.Array) -> jax.Array:
        growth = np.log(self.time_exponential)
        return (1 - self.min_time) * self.time_base * growth * jnp.exp(growth * self.clock(t))

    def sigma_bar(self, t: jax.Array) -> jax.Array:
        noised = self.time_base * jnp.expm1(np.log(self.time_exponential) * self.clock(t))
        return jnp.where(jnp.asarray(t) > 0, noised, 0.0)

    def inverse(self, sigma_bar: jax.Array) -> jax.Array:
        """The time at which the integral equals `sigma_bar`."""
        clock = jnp.log1p(sigma_bar / self.time_base) / np.log(self.time_exponential)
        return jnp.maximum(clock - self.min_time, 0.0) / (1 - self.min_time)


Noise = LogLinear | Geometric | Cosine | Exponential
NOISES = {
    "loglinear": LogLinear,
    "geometric": Geometric,
    "cosine": Cosine,
    "exponential": Exponential,
}


def make_noise(name: str, **settings: float) -> Noise:
    """A schedule by name.

    Raises:
        ValueError: unknown name or setting.
    """
    if name not in NOISES:
        raise InputError(f"noise.name={name!r}: choose one of {sorted(NOISES)}")
    fields = {field.name for field in dataclasses.fields(NOISES[name])}
    if unknown := set(settings) - fields:
        raise InputError(f"noise.name={name!r}: has no setting {sorted(unknown)}; it has {sorted(fields)}")
    return NOISES[name](**settings)


def check_states(vocab_size: int, noise: Noise) -> None:
    """Raises ValueError where what a process is built from is no number of tokens and no noise schedule."""
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int | np.integer) or vocab_size < 1:
        raise InputError(f"vocab_size={vocab_size!r}: must be a whole number of data tokens, 1 or more")
    if not hasattr(noise, "sigma_bar"):
        raise InputError(f"noise={noise!r}: must be a noise schedule, for example lsd.LogLinear()")
