"""Laws of samplers by enumeration: every state of every step, and of every stage inside a step. No sampling noise."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.models.score_fn import LogScoreFn, posterior_score_fn
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import Process, make_process
from lsd_jax.samplers.kernel import Kernel, Knobs, denoise, neutral_knobs
from lsd_jax.samplers.simulate import Schedule
from lsd_jax.samplers.transition import Transition


def oracle(name: str, probs: np.ndarray, vocab_size: int, length: int, noise: str = "loglinear"):
    """A process and the exact score of a law on all sequences."""
    if name == "gaussian":
        process = make_process(name, vocab_size, make_noise("exponential", time_base=0.2), rate_sigma=1.0, q_sigma=3.0)
    else:
        process = make_process(name, vocab_size, make_noise(noise))
    return process, posterior_score_fn(process, enumerated_log_posterior(process, probs, length))


def law_of(tokens, vocab_size: int) -> np.ndarray:
    """The frequencies (S^L,) of sampled sequences, in the order of `all_sequences`."""
    tokens = np.asarray(tokens)
    index = tokens @ vocab_size ** np.arange(tokens.shape[1])[::-1]
    return np.bincount(index, minlength=vocab_size ** tokens.shape[1]) / len(tokens)


def total_variation(p, q) -> float:
    return float(np.abs(np.asarray(p) - np.asarray(q)).sum() / 2)


def state_probs(transition: Transition, num_states: int) -> jax.Array:
    """The law (B, L, num_states) of every position after a transition."""
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


def step_matrix(process: Process, score_fn: LogScoreFn, kernel: Kernel, length: int, t, u, knobs: Knobs) -> jax.Array:
    """P (N, N) of one step between all states; a step of n stages is a sum over every way through n - 1 states."""
    states_NL = jnp.asarray(all_sequences(process.num_states, length))
    N, stages = len(states_NL), 1 if kernel.advance is None else kernel.nfe
    ways = np.asarray(list(itertools.product(range(N), repeat=stages)))
    visited = [states_NL[ways[:, stage]] for stage in range(stages)]
    if kernel.advance is None:
        transitions = [kernel.step(process, score_fn, visited[0], t, u, knobs)]
    else:
        draw, memory = _Forced(visited[1:]), kernel.memory(process, visited[0]) if kernel.memory else ()
        kernel.advance(draw, memory, process, score_fn, visited[0], t, u, knobs)
        transitions = draw.transitions
    assert len(transitions) == stages
    weight_W = jnp.ones(len(ways))
    for transition, tokens in zip(transitions, visited[1:]):
        probs_WLV = state_probs(transition, process.num_states)
        weight_W = weight_W * jnp.take_along_axis(probs_WLV, tokens[..., None], -1)[..., 0].prod(-1)
    last_WLV = state_probs(transitions[-1], process.num_states)
    last_WN = last_WLV[:, jnp.arange(length)[None], states_NL].prod(-1)
    return (weight_W[:, None] * last_WN).reshape(N, -1, N).sum(1)


def step_matrices(process: Process, score_fn: LogScoreFn, kernel: Kernel, length: int, times, knobs=None) -> np.ndarray:
    """P (M, N, N) of the steps between M + 1 times; neutral knobs, or one a step."""
    times = jnp.asarray(times)
    knobs = neutral_knobs(len(times) - 1) if knobs is None else knobs
    matrix = jax.jit(lambda steps: jax.lax.map(lambda s: step_matrix(process, score_fn, kernel, length, *s), steps))
    return np.asarray(matrix((times[:-1], times[1:], knobs)))


def law_after(start_N: np.ndarray, matrices_MNN: np.ndarray) -> np.ndarray:
    """The law (N,) after steps, from the law before them."""
    return functools.reduce(np.matmul, np.asarray(matrices_MNN, np.float64), np.asarray(start_N, np.float64))


def marginal_law(process: Process, probs: np.ndarray, length: int, t) -> np.ndarray:
    """p_t (N,) over all states."""
    data_DL = all_sequences(process.vocab_size, length)
    states_NL = all_sequences(process.num_states, length)
    one_DLV = np.asarray(process.marginal(jnp.asarray(data_DL), jnp.full(data_DL.shape, t)))
    return probs @ one_DLV[:, np.arange(length)[None], states_NL].prod(-1)


def exact_law(process: Process, score_fn: LogScoreFn, kernel: Kernel, schedule: Schedule, length: int) -> np.ndarray:
    """The law (S^L,) of a sampler's output, from the prior to the denoising step."""
    states = jnp.asarray(all_sequences(process.num_states, length))
    law = jnp.exp(jax.vmap(process.prior_log_prob)(states))
    first = jax.tree.map(lambda leaf: leaf[:-1], schedule.knobs)
    last = jax.tree.map(lambda leaf: leaf[-1], schedule.knobs)
    law = law_after(law, step_matrices(process, score_fn, kernel, length, schedule.time_grid[:-1], first))
    end = Kernel("denoise", _denoise_step, 1, (process.name,), "")
    law = law @ np.asarray(step_matrix(process, score_fn, end, length, schedule.time_grid[-2], 0.0, last), np.float64)
    data = (np.asarray(states) < process.vocab_size).all(1)
    return law[data] / law[data].sum()


def _denoise_step(process, score_fn, x_BL, t, u, knobs):
    return denoise(process, score_fn, x_BL, t, knobs)
