"""The M-step bound of the discretised Gaussian process with the exact denoiser of an enumerated law."""

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.metrics.bound import m_step_nll, many_step_nll
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.models.score_fn import posterior_score_fn
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.simulate import uniform_schedule

S, L, N = 5, 2, 4000


def test_it_falls_to_the_entropy_and_so_does_the_many_step_limit():
    noise = make_noise("exponential", time_base=0.5)
    process = make_process("gaussian", S, noise, rate_sigma=1.0, q_sigma=3.0)
    probs = np.random.default_rng(0).dirichlet(np.full(S**L, 0.5))
    score_fn = posterior_score_fn(process, enumerated_log_posterior(process, probs, L))
    chosen = np.random.default_rng(1).choice(S**L, N, p=probs)
    x0, keys = jnp.asarray(all_sequences(S, L)[chosen], jnp.int32), sequence_keys(jax.random.key(0), N)
    entropy = -np.log(probs[chosen]).mean()

    def bound(steps):
        settings = get_kernel("ancestral"), score_fn, uniform_schedule(steps), Coupling("iid")
        return float(jax.jit(lambda key, x: m_step_nll(key, process, *settings, x).mean())(keys, x0))

    few, more = bound(4), bound(64)
    assert few > more + 0.1
    assert -0.02 < more - entropy < 0.04
    many = jax.jit(lambda key, x: many_step_nll(key, process, score_fn, x, 32).mean())(keys, x0)
    assert abs(float(many) - entropy) < 0.03
