"""Runs a sampler: one `jax.lax.scan` over the steps, then the denoising step."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.score import Process
from lsd_jax.samplers.coupling import Coupling, PathNoise, path_noise, sequence_keys
from lsd_jax.samplers.kernel import Kernel, Knobs, denoise, neutral_knobs
from lsd_jax.samplers.transition import Transition


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
    """The times and knobs of M steps: `time_grid` (M + 1,) falls from 1 to 0, its last interval is the denoising step."""

    time_grid: jax.Array
    knobs: Knobs

    @property
    def steps(self) -> int:
        return self.time_grid.shape[0] - 1


class Sample(NamedTuple):
    """What a sampler returns.

    Attributes:
        tokens: final tokens (B, L).
        nfe: network evaluations a sequence by the step count; an upper bound where a kernel skips some.
        states: (M + 1, B, L) if they were asked for.
        calls_B: network evaluations really made for every sequence (B,).
    """

    tokens: jax.Array
    nfe: int
    states: jax.Array | None
    calls_B: jax.Array


class Condition(NamedTuple):
    """Infilling: positions that are given and never change; a prefix is the simplest case.

    Attributes:
        tokens_BL: the given tokens; elsewhere unread.
        fixed_BL: where they are given.
    """

    tokens_BL: jax.Array
    fixed_BL: jax.Array

    def apply(self, x_BL: jax.Array) -> jax.Array:
        """x with the given tokens in their places."""
        return jnp.where(self.fixed_BL, self.tokens_BL, x_BL)


def uniform_schedule(steps: int, temperature: float = 1.0, top_p: float = 1.0) -> Schedule:
    """Equal steps from 1 to 0, neutral knobs but for one temperature and nucleus."""
    knobs = neutral_knobs(steps)
    knobs = dataclasses.replace(knobs, log_temperature=knobs.log_temperature + np.log(temperature), top_p=top_p)
    return Schedule(jnp.asarray(np.linspace(1, 0, steps + 1), jnp.float32), knobs)


def eps_schedule(steps: int, eps: float = 1e-5) -> Schedule:
    """The convention of SEDD, LSD and JYS: equal steps from 1 to eps, then denoise at eps."""
    grid = np.concatenate([np.linspace(1, eps, steps), [0.0]])
    return Schedule(jnp.asarray(grid, jnp.float32), neutral_knobs(steps))


def simulate(
    key: jax.Array,
    process: Process,
    kernel: Kernel,
    log_score_fn: LogScoreFn,
    schedule: Schedule,
    coupling: Coupling,
    batch: int,
    length: int,
    keep_states: bool = False,
    start_BL: jax.Array | None = None,
    condition: Condition | None = None,
) -> Sample:
    """Draws `batch` sequences of `length` tokens.

    Args:
        key: a single key, or one key a sequence (B,); a sequence depends on its own key only.
        keep_states: also return the states at every grid point.
        start_BL: states to start from instead of the prior's.
        condition: tokens that are given.

    Raises:
        ValueError: the kernel or the coupling is not defined for the process, or the coupling not for the kernel.
    """
    check_kernel(kernel, process)
    check_coupling(kernel, coupling)
    key_B = key if key.ndim else sequence_keys(key, batch)
    noise = path_noise(key_B, process, coupling, length)
    x_BL = start_BL
    if x_BL is None:
        x_BL = jax.vmap(lambda k: process.prior_sample(jax.random.fold_in(k, 2**31 - 1), (length,)))(key_B)
    given = (lambda x_BL: x_BL) if condition is None else condition.apply
    x_BL = given(x_BL)

    def move(carry, step, own_step, own_advance):
        index, t, u, knobs = step
        x_BL, log_survival_BL, memory = carry
        if own_advance is None:
            transition = own_step(process, log_score_fn, x_BL, t, u, knobs)
            x_BL = given(transition.sample(*noise.step(index, log_survival_BL)))
            return x_BL, log_survival_BL + transition.log_stay_BL, memory
        draw = _StageDraw(noise, index, given)
        x_BL, memory = own_advance(draw, memory, process, log_score_fn, x_BL, t, u, knobs)
        return x_BL, log_survival_BL, memory

    def body(carry, step):
        carry = move(carry, step, kernel.step, kernel.advance)
        return carry, carry[0] if keep_states else None

    last, grid = schedule.steps - 1, schedule.time_grid
    carry = (x_BL, jnp.zeros((batch, length)), kernel.memory(process, x_BL) if kernel.memory else ())
    steps = jax.tree.map(lambda leaf: leaf[:last], schedule.knobs)
    carry, states = jax.lax.scan(body, carry, (jnp.arange(last), grid[:last], grid[1:-1], steps))
    last_knobs = jax.tree.map(lambda leaf: leaf[last], schedule.knobs)
    last_step = lambda process, score_fn, x_BL, t, u, knobs: denoise(process, score_fn, x_BL, t, knobs)  # noqa: E731
    tokens_BL, _, memory = move(carry, (last, grid[last], grid[last + 1], last_knobs), last_step, kernel.finish)
    if keep_states:
        states = jnp.concatenate([x_BL[None], states, tokens_BL[None]])
    nfe = kernel.nfe * last + 1
    calls_B = kernel.calls(memory) if kernel.calls else jnp.full(batch, nfe, jnp.int32)
    return Sample(tokens_BL, nfe, states, calls_B)


class _StageDraw(NamedTuple):
    """`kernel.Draw` of one step."""

    noise: PathNoise
    index: jax.Array
    given: Callable[[jax.Array], jax.Array]

    def __call__(self, transition: Transition, stage: int = 0) -> jax.Array:
        return self.given(transition.sample(*self.uniform(stage)))

    def uniform(self, stage: int) -> jax.Array:
        return self.noise.stage(self.index, stage)


def check_kernel(kernel: Kernel, process: Process) -> None:
    """Raises ValueError where the kernel is not defined for the process."""
    if process.name not in kernel.processes:
        raise ValueError(f"kernel {kernel.name!r} is defined for {kernel.processes}, not for {process.name!r}")


def check_coupling(kernel: Kernel, coupling: Coupling) -> None:
    """Raises ValueError where the kernel draws in stages, which only independent noise serves."""
    if kernel.advance is not None and coupling.name != "iid":
        raise ValueError(
            f"kernel {kernel.name!r} draws in stages of its own: config.student.coupling.name={coupling.name!r} must be 'iid'"
        )
