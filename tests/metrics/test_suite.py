import numpy as np
import pytest

from configs import countdown
from lsd_jax.data.countdown import transition_matrix
from lsd_jax.metrics import bootstrap, chain, suite
from lsd_jax.models.oracle import all_sequences


def config_of(**changes):
    config = countdown.get_config()
    config.update_from_flattened_dict({f"data.{name}": value for name, value in changes.items()})
    return config


def test_chain_suite_is_each_metric_with_its_own_bootstrap():
    law = transition_matrix(8, 0.02)
    task = suite.make_task(config_of(vocab_size=8, mix=0.02, sequence_length=16))
    tokens = np.random.default_rng(0).integers(0, 8, (60, 16)).astype(np.uint8)
    found = suite.suite(task, tokens, seed=5, resamples=30)
    by_hand = {
        "transition_kl_nats": lambda rows: chain.transition_kl(rows, law[1]),
        **{f"lag{lag}_tv": lambda rows, lag=lag: chain.lag_tv(rows, *law, lag) for lag in (1, 2, 4, 8)},
        **{name: lambda rows, name=name: chain.countdown_errors(rows)[name] for name in chain.countdown_errors(tokens)},
    }
    for name, statistic in by_hand.items():
        assert found[name] == pytest.approx(bootstrap.bootstrap_interval(statistic, tokens, 5, 30)), name
    assert task.best["chain_nats"] < found["chain_nats"][1]  # uniform noise costs more than the chain's own sequences
    assert set(task.best) <= set(found)
    with pytest.raises(ValueError, match="token 8"):
        suite.suite(task, np.full((2, 16), 8, np.uint8))


def test_chain_cost_of_its_own_sequences_is_the_entropy_rate():
    task = suite.make_task(config_of(name="bigram", vocab_size=27, sequence_length=32))
    tokens = task.real(np.random.default_rng(0), 4000)
    value, low, high = suite.suite(task, tokens, resamples=200)["chain_nats"]
    assert value == pytest.approx(task.best["chain_nats"], abs=2 * (high - low))
    assert "wrong_per_transition" not in suite.suite(task, tokens[:20], resamples=0)


def test_floor_of_a_chain_in_closed_form():
    """2 n KL is chi-squared with S (S - 1) degrees of freedom; TV adds up S^2 nearly normal errors."""
    size, count, length = 5, 400, 20
    law = np.full(size, 1 / size), np.full((size, size), 1 / size)
    real = lambda rng, n: rng.integers(0, size, (n, length)).astype(np.uint8)  # noqa: E731
    task = suite.chain_task(law, length, real, grammar=False)
    found = suite.floor(task, count, draws=60)
    n = count * (length - 1)
    kl, low, high = found["transition_kl_nats"]
    assert kl == pytest.approx(size * (size - 1) / (2 * n), rel=0.12)
    assert low < kl < high and (high - low) / 3.92 == pytest.approx(np.sqrt(size * (size - 1) / 2) / n, rel=0.35)
    # An independent pair has law 1 / S^2 in n overlapping draws, whose correlations average out.
    p = 1 / size**2
    assert found["lag1_tv"][0] == pytest.approx(size**2 * np.sqrt(p * (1 - p) / (2 * np.pi * n)), rel=0.1)


def test_toy_divergences_are_zero_at_the_law_and_those_of_any_other_by_hand():
    law = np.array([1, 2, 3, 2]) / 8
    task = suite.toy_task(law, 2, None)
    exact = np.repeat(all_sequences(2, 2), [1, 2, 3, 2], axis=0)
    found = suite.suite(task, exact, resamples=50)
    assert found["exact_tv"][0] == pytest.approx(0, abs=1e-12)
    assert found["exact_kl_nats"][0] == pytest.approx(0, abs=1e-12)
    one = suite.suite(task, np.array([[0, 1], [0, 1]]), resamples=0)
    assert one["exact_tv"] == pytest.approx((3 / 4,) * 3) and one["exact_kl_nats"][0] == pytest.approx(np.log(4))


def test_floor_of_the_toy_is_that_of_a_multinomial():
    task = suite.make_task(config_of(name="toy", vocab_size=15, sequence_length=2, mix=0.3))
    kl = suite.floor(task, 20_000, draws=20)["exact_kl_nats"][0]
    assert kl == pytest.approx((225 - 1) / (2 * 20_000), rel=0.06)


def test_overall_rank_by_distance_from_the_best():
    row = lambda tv, entropy: {"tv": (tv, tv, tv), "entropy": (entropy, 0.0, 9.0)}  # noqa: E731
    rows = [row(0.1, 4.0), row(0.1, 5.0), row(0.3, 3.9)]
    assert suite.overall_rank(rows, {"tv": 0.0, "entropy": 4.0}).tolist() == [1.25, 2.25, 2.5]
    with pytest.raises(ValueError, match="lack js"):
        suite.overall_rank(rows, {"js": 0.0})
