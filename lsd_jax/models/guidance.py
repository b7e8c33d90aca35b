"""Classifier-free guidance: two models of one process as one, which leans towards what the first says more often than the second."""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError, check_real
from lsd_jax.models.model import Diffusion, Identity, LogScoreFn
from lsd_jax.processes.process import Process
from lsd_jax.processes.soft import is_soft


def guided(conditional: Diffusion, unconditional: Diffusion, strength: float) -> Diffusion:
    """The model with log p(x_0 | x_t) = strength log p_conditional + (1 - strength) log p_unconditional, normalized at every position.

    A strength of 0 is the unconditional model, 1 the conditional one; above 1 a condition counts for more than it says. Each of its
    evaluations evaluates both models: `nfe` of a sampler counts the pairs. Everything that takes a model takes it. `likelihood` is
    that of all tokens, the given ones among them. A network whose output is a score (SEDD) is read as the posterior that its score says,
    so that strength 1 normalizes it.
    Normalized posteriors leave the pace of a sampler as it is, which guided rates do not (Rojas et al. 2025, arXiv 2507.08965;
    the rule without rates is Schiff et al. 2024, arXiv 2412.10193).

    Args:
        conditional: it knows the condition: by a part of the sequence that is given (`Condition`), or by itself.
        unconditional: of the same process. Where the condition is a part of the sequence, it is `without(conditional, positions)`.
        strength: 0 or more.

    Raises:
        ValueError: other processes, or a strength that is no such number.
    """
    first, second = conditional.process, unconditional.process
    if first != second:
        fields = ("name", "vocab_size", "noise", "lengths")
        differ = [field for field in fields if getattr(first, field, ()) != getattr(second, field, ())]
        raise InputError(
            f"unconditional=...: its process has another {' and '.join(differ) or 'setting'}; both models need one process"
        )
    check_real("strength", strength)
    if not (strength >= 0 and math.isfinite(strength)):
        raise InputError(f"strength={strength}: must be 0 or more")
    return Diffusion(
        first,
        _Guided(first, conditional.apply, unconditional.apply),
        (conditional.params, unconditional.params, jnp.float32(strength)),  # another strength is the same program
        conditional.time_conditioned or unconditional.time_conditioned,
        Identity(
            "guided",
            f"{conditional.identity.id} against {unconditional.identity.id}, strength {strength:g}",
            _digest(conditional.identity.sha256, unconditional.identity.sha256, f"{float(strength)!r}"),
        ),
    )


def without(model: Diffusion, positions: Sequence[int]) -> Diffusion:
    """The model that does not see what stands at some positions of a sequence: to it they are masks.

    Args:
        model: of a process with a mask.
        positions: of a sequence, from 0.

    Raises:
        ValueError: a process without a mask, or no positions; when the model is used, positions that a sequence does not have.
    """
    if not model.process.jumps_once:
        raise InputError(
            f"model=...: the {model.process.name} process has no mask to hide a token behind; train a second model"
        )
    found = np.asarray(positions)
    if found.ndim != 1 or not found.size or not np.issubdtype(found.dtype, np.integer) or found.min() < 0:
        raise InputError(f"positions={positions!r}: must be numbers of positions, from 0")
    chosen = tuple(sorted({int(position) for position in found}))
    named = f"{len(chosen)} positions from {chosen[0]} on" if len(chosen) > 1 else f"position {chosen[0]}"
    identity = model.identity._replace(
        id=f"{model.identity.id} without {named}", sha256=_digest(model.identity.sha256, str(chosen))
    )
    return dataclasses.replace(model, apply=_Without(model.process, model.apply, chosen), identity=identity)


def mixed(log_with: jax.Array, log_without: jax.Array, strength: jax.Array) -> jax.Array:
    """strength * log_with + (1 - strength) * log_without, where log 0 stays log 0 instead of becoming infinity minus infinity.

    What the condition forbids stays forbidden at any strength above 0. What only the other model forbids is forbidden below strength 1,
    and from there on as likely as the conditional one says.
    """
    forbidden, unknown = log_with == -jnp.inf, log_without == -jnp.inf
    first, second = jnp.where(forbidden, 0.0, log_with), jnp.where(unknown, 0.0, log_without)
    lean = jnp.where(unknown, jnp.where(strength < 1, -jnp.inf, 0.0), (strength - 1) * (first - second))
    return jnp.where(strength == 0, log_without, jnp.where(forbidden, -jnp.inf, first + lean))


def _digest(*parts: str) -> str:
    """One SHA-256 of what names a model: students and teacher paths of another one are not taken for its own. Empty without a network's."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest() if all(parts) else ""


def _log_posterior(apply: LogScoreFn, process: Process, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
    """log p(x_0 | x_t), (B, L, S), normalized: the network's own where it gives one, else what its score says."""
    if own := getattr(apply, "log_posterior", None):
        return own(params, x_BL, t)
    return jax.nn.log_softmax(process.log_clean(apply(params, x_BL, t), x_BL, t))


@dataclasses.dataclass(frozen=True)
class _Guided:
    """The log-score function of a guided model; compared by value, so that one that is made twice is compiled once."""

    process: Process
    conditional: LogScoreFn
    unconditional: LogScoreFn

    def __call__(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        return self.process.log_score(self.log_posterior(params, x_BL, t), x_BL, t)

    def log_posterior(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """log p(x_0 | x_t), (B, L, S), normalized."""
        first, second, strength = params
        log_with_BLS = _log_posterior(self.conditional, self.process, first, x_BL, t)
        log_without_BLS = _log_posterior(self.unconditional, self.process, second, x_BL, t)
        return jax.nn.log_softmax(mixed(log_with_BLS, log_without_BLS, strength))


@dataclasses.dataclass(frozen=True)
class _Without:
    """A log-score function that reads masks at some positions."""

    process: Process
    apply: LogScoreFn
    positions: tuple[int, ...]

    def __call__(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        return self.apply(params, self._hidden(x_BL), t)

    def log_posterior(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """log p(x_0 | x_t), (B, L, S), normalized."""
        return _log_posterior(self.apply, self.process, params, self._hidden(x_BL), t)

    def _hidden(self, x_BL: jax.Array) -> jax.Array:
        if self.positions[-1] >= x_BL.shape[1]:
            raise InputError(f"positions={self.positions[-1]}: a sequence has {x_BL.shape[1]} tokens")
        mask = self.process.mask
        hidden = jax.nn.one_hot(mask, self.process.num_states, dtype=x_BL.dtype) if is_soft(x_BL) else mask
        return x_BL.at[:, jnp.array(self.positions)].set(hidden)
