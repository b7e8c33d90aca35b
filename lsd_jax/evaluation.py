"""Draws samples and bounds of one sampler at one step count: the numbers behind a row of the report."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from lsd_jax import parallel
from lsd_jax.metrics.bound import m_step_nll, many_step_nll
from lsd_jax.metrics.gen_ppl import scorer_nll, weighted_nll
from lsd_jax.models.score_fn import ScoreModel
from lsd_jax.processes.score import Process
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.kernel import EventSampler, Kernel
from lsd_jax.samplers.simulate import Condition, Schedule, simulate


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Everything that draws a sample but the network.

    An event sampler reads the schedule's steps as its budget and the knobs of its first step.
    """

    process: Process
    kernel: Kernel | EventSampler
    coupling: Coupling
    schedule: Schedule
    length: int

    @property
    def nfe(self) -> int:
        """Network evaluations a sample by the step count, the denoising call included."""
        if isinstance(self.kernel, EventSampler):
            return self.schedule.steps
        return self.kernel.nfe * (self.schedule.steps - 1) + 1

    @property
    def has_likelihood(self) -> bool:
        """Whether the M-step bound, or the likelihood itself, is defined for it, and finite."""
        if isinstance(self.kernel, EventSampler) or not (self.kernel.has_likelihood or self.kernel.nll):
            return False
        if self.schedule.knobs.top_p < 1:  # what lies outside the nucleus is impossible
            return False
        # Draws that share a shift have no tractable likelihood where positions jump many times.
        return self.process.name == "absorbing" or self.coupling.name == "iid"


# Static arguments are hashable and compared by value, so every schedule of M steps shares one compilation.
@functools.partial(jax.jit, static_argnums=range(6))
def _draw(apply, process, kernel, coupling, length, mesh, params, schedule, batch):
    def local(replicated, batch):
        params, schedule = replicated
        key_B, condition = batch
        score_fn = ScoreModel(apply, params).bind(params)
        if isinstance(kernel, EventSampler):
            knobs = jax.tree.map(lambda leaf: leaf[0], schedule.knobs)
            sample = kernel.draw(key_B, process, score_fn, length, schedule.steps, knobs, condition)
        else:
            sample = simulate(
                key_B, process, kernel, score_fn, schedule, coupling, len(key_B), length, condition=condition
            )
        return sample.tokens, sample.calls_B

    return parallel.map_over_data(local, mesh)((params, schedule), batch)


@functools.partial(jax.jit, static_argnums=range(5))
def _bound(apply, process, kernel, coupling, mesh, params, schedule, batch):
    def local(replicated, batch):
        params, schedule = replicated
        score_fn = ScoreModel(apply, params).bind(params)
        if kernel.nll is not None:
            return kernel.nll(process, kernel, score_fn, schedule, batch[1])
        return m_step_nll(batch[0], process, kernel, score_fn, schedule, coupling, batch[1])

    return parallel.map_over_data(local, mesh)((params, schedule), batch)


@functools.partial(jax.jit, static_argnums=range(4))
def _many(apply, process, draws, mesh, params, batch):
    def local(params, batch):
        return many_step_nll(batch[0], process, ScoreModel(apply, params).bind(params), batch[1], draws)

    return parallel.map_over_data(local, mesh)(params, batch)


@functools.partial(jax.jit, static_argnums=range(2))
def _score(model, mesh, params, tokens_BL):
    return parallel.map_over_data(lambda params, x: scorer_nll(model, params, x), mesh)(params, tokens_BL)


@functools.partial(jax.jit, static_argnums=range(2))
def _weighted(model, mesh, params, batch):
    return parallel.map_over_data(lambda params, batch: weighted_nll(model, params, *batch), mesh)(params, batch)


def draw_samples(model: ScoreModel, sampler: Sampler, key: jax.Array, count: int, batch_size: int) -> np.ndarray:
    """Tokens (count, L), uint8 or int32, whatever the batch size."""
    return draw_and_count(model, sampler, sequence_keys(key, count), batch_size)[0]


def draw_and_count(
    model: ScoreModel, sampler: Sampler, key_B: jax.Array, batch_size: int, condition: Condition | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (n, L) and the network evaluations really made for each (n,), one key a sequence; so has `condition`."""
    mesh = parallel.data_mesh()
    fixed = (model.apply, sampler.process, sampler.kernel, sampler.coupling, sampler.length, mesh)
    rows = () if condition is None else condition

    def draw(keys, *rows):
        return _draw(*fixed, model.params, sampler.schedule, (keys, Condition(*rows) if rows else None))

    tokens, calls = parallel.in_batches(draw, batch_size, key_B, *rows)
    return tokens.astype(np.uint8 if sampler.process.num_states <= 256 else np.int32), calls


def bound_nats(model: ScoreModel, sampler: Sampler, key: jax.Array, tokens: np.ndarray, batch_size: int) -> np.ndarray:
    """The M-step bound (n,) of given sequences, nats each; their exact -log p where the kernel has it."""
    mesh = parallel.data_mesh()
    fixed = (model.apply, sampler.process, sampler.kernel, sampler.coupling, mesh)
    bound = lambda keys, x: _bound(*fixed, model.params, sampler.schedule, (keys, x))  # noqa: E731
    return parallel.in_batches(bound, batch_size, sequence_keys(key, len(tokens)), tokens.astype(np.int32))


def many_step_nats(
    model: ScoreModel, process: Process, key: jax.Array, tokens: np.ndarray, batch_size: int, draws: int = 16
) -> np.ndarray:
    """The bound (n,) in the limit of infinitely many iid steps, nats each."""
    mesh = parallel.data_mesh()
    many = lambda keys, x: _many(model.apply, process, draws, mesh, model.params, (keys, x))  # noqa: E731
    return parallel.in_batches(many, batch_size, sequence_keys(key, len(tokens)), tokens.astype(np.int32))


def scorer_nats(model: Any, params: Any, tokens: np.ndarray, batch_size: int) -> np.ndarray:
    """-log p (n,) of given sequences under the autoregressive scorer, nats each."""
    mesh = parallel.data_mesh()
    score = lambda x: _score(model, mesh, params, x)  # noqa: E731
    return parallel.in_batches(score, batch_size, tokens.astype(np.int32))


def gpt2_nats(model: Any, params: Any, tokens: np.ndarray, weight: np.ndarray, batch_size: int) -> np.ndarray:
    """(nats, scored tokens) (n, 2) of given sequences under GPT-2, whose tokens count by `weight` (n, L)."""
    mesh = parallel.data_mesh()
    score = lambda *batch: _weighted(model, mesh, params, batch)  # noqa: E731
    return parallel.in_batches(score, batch_size, tokens.astype(np.int32), weight)
