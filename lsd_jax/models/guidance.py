"""Classifier-free guidance: two models of one process as one, which leans towards what the first says more often than the second."""

import dataclasses
import hashlib
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
    evaluations evaluates both models: `nfe` of a sampler counts the pairs. Everything that takes a model takes it, `distill` too.
    Normalized posteriors leave the pace of a sampler as it is, which guided rates do not (Rojas et al. 2025, arXiv 2507.08965;
    the rule without rates is Schiff et al. 2024, arXiv 2412.10193, eq. 8).

    Args:
        conditional: it knows the condition: by a part of the sequence that is given (`Condition`), or by itself.
        unconditional: of the same process, and of sequences as long. Where the condition is a part of the sequence, it is
            `without(conditional, positions)`.
        strength: 0 or more.

    Raises:
        ValueError: other processes, or a strength that is no such number.
    """
    if conditional.process != unconditional.process:
        raise InputError("unconditional=...: its process must be that of the conditional model")
    check_real("strength", strength)
    if strength < 0:
        raise InputError(f"strength={strength}: must be 0 or more")
    first, second = conditional.identity, unconditional.identity
    known = first.sha256 and second.sha256
    identity = Identity(
        "guided",
        f"{first.id} against {second.id}, strength {strength:g}",
        hashlib.sha256((first.sha256 + second.sha256).encode()).hexdigest() if known else "",
    )
    return Diffusion(
        conditional.process,
        _Guided(conditional.process, conditional.apply, unconditional.apply),
        (conditional.params, unconditional.params, jnp.float32(strength)),  # another strength is the same program
        conditional.time_conditioned or unconditional.time_conditioned,
        identity,
    )


def without(model: Diffusion, positions: Sequence[int]) -> Diffusion:
    """The model that does not see what stands at some positions of a sequence: to it they are masks.

    Args:
        model: of a process with a mask.
        positions: of a sequence, from 0.

    Raises:
        ValueError: a process without a mask, or no positions.
    """
    if not model.process.jumps_once:
        raise InputError(
            f"model=...: the {model.process.name} process has no mask to hide a token behind; train a second model"
        )
    found = np.asarray(positions)
    if found.ndim != 1 or not found.size or not np.issubdtype(found.dtype, np.integer) or found.min() < 0:
        raise InputError(f"positions={positions!r}: must be numbers of positions, from 0")
    chosen = tuple(int(position) for position in found)
    identity = model.identity._replace(id=f"{model.identity.id} without {len(chosen)} positions")
    return dataclasses.replace(model, apply=_Without(model.process, model.apply, chosen), identity=identity)


@dataclasses.dataclass(frozen=True)
class _Guided:
    """The log-score function of a guided model; compared by value, so that one that is made twice is compiled once."""

    process: Process
    conditional: LogScoreFn
    unconditional: LogScoreFn

    def __call__(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        first, second, strength = params
        process = self.process
        log_with_BLS = process.log_clean(self.conditional(first, x_BL, t), x_BL, t)
        log_without_BLS = process.log_clean(self.unconditional(second, x_BL, t), x_BL, t)
        mixed_BLS = mixed(jax.nn.log_softmax(log_with_BLS), jax.nn.log_softmax(log_without_BLS), strength)
        return process.log_score(jax.nn.log_softmax(mixed_BLS), x_BL, t)


def mixed(log_with: jax.Array, log_without: jax.Array, strength: jax.Array) -> jax.Array:
    """strength * log_with + (1 - strength) * log_without, where log 0 stays log 0 instead of becoming infinity minus infinity.

    What the condition forbids stays forbidden at any strength above 0. What only the other model forbids is as likely as the
    conditional one says.
    """
    forbidden, unknown = log_with == -jnp.inf, log_without == -jnp.inf
    first, second = jnp.where(forbidden, 0.0, log_with), jnp.where(unknown, 0.0, log_without)
    lean = jnp.where(unknown, 0.0, (strength - 1) * (first - second))
    return jnp.where(strength == 0, log_without, jnp.where(forbidden, -jnp.inf, first + lean))


@dataclasses.dataclass(frozen=True)
class _Without:
    """A log-score function that reads masks at some positions."""

    process: Process
    apply: LogScoreFn
    positions: tuple[int, ...]

    def __call__(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        if max(self.positions) >= x_BL.shape[1]:
            raise InputError(f"positions={max(self.positions)}: a sequence has {x_BL.shape[1]} tokens")
        mask = self.process.mask
        hidden = jax.nn.one_hot(mask, self.process.num_states, dtype=x_BL.dtype) if is_soft(x_BL) else mask
        return self.apply(params, x_BL.at[:, jnp.array(self.positions)].set(hidden), t)
