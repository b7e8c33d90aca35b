"""Adapters from networks and oracles to the one thing samplers see: log_score_fn(x, t) -> (B, L, S)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import Exponential
from lsd_jax.processes.score import Process, hard_tokens, log_mean_to_log_score, log_posterior_to_log_score

PARAMETERIZATIONS = ("posterior", "mean", "score")
LogScoreFn = Callable[[jax.Array, jax.Array], jax.Array]  # tokens (B, L), scalar time -> (B, L, S)


class ScoreModel(NamedTuple):
    """A score function and its parameters, apart, so that drivers pass parameters to `jit` and never bake them in.

    Attributes:
        apply: (params, x_BL, t) -> log-score (B, L, S).
        params: the network's parameters; () for an oracle.
    """

    apply: Callable[[Any, jax.Array, jax.Array], jax.Array]
    params: Any

    def bind(self, params: Any) -> LogScoreFn:
        """The score function at the given parameters."""
        return lambda x_BL, t: self.apply(params, x_BL, t)


def network_score_model(process: Process, model: Any, params: Any, parameterization: str) -> ScoreModel:
    """A network with its output read as `parameterization` says.

    Raises:
        ValueError: unknown parameterization.
    """
    network_score_fn(process, model, params, parameterization)
    return ScoreModel(
        lambda params, x_BL, t: network_score_fn(process, model, params, parameterization)(x_BL, t), params
    )


def oracle_score_model(process: Process, log_posterior_fn: Callable) -> ScoreModel:
    """An exact denoiser as a score model without parameters."""
    log_score_fn = posterior_score_fn(process, log_posterior_fn)
    return ScoreModel(lambda params, x_BL, t: log_score_fn(x_BL, t), ())


def posterior_score_fn(process: Process, log_posterior_fn: Callable) -> LogScoreFn:
    """From log p(x_0 = v | x_t), a function of (x, t): RADD, MDLM and the exact oracles."""

    def log_score_fn(x_BL: jax.Array, t: jax.Array) -> jax.Array:
        return log_posterior_to_log_score(process, log_posterior_fn(x_BL, t), x_BL, t)

    return log_score_fn


def network_score_fn(process: Process, model: Any, params, parameterization: str) -> LogScoreFn:
    """From a network whose logits are those of log p(x_0 | x_t) ("posterior"), of log p(x_0 | x_t at the other positions)
    ("mean"), or SEDD's log-score ("score").

    Raises:
        ValueError: unknown parameterization.
    """
    if parameterization not in PARAMETERIZATIONS:
        raise ValueError(f"config.model.parameterization={parameterization!r}: choose one of {PARAMETERIZATIONS}")
    if parameterization == "mean" and process.name == "gaussian":
        raise ValueError("config.model.parameterization='mean' is Duo's: the gaussian process reads 'posterior'")

    def log_score_fn(x_BL: jax.Array, t: jax.Array) -> jax.Array:
        logits_BLS = model.apply(params, x_BL, told_time(model, process, t))
        if parameterization == "score":
            return sedd_log_score(process, logits_BLS, x_BL, process.noise.sigma_bar(t))
        convert = log_posterior_to_log_score if parameterization == "posterior" else log_mean_to_log_score
        return convert(process, jax.nn.log_softmax(logits_BLS), x_BL, t)

    return log_score_fn


def told_time(model: Any, process: Process, t: jax.Array) -> jax.Array:
    """What a network is told of the time t: the time itself (tauLDR's, `reads = "time"`), or sigma_bar(t)."""
    if getattr(model, "reads", "sigma_bar") == "time":
        return process.noise.clock(t) if isinstance(process.noise, Exponential) else t
    return process.noise.sigma_bar(t)


def sedd_log_score(process: Process, logits_BLS: jax.Array, x_BL: jax.Array, sigma_bar: jax.Array) -> jax.Array:
    """SEDD's output scaling: under absorbing noise minus log(expm1(sigma_bar)) and log S; 0 at the current token."""
    if isinstance(process, Absorbing):
        scale = jnp.log(jnp.expm1(jnp.asarray(sigma_bar))) + jnp.log(process.vocab_size)
        return logits_BLS - jnp.reshape(scale, (-1, 1, 1))
    return jnp.where(jax.nn.one_hot(hard_tokens(x_BL), process.vocab_size) > 0, 0.0, logits_BLS)
