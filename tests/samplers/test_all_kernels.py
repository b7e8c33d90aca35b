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
CASES = [(kernel.name, name) for kernel in KERNELS.values() for name in kernel.processes]
# Those that converge to the distribution itself with more steps, so that given tokens condition it.
EXACT_IN_THE_LIMIT = (
    *("euler", "tweedie", "ancestral", "tau_leaping", "binomial_leaping"),
    *("theta_trapezoidal", "theta_rk2", "predictor_corrector"),
)


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_no_result_depends_on_batch_or_devices(kernel, name, monkeypatch):
    model = oracle(name, PROBS, S, L)
    bound = sampler(kernel, STEPS).bound_to(model, L)
    key_B, whole = sequence_keys(jax.random.key(0), 12), parallel.data_mesh
    assert whole().size == 8
    on_eight, calls = draw_and_count(model, bound, key_B, 16)
    one = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))
    monkeypatch.setattr(parallel, "data_mesh", lambda: one)
    together, calls_one = draw_and_count(model, bound, key_B, 12)
    in_parts, _ = draw_and_count(model, bound, key_B, 3)
    np.testing.assert_array_equal(on_eight, together)
    np.testing.assert_array_equal(in_parts, together)
    if kernel != "cached":  # which evaluates a device's whole batch where one sequence needs it, and says so
        np.testing.assert_array_equal(calls, calls_one)


@functools.partial(jax.jit, static_argnums=2)
def run_with_given(model, sampler, count):
    given = jnp.broadcast_to(jnp.asarray([[2, 0, 1, 0]]), (count, L))
    fixed = jnp.broadcast_to(jnp.asarray([[True, False, True, False]]), given.shape)
    sample = simulate(jax.random.key(0), model, sampler, count, keep_states=True, condition=Condition(given, fixed))
    return sample.tokens, ((sample.states == given[None]) | ~fixed[None]).all()


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_given_tokens_never_change(kernel, name):
    # Under uniform noise a network takes given tokens for noisy ones: they steer the rest, they do not condition it.
    conditions = kernel in EXACT_IN_THE_LIMIT and name == "absorbing"
    model = oracle(name, PROBS, S, L)
    tokens, kept = run_with_given(model, sampler(kernel, 24).bound_to(model, L), 30_000 if conditions else 1000)
    assert kept
    tokens = np.asarray(tokens)
    assert (tokens < S).all()
    if conditions:
        sequences = all_sequences(S, L)
        match = (sequences[:, 0] == 2) & (sequences[:, 2] == 1)
        exact = (PROBS * match)[match].reshape(S, S) / (PROBS * match).sum()
        found = np.bincount(tokens[:, 1] * S + tokens[:, 3], minlength=S * S).reshape(S, S) / len(tokens)
        marginal = PROBS.reshape(S, S, S, S).sum((0, 2))
        error = np.abs(found - exact).sum() / 2
        assert error < 0.08 < np.abs(marginal - exact).sum() / 2  # and not the unconditional distribution
