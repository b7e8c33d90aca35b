"""The contract of a noising process, and processes by name.

The concrete score s(x, t)[i, v] = p_t(x with x_i := v) / p_t(x) is kept as its logarithm over the S data tokens, (B, L, S).
A process converts a network's answer to it, and owns every closed form that depends on the kind of noise. Nobody else asks what
kind of process it is; what has to be known is a declared attribute: `jumps_once`, `ordered`, `score_is_posterior`.
"""

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.noise import Noise
from lsd_jax.processes.potentials import Factors
from lsd_jax.processes.transition import Transition
from lsd_jax.processes.uniform import Uniform

PROCESSES = {process.name: process for process in (Absorbing, Uniform, DiscretizedGaussian)}
SETTINGS = ("rate_sigma", "q_sigma", "lengths")  # of one process or another, beside vocab_size and noise


class Process(Protocol):
    """A noising process over sequences of tokens; a frozen dataclass, hashable, compared by value.

    Attributes:
        name: as in PROCESSES.
        vocab_size: S, the number of data tokens.
        num_states: S, or S + 1 where there is a mask.
        noise: its schedule.
        jumps_once: a position changes once on the way to data, from the mask to a token, so it may own a threshold. Such a process
            also has `mask`, `mask_probability(t)`, `mask_share(t)` and `time_of(mask_probability)` and
            `start(x0_BL)` (processes/absorbing.py).
        longest: positions of a sequence, where the process draws its length; else None.
        ordered: states are ordered, so that jumps of one position add up.
        score_is_posterior: `log_score` is the log-posterior up to a constant per position, so that a factor on the score
            changes nothing in the denoising step.
    """

    name: str
    vocab_size: int
    num_states: int
    noise: Noise
    jumps_once: bool
    longest: int | None
    ordered: bool
    score_is_posterior: bool

    def prior_sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Tokens (int32) at time 1."""

    def prior_log_prob(self, x: jax.Array) -> jax.Array:
        """Log-probability (B,) of tokens (B, L) under the prior."""

    def prior_kl(self, x0_BL: jax.Array) -> jax.Array:
        """KL (B,) in nats of the noised sequences at time 1 from the prior; where a position jumps many times."""

    def corrupt(self, key: jax.Array, x0: jax.Array, t: jax.Array) -> jax.Array:
        """Draws x_t given x_0; `t` broadcasts against x0 (B, L)."""

    def path_uniforms(self, key: jax.Array, length: int) -> jax.Array:
        """The uniforms, or their random bits, of one sequence that `noised` reads."""

    def noised(self, uniforms: jax.Array, x0_BL: jax.Array, t: jax.Array) -> jax.Array:
        """x_t (B, L) given x_0 as a function of uniforms; equal uniforms at different times give related states."""

    def marginal(self, x0: jax.Array, t: jax.Array) -> jax.Array:
        """q(x_t | x_0) as probabilities (..., num_states)."""

    def log_likelihood(self, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """log q(x_t = x | x_0 = v) for every data token v, (B, L, S), up to a factor constant in v; x may be soft."""

    def forward_log_prob(self, x_BL: jax.Array, earlier_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        """log q(x_t = x | x_u = earlier) at every position, (B, L), u < t."""

    def bridge(self, x_BL: jax.Array, x0_BL: jax.Array, t: jax.Array, u: jax.Array) -> Transition:
        """q(x_u | x_t, x_0) for u < t (D3PM, Austin et al. 2021, eq. 3)."""

    def rate_matrix(self) -> jax.Array:
        """Q (num_states, num_states), row = from."""

    def reverse_base_rate(self, x: jax.Array) -> jax.Array:
        """Q(v, x) for every data token v != x, (..., S): what multiplies sigma(t) s in the reverse rate."""

    def add_forward(self, mean_BLS: jax.Array, x_BL: jax.Array, scale: jax.Array) -> jax.Array:
        """Mean numbers of reverse jumps plus `scale` times those of the forward process, (B, L, num_states)."""

    def log_score(self, log_posterior_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """log s from log p(x_0 = v | x_t), t scalar; x may be soft."""

    def log_score_of_mean(self, log_mean_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """log s from log p(x_0 = v | x_t at the *other* positions) (Duo), t scalar; x may be soft."""

    def possible(self, logits_BLS: jax.Array) -> jax.Array:
        """A network's logits, far below zero at tokens that no noised position can have been."""

    def check_length(self, length: int) -> None:
        """Raises ValueError where the process is for sequences of another length."""

    def log_score_of_sedd(self, logits_BLS: jax.Array, x_BL: jax.Array, sigma_bar: jax.Array) -> jax.Array:
        """log s from SEDD's raw output."""

    def log_concrete_score(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """log s from what is passed around as `log_score`: the same array, but for the Gaussian process."""

    def masked(self, x: jax.Array, log_score_BLS: jax.Array) -> jax.Array:
        """The log-score with zeros where the process never reads it, so that gradients stay finite."""

    def log_clean(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """The unnormalized log-posterior over x_0 (B, L, S) that the denoising step draws from."""

    def settle(self, x_BL: jax.Array, log_clean_BLS: jax.Array) -> Transition:
        """The denoising step: every position takes a token in proportion to exp(log_clean)."""

    def jump(self, x_BL: jax.Array, log_mass_BLS: jax.Array) -> Transition:
        """A transition from the log-probability of jumping to each data token, which may sum to more than one."""

    def euler_log_mass(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        """Euler's log-probabilities of jumping from t to u."""

    def tweedie_log_mass(self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array) -> jax.Array:
        """The analytic (Tweedie) log-probabilities of jumping from t to u, where the process has them."""

    def ancestral_log_mass(
        self, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, u: jax.Array, factor: jax.Array | float
    ) -> jax.Array:
        """Log-probabilities of jumping by q(x_u | x_t, x_0) averaged over the posterior; `factor` is LSD's coefficient."""

    def coupled(self, transition: Transition, log_potential_DSS: jax.Array | Factors) -> Transition:
        """The transition with pair potentials (D, S, S), or their factors, between its tokens, where the process has them."""


def mean_tokens(process: Process, x_BL: np.ndarray) -> float:
    """The mean number of tokens of sequences, where a pad is none."""
    padded = process.longest is not None
    return float((x_BL != process.vocab_size - 1).sum(1).mean()) if padded else x_BL.shape[1]


def token_dtype(num_states: int) -> type:
    """The smallest dtype that tokens of so many states are kept in on the host; nobody else chooses one."""
    return np.uint8 if num_states <= 256 else np.int32


def make_process(name: str, vocab_size: int, noise: Noise, **settings: Any) -> Process:
    """A process by name; `settings` are those of SETTINGS that it has.

    Raises:
        ValueError: unknown name or setting.
    """
    if name not in PROCESSES:
        raise InputError(f"name={name!r}: choose one of {sorted(PROCESSES)}")
    fields = {field.name for field in dataclasses.fields(PROCESSES[name])} - {"vocab_size", "noise"}
    if unknown := set(settings) - fields:
        raise InputError(f"name={name!r}: has no setting {sorted(unknown)}; it has {sorted(fields)}")
    return PROCESSES[name](vocab_size, noise, **settings)


def reverse_rate(process: Process, log_score_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
    """R(x -> v at i) = sigma(t) Q(v, x_i) s(x, t)[i, v] over the data tokens, (B, L, S), t scalar."""
    log_score_BLS = process.log_concrete_score(log_score_BLS, x_BL, t)
    return process.noise.sigma(t) * process.reverse_base_rate(x_BL) * jnp.exp(log_score_BLS)
