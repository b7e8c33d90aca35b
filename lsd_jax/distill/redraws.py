"""Neighbour potentials for the uniform process: a step's tokens depend on each other, at no further network evaluation.

Under uniform noise every position may change in every step, so a step draws all of them from left to right, staying being
one of the tokens (samplers/redraw.py). A table of potentials a step, between neighbours, is fitted to the path KL of that
step, which is exact: the bridge's positions are independent, and the sum over the token to the left is S x S work. The
gain is greatest where the network knows least, in a long last step, so the time grid is searched for again with it.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from lsd_jax import parallel
from lsd_jax.distill.plan import Plan
from lsd_jax.models.score_fn import ScoreModel
from lsd_jax.processes.uniform import Uniform
from lsd_jax.samplers.bridge import bridge_state, bridge_transition
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Kernel, denoise, neutral_knobs
from lsd_jax.samplers.redraw import redraw

_PRECISION = 0.2  # of a Gaussian prior on every potential: a standard deviation of 2.2
_STEPS, _RATE, _BATCH = 150, 0.1, 32  # of Adam
_SEQUENCES = 64  # a device and pass
_LAST_STEPS = 32  # times at which the cost of a last step is measured

StepLaws = tuple[np.ndarray, np.ndarray]  # the bridge's probabilities (P, L, S), the network's log-probabilities


def with_redraws(
    process: Uniform, kernel: Kernel, model: ScoreModel, plan: Plan, tokens: np.ndarray, key_B: jax.Array
) -> Plan:
    """The plan with potentials (M, 1, S, S), zeros in every step where unseen sequences do not gain by them.

    Args:
        tokens: (P, L) sequences to fit on; the last quarter judges.
        key_B: their keys.
    """
    steps, vocab = len(plan.times) - 1, process.vocab_size
    tables = np.zeros((steps, 1, vocab, vocab), np.float32)
    before = after = 0.0
    for k, (t, u) in enumerate(zip(plan.times[:-1], plan.times[1:])):
        table, independent, improved = fit_step(_step_laws(process, kernel, model, tokens, key_B, t, u))
        if improved < independent:
            tables[k, 0] = table
        before, after = before + independent, after + min(independent, improved)
    logging.info("M=%d: %.2f nats independent, %.2f with neighbours", steps, before, after)
    metrics = {"independent_nats": before, "neighbour_nats": after}
    return plan._replace(metrics=plan.metrics | metrics, log_neighbour=tables)


def denoising_cost(
    process: Uniform,
    kernel: Kernel,
    model: ScoreModel,
    tokens: np.ndarray,
    key_B: jax.Array,
    judged: tuple[np.ndarray, jax.Array],
) -> Callable[[np.ndarray], np.ndarray]:
    """What a last step with potentials costs, nats a sequence of `judged`, by the times (n,) at which it starts.

    Args:
        judged: the sequences and keys of the cost table that this is to replace a column of.
    """
    starts, costs = np.linspace(0, 1, _LAST_STEPS + 1)[1:], []
    for t in starts:
        table_SS, independent, improved = fit_step(_step_laws(process, kernel, model, tokens, key_B, t, 0.0))
        kept_SS = table_SS if improved < independent else np.zeros_like(table_SS)
        costs.append(float(_cost(kept_SS, *_step_laws(process, kernel, model, *judged, t, 0.0))))
    return lambda times: np.interp(times, starts, costs)


def fit_step(laws: StepLaws) -> tuple[np.ndarray, float, float]:
    """Potentials (S, S) of one step by maximum a posteriori on three quarters of the sequences, and the step's cost on the
    last quarter without and with them, nats a sequence."""
    fitted = len(laws[0]) * 3 // 4
    seen, unseen = ([jnp.asarray(law[part]) for law in laws] for part in (slice(fitted), slice(fitted, None)))
    table_SS = _fit(*seen)
    neutral_SS = jnp.zeros_like(table_SS)
    return np.asarray(table_SS), float(_cost(neutral_SS, *unseen)), float(_cost(table_SS, *unseen))


@jax.jit
def _cost(table_SS, law_BLS, log_law_BLS) -> jax.Array:
    return redraw(log_law_BLS, table_SS).kl_from(law_BLS).sum(-1).mean()


@jax.jit
def _fit(law_PLS, log_law_PLS) -> jax.Array:
    count = len(law_PLS)
    batch = min(_BATCH, count)

    def loss(table_SS, *laws):
        return _cost(table_SS, *laws) + 0.5 * _PRECISION / count * (table_SS**2).sum()

    pairs = lambda law_PLS: jnp.einsum("pla,plv->av", law_PLS[:, :-1], law_PLS[:, 1:])  # noqa: E731
    # Where the network knows nothing this is the answer but for the prior.
    start_SS = jnp.log((pairs(law_PLS) + 1) / (pairs(jnp.exp(log_law_PLS)) + 1))
    optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, _STEPS))

    def step(state, index):
        table_SS, moments = state
        offset = index % (count // batch) * batch
        laws = (jax.lax.dynamic_slice_in_dim(law, offset, batch) for law in (law_PLS, log_law_PLS))
        updates, moments = optimizer.update(jax.grad(loss)(table_SS, *laws), moments)
        return (optax.apply_updates(table_SS, updates), moments), None

    return jax.lax.scan(step, (start_SS, optimizer.init(start_SS)), jnp.arange(_STEPS))[0][0]


def _step_laws(process, kernel, model, tokens, key_B, t, u) -> StepLaws:
    """The law of the bridge's step from t to u at its state at t, and the network's; u = 0 denoises."""
    mesh = parallel.data_mesh()
    call = functools.partial(_forward, model.apply, process, kernel, mesh, u == 0, model.params)
    times = jnp.asarray([t, u], jnp.float32)
    size = min(_SEQUENCES, -(-len(tokens) // mesh.size)) * mesh.size
    return parallel.in_batches(lambda *batch: call(times, batch), size, key_B, tokens)


@functools.partial(jax.jit, static_argnums=range(5))
def _forward(apply, process, kernel, mesh, last, params, times, batch):
    def local(replicated, batch):
        (params, (t, u)), (key_B, tokens_BL) = replicated, batch
        x_BL = bridge_state(key_B, process, Coupling("iid"), tokens_BL, t)
        knobs = jax.tree.map(lambda leaf: leaf[0], neutral_knobs(1))
        score = ScoreModel(apply, params).bind(params)
        step = denoise(process, score, x_BL, t, knobs) if last else kernel.step(process, score, x_BL, t, u, knobs)
        return jnp.exp(bridge_transition(process, x_BL, tokens_BL, t, u).log_law()), step.log_law()

    return parallel.map_over_data(local, mesh)((params, times), batch)
