import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.processes.draws import fine_uniform, random_bits
from lsd_jax.processes.transition import Transition


def test_sampling_follows_log_prob():
    n = 200_000
    logits = jnp.log(jnp.array([0.1, 0.0, 0.6, 0.3]))
    transition = Transition(
        jnp.full((1, n), 4), jnp.full((1, n), jnp.log(0.25)), jnp.broadcast_to(logits, (1, n, 4)) + 3.0
    )
    key_jump, key_token = jax.random.split(jax.random.key(0))
    drawn = transition.sample(fine_uniform(key_jump, (1, n)), random_bits(key_token, (1, n)))
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
