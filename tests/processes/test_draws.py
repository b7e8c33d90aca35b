import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.processes.draws import counts_of, inverse_cdf, random_bits, share_of

BITS = 2**32


def drawn_shares(log_mass):
    """The share of all 2^32 values of the bits that draws each token, by bisecting for the ends of its interval."""
    S = len(log_mass)
    draw = jax.jit(
        lambda bits_N: jax.lax.map(lambda bits: inverse_cdf(log_mass[None], bits[None])[0], bits_N, batch_size=64)
    )
    low, high = np.zeros(S - 1, np.int64), np.full(S - 1, BITS, np.int64)
    for _ in range(33):
        middle = (low + high) // 2
        token = np.asarray(draw(jnp.asarray(np.minimum(middle, BITS - 1).astype(np.uint32))))
        beyond = (token > np.arange(S - 1)) | (middle == BITS)
        low, high = np.where(beyond | (low == high), low, middle + 1), np.where(beyond, middle, high)
    return np.diff(np.concatenate([[0], high, [BITS]])) / BITS


def exact(log_mass):
    mass = np.exp(np.asarray(log_mass, np.float64))
    return mass / mass.sum()


LARGE = pytest.param(50257, 3.0, 3e-6, marks=pytest.mark.slow)


@pytest.mark.parametrize(("S", "spread", "bound"), [(2, 1.0, 1e-7), (27, 3.0, 1e-7), (1000, 6.0, 2e-7), LARGE])
def test_every_token_is_drawn_as_often_as_float64_says(S, spread, bound):
    """Over all values that the bits can take, and not over a sample of them."""
    log_mass = jnp.asarray(spread * np.random.default_rng(0).normal(size=S), jnp.float32)
    found, wanted = drawn_shares(log_mass), exact(log_mass)
    assert found.min() >= 0 and np.abs(found - wanted).sum() / 2 < bound
    often = wanted > 1e-5
    assert np.abs(found / wanted - 1)[often].max() < 1e-3


@pytest.mark.parametrize("place", [0, 130, 999])
def test_a_rare_token_is_drawn_wherever_it_lies(place):
    """Near the middle of a float32 cumulative sum a token of probability 3e-9 has no room."""
    log_mass = np.zeros(1000, np.float32)
    log_mass[place] = np.log(3e-6)
    found = drawn_shares(jnp.asarray(log_mass))
    assert found[place] == pytest.approx(3e-9, rel=0.2)


def test_only_possible_tokens_are_drawn():
    log_mass = jnp.full(1000, -jnp.inf).at[jnp.array([3, 500, 640])].set(jnp.array([0.0, -18.0, -40.0]))
    bits = jnp.concatenate([random_bits(jax.random.key(0), (2000,)), jnp.array([0, 1, BITS - 1], jnp.uint32)])
    tokens = np.asarray(inverse_cdf(jnp.broadcast_to(log_mass, (len(bits), 1000)), bits))
    assert set(tokens.tolist()) <= {3, 500}
    assert tokens[-3] == 3 and tokens[-1] == 500


def test_a_block_whose_tokens_are_each_rarer_than_a_unit_is_shared_among_them():
    log_mass = np.full(1024, -np.inf, np.float32)
    log_mass[0], log_mass[1000:1010] = 0.0, np.log(0.3 / BITS)
    bits = jnp.asarray(BITS - 1 - np.arange(5), jnp.uint32)
    tokens = np.asarray(inverse_cdf(jnp.broadcast_to(jnp.asarray(log_mass), (5, 1024)), bits))
    np.testing.assert_array_equal(tokens, [1008, 1005, 1001, 0, 0])  # together they have three units


@pytest.mark.parametrize("S", [3, 5, 16, 1000, 1024])
def test_an_infinite_mass_is_no_number(S):
    log_mass = jnp.zeros((2, S)).at[1, S - 1].set(jnp.inf)
    tokens = np.asarray(inverse_cdf(log_mass, jnp.full(2, BITS - 1, jnp.uint32)))
    assert tokens.tolist() == [S - 1, -1]


def test_bits_of_another_type_or_shape_are_refused():
    with pytest.raises(TypeError, match=r"^bits=float32\(2,\): must be uint32\(2,\)"):
        inverse_cdf(jnp.zeros((2, 3)), jnp.zeros(2))
    with pytest.raises(TypeError, match="^bits=uint32"):
        inverse_cdf(jnp.zeros((1, 3)), jnp.zeros(2, jnp.uint32))


@pytest.mark.parametrize("S", [27, 5000])
def test_evenly_spread_bits_draw_every_token_as_often_as_it_should_be(S):
    count = 2**15
    log_mass = jnp.asarray(3 * np.random.default_rng(0).normal(size=S), jnp.float32)
    bits = (jnp.arange(count, dtype=jnp.uint32) * 2 + 1) * (BITS // (2 * count))
    draw = jax.jit(lambda bits_N: jax.lax.map(lambda bits: inverse_cdf(log_mass, bits), bits_N, batch_size=256))
    found = np.bincount(np.asarray(draw(bits)), minlength=S) / count
    wanted = exact(log_mass)
    # Every token takes an interval, whose two ends each fall between two values.
    assert np.abs(found - wanted).max() < 1.01 / count
    assert np.abs(np.cumsum(found) - np.cumsum(wanted)).max() < 1.01 / count


def test_a_share_of_bits_is_exact():
    rng = np.random.default_rng(0)
    bits, total = rng.integers(0, BITS, (2, 10_000), dtype=np.uint64)
    found = share_of(jnp.asarray(bits.astype(np.uint32)), jnp.asarray(total.astype(np.uint32)))
    np.testing.assert_array_equal(np.asarray(found), (bits * total) >> np.uint64(32))
    assert int(share_of(jnp.asarray(BITS - 1, jnp.uint32), 50257)) == 50256


def test_counts_do_not_run_over():
    for S in (1, 2, 256, 100_000):
        mass = jnp.full(S, 1 / S, jnp.float32) * (1 + 1e-5)
        assert int(np.asarray(counts_of(mass), np.uint64).sum()) < BITS
