import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.metrics import bootstrap, chain
from lsd_jax.models.model import Identity
from lsd_jax.models.oracle import all_sequences
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.tasks import chain_laws
from lsd_jax.tasks.chains import Chain, Toy
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data, floor

COUNTDOWN = Data("countdown", vocab_size=8, mix=0.02, sequence_length=16)


def test_metrics_of_a_chain_are_each_with_its_own_bootstrap():
    law = chain_laws.countdown(8, 0.02)
    task = make_task(COUNTDOWN)
    tokens = np.random.default_rng(0).integers(0, 8, (60, 16)).astype(np.uint8)
    found = task.measure(tokens, seed=5, resamples=30)
    by_hand = {
        "transition_kl_nats": lambda rows: chain.transition_kl(rows, law[1]),
        **{f"lag{lag}_tv": lambda rows, lag=lag: chain.lag_tv(rows, *law, lag) for lag in (1, 2, 4, 8)},
        **{name: lambda rows, name=name: chain.countdown_errors(rows)[name] for name in chain.countdown_errors(tokens)},
    }
    for name, statistic in by_hand.items():
        assert found[name] == pytest.approx(bootstrap.bootstrap_interval(statistic, tokens, 5, 30)), name
    assert task.best["chain_nats"] < found["chain_nats"][1]  # uniform noise costs more than the chain's own sequences
    assert set(task.best) <= set(found)
    with pytest.raises(ValueError, match="^tokens=8: "):
        task.measure(np.full((2, 16), 8, np.uint8))


def test_cost_of_a_chain_s_own_sequences_is_the_entropy_rate():
    task = make_task(Data("bigram", sequence_length=32))
    tokens = task.real(np.random.default_rng(0), 4000)
    value, low, high = task.measure(tokens, resamples=200)["chain_nats"]
    assert value == pytest.approx(task.best["chain_nats"], abs=2 * (high - low))
    np.testing.assert_allclose(task.exact_log_prob(tokens).mean() / -32, value)
    assert "wrong_per_transition" not in task.measure(tokens[:20], resamples=0)


def test_floor_of_a_chain_in_closed_form():
    """2 n KL is chi-squared with S (S - 1) degrees of freedom; TV adds up S^2 nearly normal errors."""
    size, count, length = 5, 400, 20

    class Noise(Chain):
        def chain(self):
            return np.full(size, 1 / size), np.full((size, size), 1 / size)

        def real(self, rng, count):
            return rng.integers(0, size, (count, length)).astype(np.uint8)

    found = floor(Noise(Data("noise", vocab_size=size, sequence_length=length)), count, draws=60)
    n = count * (length - 1)
    kl, low, high = found["transition_kl_nats"]
    assert kl == pytest.approx(size * (size - 1) / (2 * n), rel=0.12)
    assert low < kl < high and (high - low) / 3.92 == pytest.approx(np.sqrt(size * (size - 1) / 2) / n, rel=0.35)
    # An independent pair has probability 1 / S^2 in n overlapping draws, whose correlations average out.
    p = 1 / size**2
    assert found["lag1_tv"][0] == pytest.approx(size**2 * np.sqrt(p * (1 - p) / (2 * np.pi * n)), rel=0.1)


def test_toy_divergences_are_zero_at_the_distribution_and_those_of_any_other_by_hand():
    class Coins(Toy):
        def chain(self):
            return np.array([3, 5]) / 8, np.array([[1 / 3, 2 / 3], [3 / 5, 2 / 5]])  # jointly (1, 2, 3, 2) / 8

    task = Coins(Data("coins", vocab_size=2, sequence_length=2))
    exact = np.repeat(all_sequences(2, 2), [1, 2, 3, 2], axis=0)
    found = task.measure(exact, resamples=50)
    assert found["exact_tv"][0] == pytest.approx(0, abs=1e-12)
    assert found["exact_kl_nats"][0] == pytest.approx(0, abs=1e-12)
    one = task.measure(np.array([[0, 1], [0, 1]]), resamples=0)
    assert one["exact_tv"] == pytest.approx((3 / 4,) * 3) and one["exact_kl_nats"][0] == pytest.approx(np.log(4))
    assert one["transition_kl_nats"][0] == pytest.approx(np.log(3 / 2))  # the rest is the first token's log(8 / 3)


def test_floor_of_the_toy_is_that_of_a_multinomial():
    task = make_task(Data("toy", vocab_size=15, sequence_length=2, mix=0.3))
    kl = floor(task, 20_000, draws=20)["exact_kl_nats"][0]
    assert kl == pytest.approx((225 - 1) / (2 * 20_000), rel=0.06)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "toy"}, r"^sequence_length=16: toy has 2 tokens"),
        ({"name": "bigram"}, r"^vocab_size=8: bigram has 27 symbols"),
        ({"mix": 1.5}, r"^mix=1\.5"),
        ({"mix": -0.1}, r"^mix=-0\.1"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        make_task(dataclasses.replace(COUNTDOWN, **changes))


@pytest.mark.parametrize("data", [COUNTDOWN, Data("toy", vocab_size=15, sequence_length=2)])
def test_prepared_sequences_are_draws_of_the_chain(small_cache, data):
    task = make_task(data)
    rows = task.split("test")
    wanted = chain_laws.sample_chain(
        np.random.default_rng([0, 2]), task.initial, task.transition, 20, data.sequence_length
    )
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, wanted.tolist()))
    other = make_task(dataclasses.replace(data, mix=0.05))
    assert task.source().variant != other.source().variant
    assert len({task.data_row(seed, 9).tobytes() for seed in (0, 0, 1)}) == 2  # fresh draws, not a split


@pytest.mark.parametrize("data", [COUNTDOWN, Data("toy", vocab_size=15, sequence_length=2)])
def test_the_oracle_of_noise_alone_is_the_chain_s_own_marginals(data):
    task, process = make_task(data), Absorbing(data.vocab_size, LogLinear())
    model = task.oracle(process)
    assert model.identity == Identity("oracle", f"{data.name} mix={data.mix:g}", "")
    masked = jnp.full((1, task.length), process.mask, jnp.int32)
    log_score = np.asarray(model.log_score(masked, jnp.float32(0.5)))[0]
    found = np.exp(log_score - np.logaddexp.reduce(log_score, axis=-1, keepdims=True))
    np.testing.assert_allclose(found[0], task.initial, atol=1e-5)
    np.testing.assert_allclose(found[1], task.initial @ task.transition, atol=1e-5)


def test_no_oracle_where_none_is_known():
    process = Absorbing(27, LogLinear())
    with pytest.raises(ValueError, match="^name='text': no exact denoiser"):
        make_task(Data()).oracle(process)
    assert make_task(Data()).exact_log_prob(np.zeros((1, 128), int)) is None
    with pytest.raises(ValueError, match="^mix=0"):
        make_task(dataclasses.replace(COUNTDOWN, mix=0.0)).oracle(Absorbing(8, LogLinear()))
