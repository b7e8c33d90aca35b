"""What the cells of a task share: numbers per token."""

import types

import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.experiment.context import Context


@pytest.mark.parametrize(("lengths", "wanted"), [((), 10 / 8), ((0.0, 0.5, 0.0, 0.0, 0.5), 10 / 5)])
def test_a_pad_is_no_token_of_bits_per_token(lengths, wanted):
    context = object.__new__(Context)  # without a config: only these are read
    context.task = types.SimpleNamespace(vocab_size=3, length=4)
    context.model = types.SimpleNamespace(process=lsd.Absorbing(3, lsd.LogLinear(), lengths))
    context.__dict__["held_out"] = np.array([[0, 1, 0, 1], [0, 2, 2, 2], [1, 1, 1, 1]])
    found = context.bits_per_token(np.log(2) * np.array([8.0, 2.0]))  # of the first two sequences
    assert found[0] == pytest.approx(wanted) and found[1] <= found[0] <= found[2]
