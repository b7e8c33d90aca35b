"""The contract of a kernel, the knobs a student learns, and what all kernels share."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.score import Process, uniform_step_probs
from lsd_jax.samplers.transition import Transition

# A jump never quite reaches probability one before the last step, so that log-probabilities and gradients stay finite.
_MAX_JUMP = 1 - 1e-6

COEFFICIENTS = ("score", "log_score")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Knobs:
    """What a student learns: one value a step inside a schedule, a scalar inside a kernel. Zeros change nothing.

    Attributes:
        log_coefficient: logarithm of LSD's Phi.
        log_temperature: logarithm of the temperature of the token drawn; it never changes how many tokens jump.
        coefficient: "score" multiplies the score by Phi (Fu et al. 2025, eq. 5); "log_score" multiplies its logarithm
            (the authors' released code).
        log_neighbour: potentials (D, S, S) between tokens revealed in one step (samplers/transition.py), (M, D, S, S) in a
            schedule; None draws them independently. Under uniform noise D is 1 and every position is redrawn.
        top_p: tokens are drawn from the smallest set that holds this share of the probability (Holtzman et al. 2020).
    """

    log_coefficient: jax.Array
    log_temperature: jax.Array
    coefficient: str = dataclasses.field(default="score", metadata={"static": True})
    log_neighbour: jax.Array | None = None
    top_p: float = dataclasses.field(default=1.0, metadata={"static": True})

    def scale(self, log_score_BLS: jax.Array) -> jax.Array:
        """The log-score with the coefficient applied."""
        if self.coefficient == "log_score":
            return jnp.exp(self.log_coefficient) * log_score_BLS
        return self.log_coefficient + log_score_BLS

    def temper(self, log_destination_BLS: jax.Array) -> jax.Array:
        """Destination log-probabilities at the temperature, outside the nucleus impossible."""
        tempered_BLS = log_destination_BLS * jnp.exp(-self.log_temperature)  # a product: XLA fuses it, a quotient not
        return tempered_BLS if self.top_p >= 1 else nucleus(tempered_BLS, self.top_p)


def neutral_knobs(steps: int) -> Knobs:
    """Knobs (steps,) that change nothing."""
    return Knobs(jnp.zeros(steps), jnp.zeros(steps))


def nucleus(log_mass_BLS: jax.Array, top_p: float) -> jax.Array:
    """log_mass with -inf outside the smallest set of tokens that holds at least the share `top_p` of the probability.

    The set is found by bisection on the smallest probability kept: no sort over the vocabulary.
    """
    probs_BLS = jax.nn.softmax(log_mass_BLS)
    low, high = jnp.zeros_like(probs_BLS[..., :1]), probs_BLS.max(-1, keepdims=True)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        enough = jnp.where(probs_BLS >= middle, probs_BLS, 0.0).sum(-1, keepdims=True) >= top_p
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low, _ = jax.lax.fori_loop(0, 24, halve, (low, high))
    return jnp.where(probs_BLS >= low, log_mass_BLS, -jnp.inf)


class Draw(Protocol):
    """How a step of several stages reads its randomness; fixed positions stay what they are."""

    def __call__(self, transition: Transition, stage: int = 0) -> jax.Array:
        """The next tokens (B, L) of a transition, drawn with the stage's own uniforms."""

    def uniform(self, stage: int) -> jax.Array:
        """Uniforms (2, B, L) in (0, 1) for what is no transition; a stage is read once."""


Step = Callable[[Process, LogScoreFn, jax.Array, jax.Array, jax.Array, Knobs], Transition]
Advance = Callable[[Draw, Any, Process, LogScoreFn, jax.Array, jax.Array, jax.Array, Knobs], tuple[jax.Array, Any]]


class Kernel(NamedTuple):
    """A sampler's step.

    Attributes:
        name: as in configs.
        step: (process, log_score_fn, x_BL, t, u, knobs) -> Transition from time t to u < t. Where `advance` is given it
            is the one-stage law that stands for the kernel in cost tables and objectives.
        nfe: network evaluations a step.
        processes: names of the processes it is defined for.
        paper: its source.
        advance: (draw, memory, process, log_score_fn, x_BL, t, u, knobs) -> (x_BL, memory): a step of several stages, or
            one that depends on earlier steps. None draws from `step`.
        memory: (process, x_BL) -> what `advance` carries from step to step, arrays whose first axis is the sequence.
        finish: the last step, like `advance`; None reveals everything (`denoise`).
        calls: (memory) -> network evaluations really made (B,), where they are fewer than `nfe` a step.
        nll: (process, kernel, log_score_fn, schedule, x0_BL) -> the exact -log p(x0) (B,), nats, of a kernel with `advance`
            that has one.
    """

    name: str
    step: Step
    nfe: int
    processes: tuple[str, ...]
    paper: str
    advance: Advance | None = None
    memory: Callable[[Process, jax.Array], Any] | None = None
    finish: Advance | None = None
    calls: Callable[[Any], jax.Array] | None = None
    nll: Callable[..., jax.Array] | None = None

    @property
    def has_likelihood(self) -> bool:
        """Whether `step` is all there is to it, so that the M-step bound is this sampler's own."""
        return self.advance is None and self.finish is None

    @property
    def stand_in(self) -> "Kernel":
        """Its one-stage `step` alone: what teachers, cost tables and objectives run."""
        return self._replace(nfe=1, advance=None, memory=None, finish=None, calls=None, nll=None)


class EventSampler(NamedTuple):
    """A sampler without a grid, which moves from event to event.

    Attributes:
        name: as in configs.
        draw: (key_B, process, log_score_fn, length, budget, knobs, condition) -> Sample. `budget` is the number of network
            evaluations that are aimed at, where the sampler has a choice; `knobs` are scalars; `condition` may be None.
        processes: names of the processes it is defined for.
        paper: its source.
        exact: whether it draws from the network's own law, whatever the budget.
    """

    name: str
    draw: Callable[..., Any]
    processes: tuple[str, ...]
    paper: str
    exact: bool


def jump_form(process: Process, x_BL: jax.Array, log_mass_BLS: jax.Array, knobs: Knobs) -> Transition:
    """A transition from the log-probability of jumping to each data token, which may sum to more than one."""
    if isinstance(process, Absorbing):
        movable_BL = x_BL == process.mask
    else:
        movable_BL = jnp.ones_like(x_BL, bool)
        # Next to impossible rather than impossible: a temperature's gradient is zero there, not 0 times infinity.
        log_mass_BLS = jnp.where(jax.nn.one_hot(x_BL, process.vocab_size) > 0, -1e30, log_mass_BLS)
    log_total_BL = jax.nn.logsumexp(log_mass_BLS, -1)
    jump_BL = jnp.minimum(jnp.exp(log_total_BL), _MAX_JUMP)
    log_stay_BL = jnp.where(movable_BL, jnp.log1p(-jump_BL), 0.0)
    redraws = not isinstance(process, Absorbing)
    log_destination_BLS = normalized(log_mass_BLS, log_total_BL)
    return Transition(x_BL, log_stay_BL, knobs.temper(log_destination_BLS), knobs.log_neighbour, redraws)


def normalized(log_mass_BLS: jax.Array, log_total_BL: jax.Array) -> jax.Array:
    """log_mass less the logarithm of its sum; what is nowhere possible stays so.

    A draw does not need it, but XLA's memory does: the sum then has one reader, and the array before it is freed
    (benchmarks/sampler_memory.py: one array of the vocabulary's size less).
    """
    return log_mass_BLS - jnp.maximum(log_total_BL, -1e30)[..., None]


def denoise(process: Process, log_score_fn: LogScoreFn, x_BL: jax.Array, t: jax.Array, knobs: Knobs) -> Transition:
    """The last step, from time t to clean data: reveals every mask, or draws x_0 from its posterior.

    tauLDR takes the posterior's mode instead: that is the limit of temperature zero, and another law.
    """
    log_score_BLS = log_score_fn(x_BL, t)
    if isinstance(process, Absorbing):
        # Everything is revealed: a factor on the score has nothing left to change, and must not drift in training.
        if knobs.coefficient == "log_score":
            log_score_BLS = knobs.scale(log_score_BLS)
        log_stay_BL = jnp.where(x_BL == process.mask, -jnp.inf, 0.0)
        return Transition(x_BL, log_stay_BL, knobs.temper(log_score_BLS), knobs.log_neighbour)
    if isinstance(process, DiscretizedGaussian):  # it is the posterior: a factor has nothing to change
        if knobs.coefficient == "log_score":
            log_score_BLS = knobs.scale(log_score_BLS)
        neutral = dataclasses.replace(knobs, log_temperature=jnp.zeros(()))
        return jump_form(process, x_BL, jax.nn.log_softmax(knobs.temper(log_score_BLS)), neutral)
    log_score_BLS = knobs.scale(log_score_BLS)
    return jump_form(process, x_BL, *_tempered_posterior(process, log_score_BLS, x_BL, t, knobs))


def _tempered_posterior(process, log_score_BLS, x_BL, t, knobs):
    probs_BLS = uniform_step_probs(process, log_score_BLS, x_BL, process.noise.sigma_bar(t))
    # Here the temperature acts on the whole posterior: staying is one of the tokens drawn.
    log_mass_BLS = jax.nn.log_softmax(knobs.temper(jnp.log(probs_BLS)))
    return log_mass_BLS, dataclasses.replace(knobs, log_temperature=jnp.zeros(()))
