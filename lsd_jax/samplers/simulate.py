"""Runs a sampler: one `jax.lax.scan` over the steps, then the denoising step."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.models.score_fn import LogScoreFn
from lsd_jax.processes.score import Process
from lsd_jax.samplers.coupling import Coupling, path_noise, sequence_keys
from lsd_jax.samplers.kernel import Kernel, Knobs, denoise, neutral_knobs


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
    """Final tokens (B, L), the true number of network evaluations, and the states (M + 1, B, L) if they were asked for."""

    tokens: jax.Array
    nfe: int
    states: jax.Array | None


def uniform_schedule(steps: int, temperature: float = 1.0) -> Schedule:
    """Equal steps from 1 to 0, neutral knobs but for one temperature."""
    knobs = neutral_knobs(steps)
    knobs = dataclasses.replace(knobs, log_temperature=knobs.log_temperature + np.log(temperature))
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
) -> Sample:
    """Draws `batch` sequences of `length` tokens.

    Args:
        key: a single key, or one key a sequence (B,); a sequence depends on its own key only.
        keep_states: also return the states at every grid point.
        start_BL: states to start from instead of the prior's.

    Raises:
        ValueError: the kernel or the coupling is not defined for the process.
    """
    check_kernel(kernel, process)
    key_B = key if key.ndim else sequence_keys(key, batch)
    noise = path_noise(key_B, process, coupling, length)
    x_BL = start_BL
    if x_BL is None:
        x_BL = jax.vmap(lambda k: process.prior_sample(jax.random.fold_in(k, 2**31 - 1), (length,)))(key_B)

    def move(carry, transition, index):
        x_BL, log_survival_BL = carry
        x_BL = transition.sample(*noise.step(index, log_survival_BL))
        return x_BL, log_survival_BL + transition.log_stay_BL

    def body(carry, step):
        index, t, u, knobs = step
        carry = move(carry, kernel.step(process, log_score_fn, carry[0], t, u, knobs), index)
        return carry, carry[0] if keep_states else None

    last = schedule.steps - 1
    grid = schedule.time_grid
    steps = jax.tree.map(lambda leaf: leaf[:last], schedule.knobs)
    carry = (x_BL, jnp.zeros((batch, length)))
    carry, states = jax.lax.scan(body, carry, (jnp.arange(last), grid[:last], grid[1:-1], steps))
    last_knobs = jax.tree.map(lambda leaf: leaf[last], schedule.knobs)
    tokens_BL, _ = move(carry, denoise(process, log_score_fn, carry[0], grid[last], last_knobs), last)
    if keep_states:
        states = jnp.concatenate([x_BL[None], states, tokens_BL[None]])
    return Sample(tokens_BL, kernel.nfe * last + 1, states)


def check_kernel(kernel: Kernel, process: Process) -> None:
    """Raises ValueError where the kernel is not defined for the process."""
    if process.name not in kernel.processes:
        raise ValueError(f"kernel {kernel.name!r} is defined for {kernel.processes}, not for {process.name!r}")
