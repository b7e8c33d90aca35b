"""The cache changes what is computed, never what is drawn."""

import functools

import jax
import numpy as np

from lsd_jax.samplers import KERNELS
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.simulate import Condition, simulate, uniform_schedule


def test_the_same_tokens_as_ancestral_with_fewer_calls(toy):
    process, score_fn, _ = toy("absorbing")

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def run(name, batch):
        settings = uniform_schedule(40), Coupling(), batch, 3
        sample = simulate(jax.random.key(3), process, KERNELS[name], score_fn, *settings, keep_states=True)
        return sample.states, sample.calls_B

    for batch in (1, 64):
        (plain, calls), (states, fewer) = run("ancestral", batch), run("cached", batch)
        np.testing.assert_array_equal(plain, states)
        changed = (np.diff(np.asarray(plain)[:-1], axis=0) != 0).any((1, 2))
        assert (np.asarray(fewer) == 1 + changed.sum()).all() and (np.asarray(calls) == 40).all()
    assert int(run("cached", 1)[1][0]) <= 4  # three tokens change at most three states


def test_given_tokens_cost_no_call(toy):
    process, score_fn, _ = toy("absorbing")
    given = Condition(np.array([[1, 0, 2]]), np.ones((1, 3), bool))
    sample = simulate(
        jax.random.key(0), process, KERNELS["cached"], score_fn, uniform_schedule(8), Coupling(), 1, 3, condition=given
    )
    assert sample.tokens.tolist() == [[1, 0, 2]] and sample.calls_B.tolist() == [1]
