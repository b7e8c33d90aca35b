import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.coupling import Coupling, path_noise
from lsd_jax.samplers.sampler import sampler
from lsd_jax.samplers.simulate import simulate
from tests.samplers import enumeration

S = 4
LOGITS = np.array([0.3, -0.2, 0.9, 0.0], np.float32)


@functools.cache
def model_of(name):
    """A network that ignores its context."""
    process = make_process(name, S, make_noise("loglinear"))
    return Diffusion.from_function(
        lambda x, t: jnp.broadcast_to(jnp.asarray(LOGITS), (*x.shape, S)), process, time_conditioned=False
    )


def bound(coupling, steps, length=16, name="absorbing"):
    return sampler("euler", steps, coupling=Coupling(coupling)).bound_to(model_of(name), length)


def draw(coupling, steps, batch=64, length=16, keep_states=False):
    samples = bound(coupling, steps, length)
    return enumeration.draw(jax.random.key(0), model_of("absorbing"), samples, batch, keep_states=keep_states)


@pytest.mark.parametrize("coupling", ["iid", "shared", "low_discrepancy"])
def test_reveals_follow_the_schedule_and_tokens_the_distribution(coupling):
    sample = draw(coupling, 8, batch=4000, keep_states=True)
    masked = (np.asarray(sample.states) == S).mean((1, 2))
    np.testing.assert_allclose(masked, np.linspace(1, 0, 9), atol=0.02)
    observed = np.bincount(np.asarray(sample.tokens).ravel(), minlength=S) / sample.tokens.size
    np.testing.assert_allclose(observed, jax.nn.softmax(LOGITS), atol=0.01)


def test_shared_noise_makes_step_counts_agree():
    """With a network that ignores its context, paths that share noise end alike whatever the number of steps."""
    coarse, fine = draw("shared", 4), draw("shared", 64)
    np.testing.assert_array_equal(coarse.tokens, fine.tokens)
    assert (np.asarray(draw("iid", 4).tokens) != np.asarray(draw("iid", 64).tokens)).any()


def test_low_discrepancy_reveals_an_even_count_far_apart():
    states = np.asarray(draw("low_discrepancy", 8, length=64, keep_states=True).states)
    revealed = np.diff((states == S).sum(-1), axis=0)
    assert np.abs(revealed + 8).max() <= 2  # eight a step, within the discrepancy of the golden ratio
    first = (states[1] != S) & (states[0] == S)
    gaps = np.concatenate([np.diff(np.flatnonzero(row)) for row in first])
    assert gaps.min() >= 3


def test_thresholds_are_uniform():
    thresholds = Coupling("low_discrepancy").thresholds(sequence_keys(jax.random.key(3), 4000), 8)
    for column in np.asarray(thresholds).T:
        np.testing.assert_allclose(np.histogram(column, 10, (0, 1))[0] / 4000, 0.1, atol=0.025)


def test_uniform_process_draws_afresh_and_refuses_to_share():
    process = model_of("uniform").process
    noise = path_noise(sequence_keys(jax.random.key(0), 2), process, Coupling("low_discrepancy"), 8)
    assert noise.threshold_BL is None
    a, b = (noise.step(jnp.int32(i), jnp.zeros((2, 8)))[0] for i in (0, 1))
    assert not np.allclose(a, b)
    shared = sampler("euler", 4, coupling=Coupling("shared"))
    with pytest.raises(ValueError, match="^coupling.name='shared': needs the absorbing process"):
        shared.bound_to(model_of("uniform"), 16)
    with pytest.raises(ValueError, match="absorbing"):
        path_noise(sequence_keys(jax.random.key(0), 2), process, Coupling("shared"), 8)


def test_a_sequence_depends_on_its_own_key_only():
    small, large = draw("low_discrepancy", 8, batch=3), draw("low_discrepancy", 8, batch=64)
    np.testing.assert_array_equal(small.tokens, large.tokens[:3])


def test_one_compilation_per_kernel_and_step_count():
    traces, model = [], model_of("absorbing")

    @jax.jit
    def run(key, samples):
        traces.append(1)
        return simulate(key, model, samples, 4).tokens

    for seed in range(3):
        run(jax.random.key(seed), sampler("euler", 4, temperature=1 - 0.1 * seed).bound_to(model, 8))
    assert len(traces) == 1
