import numpy as np
import pytest

from lsd_jax.data.chain import sample_chain
from lsd_jax.data.countdown import transition_matrix


def test_law_without_mixing():
    initial, transition = transition_matrix(4, 0.0)
    np.testing.assert_allclose(initial, [0, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(transition, [[0, 1 / 3, 1 / 3, 1 / 3], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])


def test_mixing_adds_the_uniform_law():
    initial, transition = transition_matrix(4, 0.2)
    np.testing.assert_allclose([initial.sum(), *transition.sum(1)], 1)
    np.testing.assert_allclose([transition[2, 1], transition[2, 3], initial[0]], [0.8 + 0.05, 0.05, 0.05])


def test_samples_follow_the_chain():
    chain = transition_matrix(5, 0.1)
    tokens = sample_chain(np.random.default_rng(0), *chain, 20_000, 6)
    first = np.bincount(tokens[:, 0], minlength=5) / len(tokens)
    np.testing.assert_allclose(first, chain[0], atol=0.015)
    counts = np.zeros((5, 5))
    np.add.at(counts, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1)
    np.testing.assert_allclose(counts / counts.sum(1, keepdims=True), chain[1], atol=0.02)


def test_samples_without_mixing_always_count_down():
    tokens = sample_chain(np.random.default_rng(0), *transition_matrix(8, 0.0), 200, 30).astype(int)
    before, after = tokens[:, :-1], tokens[:, 1:]
    assert np.all(np.where(before > 0, after == before - 1, after > 0))


def test_errors_name_the_field():
    with pytest.raises(ValueError, match=r"config\.data\.mix=1\.5"):
        transition_matrix(4, 1.5)
    with pytest.raises(ValueError, match=r"config\.data\.vocab_size=1"):
        transition_matrix(1, 0.0)
