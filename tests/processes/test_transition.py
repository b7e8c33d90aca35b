import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.processes.draws import fine_uniform, inverse_cdf
from lsd_jax.processes.transition import Transition


def test_sampling_follows_log_prob():
    n = 200_000
    logits = jnp.log(jnp.array([0.1, 0.0, 0.6, 0.3]))
    transition = Transition(
        jnp.full((1, n), 4), jnp.full((1, n), jnp.log(0.25)), jnp.broadcast_to(logits, (1, n, 4)) + 3.0
    )
    key_jump, key_token = jax.random.split(jax.random.key(0))
    drawn = transition.sample(fine_uniform(key_jump, (1, n)), fine_uniform(key_token, (1, n)))
    observed = np.bincount(drawn[0], minlength=5) / n
    np.testing.assert_allclose(observed, [0.075, 0, 0.45, 0.225, 0.25], atol=0.005)
    for token, probability in enumerate([0.075, 0, 0.45, 0.225, 0.25]):
        log_prob = transition.log_prob(jnp.full((1, n), token))[0, 0]
        assert float(jnp.exp(log_prob)) == pytest.approx(probability, abs=1e-6)
    stay, jump = transition.probabilities()
    assert float(stay[0, 0]) == pytest.approx(0.25) and float(jump[0, 0].sum()) == pytest.approx(0.75)


@pytest.mark.slow
def test_tiny_probabilities_keep_their_frequency():
    """The tail that a float32 categorical over stay and tokens loses: a jump of probability 2e-8."""
    p, n, rounds = 2e-8, 20_000_000, 20  # 8 jumps are expected; uniforms of 23 bits give 48
    log_stay = jnp.log1p(-p)
    # Integer arithmetic that nothing can round: worth compiling well.
    well = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
    count = jax.jit(lambda key: (fine_uniform(key, (n,)) < -jnp.expm1(log_stay)).sum(), compiler_options=well)

    hits = sum(int(count(jax.random.fold_in(jax.random.key(1), i))) for i in range(rounds))
    assert abs(hits - p * n * rounds) < 5 * np.sqrt(p * n * rounds)


def test_inverse_cdf_stays_inside_and_skips_impossible_tokens():
    logits = jnp.array([[[-jnp.inf, 0.0, 0.0, -jnp.inf]]])
    transition = Transition(jnp.array([[4]]), jnp.array([[-jnp.inf]]), logits)
    for uniform in (1e-10, 0.49, 0.51, 1 - 2.0**-24):
        token = int(transition.sample(jnp.zeros((1, 1)), jnp.full((1, 1), uniform))[0, 0])
        assert token == (1 if uniform < 0.5 else 2)


@pytest.mark.parametrize("S", [27, 5000])  # one cumulative sum, and two levels
def test_evenly_spread_uniforms_draw_every_token_as_often_as_it_should_be(S):
    count = 2**15
    log_mass = jnp.asarray(3 * np.random.default_rng(0).normal(size=S), jnp.float32)
    uniform = (jnp.arange(count) + 0.5) / count
    draw = jax.jit(lambda u_N: jax.lax.map(lambda u: inverse_cdf(log_mass, u), u_N, batch_size=256))
    found = np.bincount(np.asarray(draw(uniform)), minlength=S) / count
    wanted = np.exp(np.asarray(log_mass, np.float64))
    wanted /= wanted.sum()
    # Every token takes an interval, whose two ends each fall between two uniforms.
    assert np.abs(found - wanted).max() < 1.01 / count + 2e-7
    assert np.abs(np.cumsum(found) - np.cumsum(wanted)).max() < 1.01 / count + 2e-6
