"""Distributions of samplers by enumeration: every state of every step, and of every stage inside a step. No sampling noise."""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import Process, make_process
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.kernel import AnyKernel, Condition, Kernel, Sample, denoise
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import Schedule, Step, neutral
from lsd_jax.samplers.simulate import simulate


def oracle(name: str, probs: np.ndarray, vocab_size: int, length: int, noise: str = "loglinear") -> Diffusion:
    """The exact model of a distribution on all sequences; one object per distribution, so that its programs are shared."""
    return _oracle(name, tuple(probs.tolist()), vocab_size, length, noise, jax.config.jax_enable_x64)


@functools.cache
def _oracle(name, probs, vocab_size, length, noise, float64) -> Diffusion:
    probs = np.asarray(probs)
    if name == "gaussian":
        process = make_process(name, vocab_size, make_noise("exponential", time_base=0.2), rate_sigma=1.0, q_sigma=3.0)
    else:
        process = make_process(name, vocab_size, make_noise(noise))
    exact = enumerated_log_posterior(process, probs, length)
    return Diffusion.from_function(exact, process, "log_posterior", time_conditioned=not process.jumps_once)


@functools.partial(jax.jit, static_argnames=("count", "keep_states"))
def draw(
    key: jax.Array,
    model: Diffusion,
    sampler: Sampler,
    count: int,
    keep_states: bool = False,
    condition: Condition | None = None,
) -> Sample:
    """`simulate` as one program."""
    return simulate(key, model, sampler, count, keep_states=keep_states, condition=condition)


def frequencies(tokens, vocab_size: int) -> np.ndarray:
    """The frequencies (S^L,) of sampled sequences, in the order of `all_sequences`."""
    tokens = np.asarray(tokens)
    index = tokens @ vocab_size ** np.arange(tokens.shape[1])[::-1]
    return np.bincount(index, minlength=vocab_size ** tokens.shape[1]) / len(tokens)


def total_variation(p, q) -> float:
    return float(np.abs(np.asarray(p) - np.asarray(q)).sum() / 2)


def state_probs(transition: Transition, num_states: int) -> jax.Array:
    """The distribution (B, L, num_states) of every position after a transition."""
    stay_BL, jump_BLS = transition.probabilities()
    jump_BLV = jnp.pad(jump_BLS, ((0, 0), (0, 0), (0, num_states - jump_BLS.shape[-1])))
    jump_BLV = jnp.where((stay_BL < 1)[..., None], jump_BLV, 0.0)
    return jump_BLV + stay_BL[..., None] * jax.nn.one_hot(transition.x_BL, num_states)


class _Forced:
    """A `Draw` whose stages return given tokens, and which keeps the transitions."""

    def __init__(self, outcomes: list[jax.Array]):
        self.outcomes, self.transitions = outcomes, []

    def __call__(self, transition: Transition, stage: int = 0) -> jax.Array:
        assert stage == len(self.transitions)
        self.transitions.append(transition)
        return self.outcomes[stage] if stage < len(self.outcomes) else transition.x_BL


def step_matrix(model: Diffusion, kernel: AnyKernel, length: int, step: Step) -> jax.Array:
    """P (N, N) of one step between all states; a step of n stages is a sum over every way through n - 1 states."""
    process = model.process
    states_NL = jnp.asarray(all_sequences(process.num_states, length))
    N, stages = len(states_NL), kernel.nfe
    ways = np.asarray(list(itertools.product(range(N), repeat=stages)))
    visited = [states_NL[ways[:, stage]] for stage in range(stages)]
    if isinstance(kernel, Kernel):
        transitions = [kernel.transition(model, visited[0], step)]
    else:
        forced = _Forced(visited[1:])
        kernel.step(forced, kernel.init(process, visited[0]), model, visited[0], step)
        transitions = forced.transitions
    assert len(transitions) == stages
    weight_W = jnp.ones(len(ways))
    for transition, tokens in zip(transitions, visited[1:]):
        probs_WLV = state_probs(transition, process.num_states)
        weight_W = weight_W * jnp.take_along_axis(probs_WLV, tokens[..., None], -1)[..., 0].prod(-1)
    last_WLV = state_probs(transitions[-1], process.num_states)
    last_WN = last_WLV[:, jnp.arange(length)[None], states_NL].prod(-1)
    return (weight_W[:, None] * last_WN).reshape(N, -1, N).sum(1)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _step_matrices(model: Diffusion, kernel: AnyKernel, length: int, steps: Step) -> jax.Array:
    return jax.lax.map(lambda step: step_matrix(model, kernel, length, step), steps)


def step_matrices(model: Diffusion, kernel: AnyKernel, length: int, times, params=None) -> np.ndarray:
    """P (M, N, N) of the steps between M + 1 times; neutral parameters, or one each step."""
    times = jnp.asarray(times)
    params = neutral(len(times) - 1) if params is None else params
    return np.asarray(_step_matrices(model, kernel, length, Step(times[:-1], times[1:], params)))


def law_after(start_N: np.ndarray, matrices_MNN: np.ndarray) -> np.ndarray:
    """The distribution (N,) after steps, from the one before them."""
    return functools.reduce(np.matmul, np.asarray(matrices_MNN, np.float64), np.asarray(start_N, np.float64))


def marginal_law(process: Process, probs: np.ndarray, length: int, t) -> np.ndarray:
    """p_t (N,) over all states."""
    data_DL = all_sequences(process.vocab_size, length)
    states_NL = all_sequences(process.num_states, length)
    one_SV = np.asarray(process.marginal(jnp.arange(process.vocab_size), jnp.full(process.vocab_size, t)))
    return probs @ one_SV[data_DL][:, np.arange(length)[None], states_NL].prod(-1)


def exact_law(model: Diffusion, kernel: AnyKernel, schedule: Schedule, length: int) -> np.ndarray:
    """The distribution (S^L,) of a sampler's output, from the prior to the denoising step."""
    return exact_laws(model, kernel, [schedule], length)[0]


def exact_laws(model: Diffusion, kernel: AnyKernel, schedules: Sequence[Schedule], length: int) -> list[np.ndarray]:
    """`exact_law` of several schedules, with one compilation: their steps end to end."""
    process = model.process
    states = jnp.asarray(all_sequences(process.num_states, length))
    data = (np.asarray(states) < process.vocab_size).all(1)
    start = np.exp(np.asarray(process.prior_log_prob(states)))
    steps = jax.tree.map(lambda *parts: jnp.concatenate(parts), *(schedule.inner for schedule in schedules))
    matrices = np.asarray(_step_matrices(model, kernel, length, steps))
    laws = []
    for schedule, own in zip(schedules, np.split(matrices, np.cumsum([one.steps - 1 for one in schedules])[:-1])):
        law = law_after(start, own) @ np.asarray(_last_matrix(model, length, schedule.last), np.float64)
        laws.append(law[data] / law[data].sum())
    return laws


@functools.partial(jax.jit, static_argnums=1)
def _last_matrix(model: Diffusion, length: int, step: Step) -> jax.Array:
    return step_matrix(model, Kernel("denoise", denoise, (model.process.name,), ""), length, step)
