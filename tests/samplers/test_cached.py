"""The cache changes what is computed, never what is drawn."""

import jax
import numpy as np

from lsd_jax.samplers.kernel import Condition
from lsd_jax.samplers.sampler import sampler
from tests.samplers.enumeration import draw


def test_the_same_tokens_as_ancestral_with_fewer_calls(toy):
    model = toy("absorbing").model

    def run(name, batch):
        sample = draw(jax.random.key(3), model, sampler(name, 40).bound_to(model, 3), batch, keep_states=True)
        return sample.states, sample.calls_B

    for batch in (1, 64):
        (plain, calls), (states, fewer) = run("ancestral", batch), run("cached", batch)
        np.testing.assert_array_equal(plain, states)
        changed = (np.diff(np.asarray(plain)[:-1], axis=0) != 0).any((1, 2))
        assert (np.asarray(fewer) == 1 + changed.sum()).all() and (np.asarray(calls) == 40).all()
    assert int(run("cached", 1)[1][0]) <= 4  # three tokens change at most three states


def test_given_tokens_cost_no_call(toy):
    model, given = toy("absorbing").model, Condition(np.array([[1, 0, 2]]), np.ones((1, 3), bool))
    sample = draw(jax.random.key(0), model, sampler("cached", 8).bound_to(model, 3), 1, condition=given)
    assert sample.tokens.tolist() == [[1, 0, 2]] and sample.calls_B.tolist() == [1]
