"""Pair potentials where positions jump many times: a step's tokens depend on each other, at no further network evaluation.

Under uniform noise every position may change in every step, so a step draws all of them from left to right, staying being
one of the tokens (processes/potentials.py). A table of potentials per step, between neighbors, is fitted to the path KL of that
step, which is exact: the bridge's positions are independent, and the sum over the token to the left is S x S work. The
gain is greatest where the network knows least, in a long last step, so the time grid is searched for again with it.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from lsd_jax import parallel
from lsd_jax.distill.potentials.fit import PRECISION, fit_table, split
from lsd_jax.distill.problem import Plan
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.potentials import tilted_chain
from lsd_jax.samplers.bridge import bridge_state
from lsd_jax.samplers.coupling import IID
from lsd_jax.samplers.kernel import Kernel, transition_of
from lsd_jax.samplers.schedule import Step, neutral

_STEPS, _RATE, _BATCH = 150, 0.1, 32  # of Adam
_SEQUENCES = 64  # per device and pass
_LAST_STEPS = 32  # times at which the cost of a last step is measured

StepProbs = tuple[np.ndarray, np.ndarray]  # the bridge's probabilities (P, L, S), the network's log-probabilities


def with_potentials(model: Diffusion, kernel: Kernel, plan: Plan, tokens: np.ndarray, key_B: jax.Array) -> Plan:
    """The plan with potentials (M, 1, S, S), zeros in every step where unseen sequences do not gain by them.

    Args:
        tokens: (P, L) sequences to fit on; the last quarter judges.
        key_B: their keys.
    """
    steps, vocab = len(plan.times) - 1, model.process.vocab_size
    tables = np.zeros((steps, 1, vocab, vocab), np.float32)
    before = after = 0.0
    for k, (t, u) in enumerate(zip(plan.times[:-1], plan.times[1:])):
        table, independent, improved = fit_step(_step_probs(model, kernel, tokens, key_B, t, u))
        if improved < independent:
            tables[k, 0] = table
        before, after = before + independent, after + min(independent, improved)
    logging.info("M=%d: %.2f nats independent, %.2f with pair potentials", steps, before, after)
    metrics = {"independent_nats": before, "potential_nats": after}
    return plan._replace(metrics=plan.metrics | metrics, log_potential=tables)


def denoising_cost(
    model: Diffusion,
    kernel: Kernel,
    tokens: np.ndarray,
    key_B: jax.Array,
    judged: tuple[np.ndarray, jax.Array],
) -> Callable[[np.ndarray], np.ndarray]:
    """What a last step with potentials costs, nats per sequence of `judged`, by the times (n,) at which it starts.

    Args:
        judged: the sequences and keys of the cost table that this is to replace a column of.
    """
    starts, costs = np.linspace(0, 1, _LAST_STEPS + 1)[1:], []
    for t in starts:
        table_SS, independent, improved = fit_step(_step_probs(model, kernel, tokens, key_B, t, 0.0))
        kept_SS = table_SS if improved < independent else np.zeros_like(table_SS)
        costs.append(float(_cost(kept_SS, *_step_probs(model, kernel, *judged, t, 0.0))))
    return lambda times: np.interp(times, starts, costs)


def fit_step(probs: StepProbs) -> tuple[np.ndarray, float, float]:
    """Potentials (S, S) of one step by maximum a posteriori on three quarters of the sequences, and the step's cost on the
    last quarter without and with them, nats per sequence."""
    fitted = split(len(probs[0]))
    seen, unseen = ([jnp.asarray(side[part]) for side in probs] for part in (slice(fitted), slice(fitted, None)))
    table_SS = _fit(*seen)
    neutral_SS = jnp.zeros_like(table_SS)
    return np.asarray(table_SS), float(_cost(neutral_SS, *unseen)), float(_cost(table_SS, *unseen))


@jax.jit
def _cost(table_SS, probs_BLS, log_probs_BLS) -> jax.Array:
    return tilted_chain(log_probs_BLS, table_SS).kl_from(probs_BLS).sum(-1).mean()


@jax.jit
def _fit(probs_PLS, log_probs_PLS) -> jax.Array:
    count = len(probs_PLS)
    batch = min(_BATCH, count)

    def loss(table_SS, index):
        offset = index % (count // batch) * batch
        part = (jax.lax.dynamic_slice_in_dim(side, offset, batch) for side in (probs_PLS, log_probs_PLS))
        return _cost(table_SS, *part) + 0.5 * PRECISION / count * (table_SS**2).sum()

    pairs = lambda probs_PLS: jnp.einsum("pla,plv->av", probs_PLS[:, :-1], probs_PLS[:, 1:])
    # Where the network knows nothing this start is the answer, but for the prior.
    start_SS = jnp.log((pairs(probs_PLS) + 1) / (pairs(jnp.exp(log_probs_PLS)) + 1))
    return fit_table(loss, start_SS, _STEPS, _RATE)


def _step_probs(model, kernel, tokens, key_B, t, u) -> StepProbs:
    """The distribution of the bridge's step from t to u at its state at t, and the network's; u = 0 denoises."""
    mesh = parallel.data_mesh()
    call = functools.partial(_forward, kernel, mesh, u == 0, model, jnp.asarray([t, u], jnp.float32))
    size = min(_SEQUENCES, -(-len(tokens) // mesh.size)) * mesh.size
    return parallel.in_batches(lambda *batch: call(batch), size, key_B, tokens)


@functools.partial(jax.jit, static_argnames=("kernel", "mesh", "last"))
def _forward(kernel, mesh, last, model, times, batch):
    def local(replicated, batch):
        (model, (t, u)), (key_B, tokens_BL) = replicated, batch
        x_BL = bridge_state(key_B, model.process, IID, tokens_BL, t)
        step = transition_of(kernel, model, x_BL, Step(t, u, neutral()), last)
        return jnp.exp(model.process.bridge(x_BL, tokens_BL, t, u).log_distribution()), step.log_distribution()

    return parallel.map_over_data(local, mesh)((model, times), batch)
