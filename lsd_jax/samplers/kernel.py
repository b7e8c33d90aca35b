"""The contracts of samplers, and what all of them share.

A `Kernel` is one transition per step. A `StagedKernel` draws several times in a step, or remembers earlier steps. An
`EventSampler` has no time grid. Each declares its processes, its paper and its network evaluations (NFE).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from lsd_jax.errors import InputError
from lsd_jax.keys import PathStream
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.schedule import Schedule, Step, StepParameters, nucleus


class Condition(NamedTuple):
    """Infilling: positions that are given and never change; a prefix is the simplest case.

    Where a process draws the length of a sequence, a condition says the length instead: it gives the pads, and what it does not
    give is masked.

    Attributes:
        tokens_BL: the given tokens; elsewhere unread.
        fixed_BL: where they are given.
    """

    tokens_BL: jax.Array
    fixed_BL: jax.Array

    def apply(self, x_BL: jax.Array) -> jax.Array:
        """x with the given tokens in their places."""
        return jnp.where(self.fixed_BL, self.tokens_BL, x_BL)


class Sample(NamedTuple):
    """What a sampler returns.

    Attributes:
        tokens: final tokens (B, L).
        nfe: network evaluations per sequence by the step count; an upper bound where a kernel skips some.
        states: (M + 1, B, L) if they were asked for.
        calls_B: network evaluations really made for every sequence (B,).
    """

    tokens: jax.Array
    nfe: int
    states: jax.Array | None
    calls_B: jax.Array


class Draw(Protocol):
    """How a step of several stages reads its randomness; given tokens stay what they are."""

    def __call__(self, transition: Transition, stage: int = 0) -> jax.Array:
        """The next tokens (B, L) of a transition, drawn with the stage's own random numbers."""

    def uniform(self, stage: int) -> jax.Array:
        """Uniforms (2, B, L) in (0, 1) for what is no transition; a stage is read once."""


class Kernel(NamedTuple):
    """A sampler that is one transition per step.

    Attributes:
        name: as in the registry.
        transition: (model, x_BL, step) -> Transition from time step.t to step.u.
        processes: names of the processes it is defined for.
        paper: its source.
    """

    name: str
    transition: Callable[[Diffusion, jax.Array, Step], Transition]
    processes: tuple[str, ...]
    paper: str

    nfe = 1
    nll = None
    reuses_scores = False
    threshold = None

    @property
    def stand_in(self) -> "Kernel":
        """Itself: what teachers, cost tables and objectives run."""
        return self


def no_state(process: Process, x_BL: jax.Array) -> tuple:
    """Nothing is carried from step to step."""
    del process, x_BL
    return ()


def reveal_all(draw: Draw, state: Any, model: Diffusion, x_BL: jax.Array, step: Step) -> tuple[jax.Array, Any]:
    """The last step of most kernels: the denoising draw."""
    return draw(denoise(model, x_BL, step)), state


class StagedKernel(NamedTuple):
    """A sampler whose step draws several times, or depends on earlier steps.

    Attributes:
        name: as in the registry.
        nfe: network evaluations per step.
        processes: names of the processes it is defined for.
        paper: its source.
        stand_in: the one-stage kernel that stands for it in teachers, cost tables and objectives.
        step: (draw, state, model, x_BL, step) -> (x_BL, state).
        init: (process, x_BL) -> the state carried from step to step, arrays whose first axis is the sequence.
        finish: the last step, like `step`.
        calls: (state) -> network evaluations really made (B,); None where they are `nfe` per step.
        nll: (model, kernel, schedule, x0_BL) -> the exact -log p(x0) (B,), nats; None where it has none.
        reuses_scores: whether it reads scores of earlier times, which a network with a time input does not allow.
    """

    name: str
    nfe: int
    processes: tuple[str, ...]
    paper: str
    stand_in: Kernel
    step: Callable[[Draw, Any, Diffusion, jax.Array, Step], tuple[jax.Array, Any]]
    init: Callable[[Process, jax.Array], Any] = no_state
    finish: Callable[[Draw, Any, Diffusion, jax.Array, Step], tuple[jax.Array, Any]] = reveal_all
    calls: Callable[[Any], jax.Array] | None = None
    nll: Callable[[Diffusion, "StagedKernel", Schedule, jax.Array], jax.Array] | None = None
    reuses_scores: bool = False

    threshold = None


class Threshold(NamedTuple):
    """What a user may choose of a sampler whose number of calls depends on the sequence.

    Attributes:
        published: what is taken where the user chooses none.
        loosest: the end of its range at which sequences take the fewest calls.
        strictest: the end at which they take the most.
    """

    published: float
    loosest: float
    strictest: float


class EventSampler(NamedTuple):
    """A sampler without a time grid, which moves from event to event.

    Attributes:
        name: as in the registry.
        draw: (key_B, model, length, budget, params, condition) -> Sample. `budget` is the number of network evaluations that
            are aimed at, where the sampler has a choice; `params` are scalars; `condition` may be None.
        processes: names of the processes it is defined for.
        paper: its source.
        exact: whether it draws from the network's own distribution, whatever the budget.
        nll: (model, sampler, schedule, x0_BL) -> the exact -log p(x0) (B,), nats; None where it has none.
        threshold: the range of `params.threshold`; None where it does not read one.
    """

    name: str
    draw: Callable[[jax.Array, Diffusion, int, int, StepParameters, Condition | None], Sample]
    processes: tuple[str, ...]
    paper: str
    exact: bool
    nll: Callable[[Diffusion, "EventSampler", Schedule, jax.Array], jax.Array] | None = None
    threshold: Threshold | None = None

    reuses_scores = False


AnyKernel = Kernel | StagedKernel | EventSampler


def prior_tokens(key_B: jax.Array, process: Process, length: int, condition: Condition | None = None) -> jax.Array:
    """The tokens (B, L) at time 1, each sequence's from its own key (B,), with the given ones in place.

    Where positions jump once, a condition also gives the sequence's length: what it does not give is masked.
    """
    draw = lambda key: process.prior_sample(jax.random.fold_in(key, int(PathStream.PRIOR)), (length,))
    if condition is None:
        return jax.vmap(draw)(key_B)
    masked = process.jumps_once
    return condition.apply(jnp.full((len(key_B), length), process.mask) if masked else jax.vmap(draw)(key_B))


def jump(process: Process, x_BL: jax.Array, log_mass_BLS: jax.Array, params: StepParameters) -> Transition:
    """A transition from tokens (B, L) by the log-probability of jumping to each data token (B, L, S), tempered and coupled.

    The probabilities of a position may sum to more than one; they are then cut off.
    """
    return tempered(process, process.jump(x_BL, log_mass_BLS), params)


def tempered(process: Process, transition: Transition, params: StepParameters) -> Transition:
    """The transition with the temperature, the nucleus and the pair potentials applied."""
    log_destination_BLS = params.temper(transition.log_destination_BLS)
    return params.couple(process, dataclasses.replace(transition, log_destination_BLS=log_destination_BLS))


def denoise(model: Diffusion, x_BL: jax.Array, step: Step) -> Transition:
    """The last step, from time step.t to clean data: reveals every mask, or draws x_0 from its posterior.

    tauLDR takes the posterior's mode instead: that is the limit of temperature zero, and another distribution.
    """
    process, params = model.process, step.params
    log_score_BLS = model.log_score(x_BL, step.t)
    lost_BL = jnp.isnan(log_score_BLS.sum(-1))
    if params.coefficient == "log_score" or not process.score_is_posterior:
        # In the other cases the coefficient would change nothing here. It is left out, so that its gradient is zero.
        log_score_BLS = params.scale(log_score_BLS)
    transition = process.settle(x_BL, params.temper(process.log_clean(log_score_BLS, x_BL, step.t)))
    if params.top_p < 1 and not process.jumps_once:
        # The nucleus was that of the whole posterior; without the present token it is taken once more.
        kept_BLS = nucleus(transition.log_destination_BLS, params.top_p)
        transition = dataclasses.replace(transition, log_destination_BLS=kept_BLS)
    if not process.jumps_once:
        # XLA's minima and exponentials may turn NaN into "stay"; where positions jump once, the draw itself sees it.
        transition = dataclasses.replace(transition, log_stay_BL=jnp.where(lost_BL, jnp.nan, transition.log_stay_BL))
    return params.couple(process, transition)


def transition_of(kernel: Kernel, model: Diffusion, x_BL: jax.Array, step: Step, last: bool) -> Transition:
    """The step of a one-stage kernel, which denoises in the last step."""
    return denoise(model, x_BL, step) if last else kernel.transition(model, x_BL, step)


def check_kernel(kernel: AnyKernel, process: Process) -> None:
    """Raises ValueError where the kernel is not defined for the process."""
    if process.name not in kernel.processes:
        raise InputError(f"kernel={kernel.name!r}: is defined for {kernel.processes}, not for {process.name!r}")
