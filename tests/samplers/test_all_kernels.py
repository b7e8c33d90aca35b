"""What every sampler must keep: given tokens, and the same result whatever the batch or the number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax import parallel
from lsd_jax.keys import sequence_keys
from lsd_jax.models.oracle import all_sequences
from lsd_jax.samplers.kernel import Condition
from lsd_jax.samplers.registry import KERNELS
from lsd_jax.samplers.sampler import sampler
from lsd_jax.samplers.simulate import draw_and_count, simulate
from tests.samplers.enumeration import oracle

S, L, STEPS = 3, 4, 5
PROBS = np.random.default_rng(1).dirichlet(np.full(S**L, 0.3))
BOTH = ("euler", "predictor_corrector")  # one of one stage and one of two, under every process
# Every kernel, and every process; the other pairs are slow.
CASES = [
    pytest.param(kernel.name, name, marks=pytest.mark.slow if number and kernel.name not in BOTH else ())
    for kernel in KERNELS.values()
    for number, name in enumerate(kernel.processes)
]
# Those that converge to the distribution itself with more steps, so that given tokens condition it.
EXACT_IN_THE_LIMIT = (
    *("euler", "tau_leaping", "theta_rk2", "predictor_corrector"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("tweedie", "ancestral", "binomial_leaping")),
    pytest.param("theta_trapezoidal", marks=pytest.mark.slow),
)


@functools.partial(jax.jit, static_argnums=3)
def simulated(model, sampler, key_B, count, condition):
    """The tokens of a batch, and whether every state on the way holds the given ones."""
    sample = simulate(key_B, model, sampler, count, keep_states=True, condition=condition)
    return (
        sample.tokens,
        sample.calls_B,
        ((sample.states == condition.tokens_BL[None]) | ~condition.fixed_BL[None]).all(),
    )


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_no_result_depends_on_batch_or_devices_and_given_tokens_never_change(kernel, name):
    model = oracle(name, PROBS, S, L)
    bound = sampler(kernel, STEPS).bound_to(model, L)
    assert bound.nfe == (STEPS - 1) * bound.kernel.nfe + 1
    key_B = sequence_keys(jax.random.key(0), 12)
    # Four sequences without given tokens, four with two, four with all.
    given = np.tile(np.array([2, 0, 1, 0], np.int32), (12, 1))
    fixed = np.repeat([[False] * 4, [True, False, True, False], [True] * 4], 4, axis=0)
    assert parallel.data_mesh().size == 8
    on_eight, calls = draw_and_count(model, bound, key_B, 16, Condition(given, fixed))
    parts = [slice(start, start + 3) for start in range(0, 12, 3)]
    alone = [simulated(model, bound, key_B[part], 3, Condition(given[part], fixed[part])) for part in parts]
    tokens, calls_one, kept = (np.concatenate(list(map(np.atleast_1d, leaves))) for leaves in zip(*alone))
    np.testing.assert_array_equal(on_eight, tokens)
    assert on_eight.shape == (12, L) and on_eight.dtype == np.uint8
    assert (calls >= 1).all() and (calls <= bound.nfe).all()
    assert kept.all() and (on_eight < S).all() and (on_eight == given)[fixed].all()
    if kernel != "cached":  # which evaluates a device's whole batch where one sequence needs it, and says so
        np.testing.assert_array_equal(calls, calls_one)


@pytest.mark.parametrize("kernel", EXACT_IN_THE_LIMIT)
def test_given_tokens_condition_the_rest(kernel):
    """Under absorbing noise; under uniform noise a network takes given tokens for noisy ones: they only steer the rest."""
    model, count = oracle("absorbing", PROBS, S, L), 10_000
    given = jnp.broadcast_to(jnp.asarray([[2, 0, 1, 0]]), (count, L))
    fixed = jnp.broadcast_to(jnp.asarray([[True, False, True, False]]), given.shape)
    bound, key_B = sampler(kernel, 24).bound_to(model, L), sequence_keys(jax.random.key(0), count)
    tokens, _, kept = simulated(model, bound, key_B, count, Condition(given, fixed))
    tokens = np.asarray(tokens)
    assert kept and (tokens < S).all()
    sequences = all_sequences(S, L)
    match = (sequences[:, 0] == 2) & (sequences[:, 2] == 1)
    exact = (PROBS * match)[match].reshape(S, S) / (PROBS * match).sum()
    found = np.bincount(tokens[:, 1] * S + tokens[:, 3], minlength=S * S).reshape(S, S) / len(tokens)
    marginal = PROBS.reshape(S, S, S, S).sum((0, 2))
    error = np.abs(found - exact).sum() / 2
    assert error < 0.08 < np.abs(marginal - exact).sum() / 2  # and not the unconditional distribution
