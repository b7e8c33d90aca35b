"""The student: the optimizer's form of a sampler, a few learned numbers per step and the bijection that makes them a schedule."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.processes.potentials import Factors
from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Kernel, StagedKernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import COEFFICIENTS, Schedule, StepParameters
from lsd_jax.samplers.schedule import log_temperature as start_temperature


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Student:
    """A sampler of M steps: learned arrays (M,), and what is fixed.

    Attributes:
        step_logits: the step sizes are their softmax.
        log_coefficient: logarithm of Phi.
        log_temperature: logarithm of the temperature.
        kernel: the base sampler.
        coupling: where its randomness comes from.
        coefficient: what Phi multiplies, "score" or "log_score".
        log_potential: pair potentials (M, D, S, S) or their factors, fitted before any gradient step, or None.
        top_p: share of the probability that tokens are drawn from; set after all fitting, which it would make infinite.
    """

    step_logits: jax.Array
    log_coefficient: jax.Array
    log_temperature: jax.Array
    kernel: Kernel | StagedKernel = dataclasses.field(metadata={"static": True})
    coupling: Coupling = dataclasses.field(metadata={"static": True})
    coefficient: str = dataclasses.field(metadata={"static": True})
    log_potential: jax.Array | Factors | None = None
    top_p: float = dataclasses.field(default=1.0, metadata={"static": True})

    @property
    def steps(self) -> int:
        return self.step_logits.shape[0]

    @property
    def time_grid(self) -> jax.Array:
        """tau (M + 1,): falls monotonically from 1 to 0, both exact (docs/design.md)."""
        return _falling(self.step_logits)

    def schedule(self) -> Schedule:
        """The schedule a sampler runs."""
        fitted = jax.lax.stop_gradient(self.log_potential)
        params = StepParameters(self.log_coefficient, self.log_temperature, self.coefficient, fitted, self.top_p)
        return Schedule(self.time_grid, params)

    def sampler(self, length: int | None = None, process: Process | None = None, **facts: Any) -> Sampler:
        """The sampler that this is."""
        return Sampler(self.schedule(), self.kernel, self.coupling, length, process, facts)


@jax.jit
def _falling(step_logits_M: jax.Array) -> jax.Array:
    inner = 1 - jnp.cumsum(jax.nn.softmax(step_logits_M))[:-1]
    return jnp.concatenate([jnp.ones(1), inner, jnp.zeros(1)])


def frozen(student: Student, *fields: str) -> Student:
    """The student with some of its fields constant under differentiation."""
    return dataclasses.replace(student, **{name: jax.lax.stop_gradient(getattr(student, name)) for name in fields})


def init_student(
    kernel: Kernel | StagedKernel,
    coupling: Coupling,
    coefficient: str,
    steps: int,
    time_grid: np.ndarray | None = None,
    temperature: float = 1.0,
    log_potential: np.ndarray | Factors | None = None,
) -> Student:
    """A student that *is* its base sampler: neutral parameters but for a temperature, equal steps, or those of `time_grid`.

    Raises:
        ValueError: fewer than one step, an unknown coefficient, a temperature that is not positive, or a grid that is not
            M + 1 falling times from 1 to 0.
    """
    if steps < 1:
        raise InputError(f"steps={steps}: at least one step is needed")
    if coefficient not in COEFFICIENTS:
        raise InputError(f"coefficient={coefficient!r}: choose one of {COEFFICIENTS}")
    if not 0 <= temperature < np.inf:
        raise InputError(f"temperature={temperature}: must be 0 (the likeliest token) or more")
    logits = np.zeros(steps)
    if time_grid is not None:
        grid = np.asarray(time_grid, np.float64)
        if len(grid) != steps + 1 or grid[0] != 1 or grid[-1] != 0 or not (np.diff(grid) < 0).all():
            raise InputError(f"time_grid: of {steps} steps falls from 1 to 0 in {steps + 1} values, not {grid}")
        logits = np.log(-np.diff(grid))
    neutral = jnp.zeros(steps)
    logits, log_temperature = (
        jnp.asarray(logits, jnp.float32),
        jnp.full(steps, start_temperature(temperature), jnp.float32),
    )
    potentials = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), log_potential)
    return Student(logits, neutral, log_temperature, kernel, coupling, coefficient, potentials)
