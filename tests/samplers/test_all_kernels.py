"""What every sampler must keep: given tokens, and the same result whatever the batch or the number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax import parallel
from lsd_jax.evaluation import Sampler, draw_and_count
from lsd_jax.models.oracle import all_sequences
from lsd_jax.models.score_fn import ScoreModel
from lsd_jax.samplers import KERNELS, get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.simulate import Condition, simulate, uniform_schedule
from tests.samplers.enumeration import oracle

S, L, STEPS = 3, 4, 5
PROBS = np.random.default_rng(1).dirichlet(np.full(S**L, 0.3))
CASES = [(kernel.name, name) for kernel in KERNELS.values() for name in kernel.processes]
# Those that converge to the law itself with more steps, so that given tokens condition it.
EXACT_IN_THE_LIMIT = (
    *("euler", "tweedie", "ancestral", "tau_leaping", "binomial_leaping"),
    *("theta_trapezoidal", "theta_rk2", "predictor_corrector"),
)


def model_of(name):
    process, score_fn = oracle(name, PROBS, S, L)
    return process, ScoreModel(lambda params, x_BL, t: score_fn(x_BL, t), ())


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_no_result_depends_on_batch_or_devices(kernel, name, monkeypatch):
    process, model = model_of(name)
    sampler = Sampler(process, get_kernel(kernel), Coupling("iid"), uniform_schedule(STEPS), L)
    key_B, whole = sequence_keys(jax.random.key(0), 12), parallel.data_mesh
    assert whole().size == 8
    on_eight, calls = draw_and_count(model, sampler, key_B, 16)
    one = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1], axis_types=(jax.sharding.AxisType.Auto,))
    monkeypatch.setattr(parallel, "data_mesh", lambda: one)
    together, calls_one = draw_and_count(model, sampler, key_B, 12)
    in_parts, _ = draw_and_count(model, sampler, key_B, 3)
    np.testing.assert_array_equal(on_eight, together)
    np.testing.assert_array_equal(in_parts, together)
    if kernel != "cached":  # which evaluates a device's whole batch where one sequence needs it, and says so
        np.testing.assert_array_equal(calls, calls_one)


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_given_tokens_never_change(kernel, name):
    process, model = model_of(name)
    key_B = sequence_keys(jax.random.key(0), 30_000)
    given = jnp.broadcast_to(jnp.asarray([[2, 0, 1, 0]]), (len(key_B), L))
    fixed = jnp.broadcast_to(jnp.asarray([[True, False, True, False]]), given.shape)
    score_fn = model.bind(())

    @jax.jit
    def run(key_B):
        sample = simulate(
            key_B, process, get_kernel(kernel), score_fn, uniform_schedule(24), Coupling("iid"), len(key_B), L,
            keep_states=True, condition=Condition(given, fixed),
        )  # fmt: skip
        return sample.tokens, ((sample.states == given[None]) | ~fixed[None]).all()

    tokens, kept = run(key_B)
    assert kept
    tokens = np.asarray(tokens)
    assert (tokens < S).all()
    # Under uniform noise a network takes given tokens for noisy ones: they steer the rest, they do not condition it.
    if kernel in EXACT_IN_THE_LIMIT and name == "absorbing":
        sequences = all_sequences(S, L)
        match = (sequences[:, 0] == 2) & (sequences[:, 2] == 1)
        exact = (PROBS * match)[match].reshape(S, S) / (PROBS * match).sum()
        found = np.bincount(tokens[:, 1] * S + tokens[:, 3], minlength=S * S).reshape(S, S) / len(tokens)
        marginal = PROBS.reshape(S, S, S, S).sum((0, 2))
        error = np.abs(found - exact).sum() / 2
        assert error < 0.08 < np.abs(marginal - exact).sum() / 2  # and not the unconditional law
