"""The M-step ELBO of the discretized Gaussian process with the exact denoiser of an enumerated distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.continuous import continuous_time_nll
from lsd_jax.samplers.likelihood import m_step_nll
from lsd_jax.samplers.sampler import sampler

S, L, N = 5, 2, 4000


@pytest.mark.slow
def test_it_falls_to_the_entropy_and_so_does_the_continuous_time_limit():
    noise = make_noise("exponential", time_base=0.5)
    process = make_process("gaussian", S, noise, rate_sigma=1.0, q_sigma=3.0)
    probs = np.random.default_rng(0).dirichlet(np.full(S**L, 0.5))
    model = Diffusion.from_function(enumerated_log_posterior(process, probs, L), process, "log_posterior")
    chosen = np.random.default_rng(1).choice(S**L, N, p=probs)
    x0, keys = jnp.asarray(all_sequences(S, L)[chosen], jnp.int32), sequence_keys(jax.random.key(0), N)
    entropy = -np.log(probs[chosen]).mean()
    elbo = jax.jit(m_step_nll)
    few, more = (float(elbo(keys, model, sampler("ancestral", m).bound_to(model, L), x0).mean()) for m in (4, 64))
    assert few > more + 0.1
    assert -0.02 < more - entropy < 0.04
    many = jax.jit(continuous_time_nll, static_argnums=3)(keys, x0, model, 32)
    assert abs(float(many.mean()) - entropy) < 0.03
