"""JYS: its KLUB and golden section against its own numbers, and its grids where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.distill import jys
from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import markov_log_posterior
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.process import reverse_rate
from lsd_jax.samplers.coupling import IID
from lsd_jax.tasks.chain_laws import countdown

GOLDEN = np.load("tests/golden/jys_klub.npz")


def test_golden_klub():
    process = Absorbing(11, LogLinear())
    t1, t2, t3 = (jnp.float32(t) for t in GOLDEN["in/t1_t2_tnext"])
    rates = []
    for index, t in ((1, t1), (2, t2)):
        x, log_score = jnp.asarray(GOLDEN[f"in/xt{index}"]), jnp.asarray(GOLDEN[f"in/log_score{index}"][..., :11])
        noised = np.where(GOLDEN["in/uniforms"] < float(process.mask_probability(t)), 11, GOLDEN["in/x0"])
        np.testing.assert_array_equal(x, noised)
        rates.append(reverse_rate(process, log_score, x, t))
        np.testing.assert_allclose(rates[-1], GOLDEN[f"out/rev_rate{index}"], rtol=1e-5)
    per_token = jys.klub_per_token(*rates, t2 - t3)
    np.testing.assert_allclose(per_token, GOLDEN["out/klub_per_token"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(per_token.mean(), GOLDEN["out/klub"], rtol=1e-5)


def test_golden_section_visits():
    visited = []

    def function(v):
        visited.append(v)
        return (v - 0.37) ** 2 + 0.1 * np.sin(5 * v)

    best = jys.golden_section(function, 0.02, 0.98, 0.01)
    np.testing.assert_allclose(best, GOLDEN["out/golden_section_best"], rtol=1e-7)
    inner = [v for v in GOLDEN["out/golden_section_visited"] if v not in (0.02, 0.98)]
    np.testing.assert_allclose(visited, inner, rtol=1e-6)


def test_halving_finds_the_points_of_a_known_score():
    grids = jys.halved_grids(lambda t1, t2, t3: -abs(t2 - 0.7 * t1 - 0.3 * t3), 8, 1e-4)
    assert sorted(grids) == [1, 2, 4, 8]
    np.testing.assert_allclose(grids[2], [1, 0.7, 0], atol=1e-3)
    np.testing.assert_allclose(grids[4], [1, 0.91, 0.7, 0.49, 0], atol=1e-3)
    for steps, grid in grids.items():
        assert len(grid) == steps + 1 and grid[0] == 1 and grid[-1] == 0 and (np.diff(grid) < 0).all()


def test_grids_of_a_chain_are_finer_where_tokens_depend_on_each_other():
    process = Absorbing(8, LogLinear())
    model = Diffusion.from_function(markov_log_posterior(process, *countdown(8, 0.01)), process, "log_posterior")
    rng = np.random.default_rng(0)
    tokens = np.stack([(rng.integers(8) - np.arange(24)) % 8 for _ in range(64)])
    keys = sequence_keys(jax.random.key(0), 64)
    grids = jys.jys_grids(model, IID, tokens, keys, 8)
    for steps, grid in grids.items():
        assert len(grid) == steps + 1 and (np.diff(grid) < 0).all()
    # Nothing is known of a countdown at first: the early steps, which settle it, are the short ones.
    assert grids[8][4] > 0.5
    again = jys.jys_grids(model, IID, tokens, keys, 8)
    np.testing.assert_array_equal(grids[8], again[8])
