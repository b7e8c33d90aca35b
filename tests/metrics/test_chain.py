import itertools

import numpy as np
import pytest

from lsd_jax.metrics import chain
from lsd_jax.tasks.chain_laws import sample_chain

INITIAL = np.array([0.2, 0.5, 0.3])
TRANSITION = np.array([[0.1, 0.6, 0.3], [0.4, 0.4, 0.2], [0.25, 0.25, 0.5]])


def test_countdown_errors_on_one_sequence_of_every_kind():
    count = lambda tokens: chain.countdown_errors(np.array([tokens], np.uint8))
    assert set(count([3, 2, 1, 0, 3]).values()) == {0.0}
    assert count([1, 0, 0, 2])["wrong_per_transition"] == pytest.approx(1 / 3)  # 0 -> 0
    assert count([0, 2, 1, 0])["wrong_per_transition"] == 0  # anything but 0 may follow 0
    one_corrupted = count([5, 4, 9, 2, 1])  # both transitions at the 9
    assert one_corrupted["wrong_per_transition"] == pytest.approx(2 / 4)
    assert one_corrupted["sequences_with_violation"] == 1


def test_countdown_errors_average_over_sequences():
    errors = chain.countdown_errors(np.array([[2, 1, 0], [2, 1, 0], [2, 1, 0], [2, 2, 2]]))
    assert errors["wrong_per_transition"] == pytest.approx(2 / 8)
    assert errors["sequences_with_violation"] == pytest.approx(1 / 4)


def test_probabilities_of_all_sequences_add_up_to_one():
    every = np.array(list(itertools.product(range(3), repeat=5)))
    assert np.exp(chain.exact_log_prob(every, INITIAL, TRANSITION)).sum() == pytest.approx(1)


def test_tv_vanishes_exactly_on_the_chains_own_sequences_and_not_on_a_stationary_start():
    # Every sequence of 3 tokens as often as the chain draws it: all probabilities are multiples of 1 / 64.
    initial, transition = np.array([0.25, 0.75]), np.array([[0.5, 0.5], [0.25, 0.75]])
    every = np.array(list(itertools.product(range(2), repeat=3)))
    counts = np.exp(chain.exact_log_prob(every, initial, transition)) * 64
    tokens = np.repeat(every, counts.round().astype(int), axis=0)
    assert len(tokens) == 64
    assert chain.transition_tv(tokens, initial, transition) == pytest.approx(0, abs=1e-12)
    assert chain.transition_kl(tokens, transition) == pytest.approx(0, abs=1e-12)
    # The stationary distribution is (1/3, 2/3); token 0 has 1/4 and 5/16 at the first two positions, 9/32 on average.
    assert chain.transition_tv(tokens, np.array([1 / 3, 2 / 3]), transition) == pytest.approx(1 / 3 - 9 / 32)


def test_kl_weighs_rows_by_the_samples_own_frequencies():
    transition = np.array([[0.5, 0.5], [0.25, 0.75]])
    tokens = np.array([[0, 0, 1, 1, 1]])  # pairs 00, 01, 11, 11: row 0 is (1/2, 1/2), row 1 is (0, 1)
    assert chain.transition_kl(tokens, transition) == pytest.approx(0.5 * 0 + 0.5 * np.log(1 / 0.75))


def test_tv_by_hand():
    tokens = np.array([[0, 1], [0, 1]])  # one pair, of probability 0.2 * 0.6
    assert chain.transition_tv(tokens, INITIAL, TRANSITION) == pytest.approx(1 - 0.2 * 0.6)


def jys_walk(sequence):
    """The JYS count as a walk over one sequence, token by token: what it checked at v > 0 it then treats as a 0."""
    wrong, previous = 0, sequence[0]
    for token in sequence[1:]:
        wrong += previous > 0 and token != previous - 1
        previous = 0 if previous > 0 else token
    return wrong / len(sequence)


def test_jys_count_is_the_walk_and_hides_half_of_the_errors():
    S, rng = 32, np.random.default_rng(0)
    transition = np.diag(np.ones(S - 1), -1)
    transition[0] = 1 / S  # in the data of JYS a countdown starts anywhere, at 0 too
    clean = sample_chain(rng, np.full(S, 1 / S), transition, 1500, 256)
    tokens = np.where(rng.random(clean.shape) < 0.05, rng.integers(0, S, clean.shape), clean)
    errors = chain.countdown_errors_by_sequence(tokens)
    np.testing.assert_allclose(errors["wrong_jys_count"][:50], [jys_walk(row) for row in tokens[:50].tolist()])
    # The published count reads 4.6 %. Of transitions at v > 0, nearly all, 1 - 0.95^2 = 9.75 % hold a corrupted token.
    assert errors["wrong_jys_count"].mean() == pytest.approx(0.046, abs=0.0015)
    previous, following = tokens[:, :-1], tokens[:, 1:]
    all_wrong = ((previous > 0) & (following != previous - 1)).mean()
    assert all_wrong == pytest.approx(0.09, abs=0.002)
    assert chain.countdown_errors(clean)["wrong_jys_count"] == 0


def test_exact_lag_distribution_is_that_of_all_sequences():
    length = 5
    every = np.array(list(itertools.product(range(3), repeat=length)))
    probs = np.exp(chain.exact_log_prob(every, INITIAL, TRANSITION))
    for lag in (1, 2, 4):
        joint = np.zeros((3, 3))
        for i in range(length - lag):
            np.add.at(joint, (every[:, i], every[:, i + lag]), probs / (length - lag))
        np.testing.assert_allclose(chain.exact_lag_distribution(INITIAL, TRANSITION, length, lag), joint, atol=1e-12)
    with pytest.raises(ValueError, match="5 tokens"):
        chain.exact_lag_distribution(INITIAL, TRANSITION, length, 5)


def test_lag_tv_sees_a_dependence_that_the_lags_before_it_miss():
    # Two alternating independent coins: neighbours are independent, tokens two apart always equal.
    first, second = np.array(list(itertools.product(range(2), repeat=2))).T
    tokens = np.stack([first, second, first, second], 1)
    fair = np.full((2, 2), 0.5)
    assert chain.lag_tv(tokens, fair[0], fair, 1) == pytest.approx(0)
    assert chain.lag_tv(tokens, fair[0], fair, 2) == pytest.approx(1 / 2)
