"""Kernels against the reference's numbers, enumeration on a tiny space, and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.oracle import all_sequences
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.samplers import KERNELS, get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.first_hitting import first_hitting
from lsd_jax.samplers.kernel import Knobs, denoise
from lsd_jax.samplers.simulate import Schedule, simulate, uniform_schedule
from tests.samplers import enumeration

GOLDEN = np.load("tests/golden/sedd_samplers.npz")
NEUTRAL = Knobs(jnp.zeros(()), jnp.zeros(()))
S, L = 3, 3
ENUMERABLE = (
    "euler",
    "tweedie",
    "ancestral",
    "tau_leaping",
    "binomial_leaping",
    "theta_trapezoidal",
    "theta_rk2",
    "predictor_corrector",
)
PROBS = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3))


def golden_noise(name):
    return make_noise(name, **({"sigma_min": 1e-4} if name == "geometric" else {}))


def golden_cases():
    for graph, process in (("absorb", "absorbing"), ("uniform", "uniform")):
        for noise in ("loglinear", "geometric"):
            for index in range(4):
                for consistent in (False, True):
                    yield graph, process, noise, index, consistent


def compare(transition, golden, x, process, tolerance):
    """Ours against the reference's unnormalised step probabilities, negative ones clamped as its draw does."""
    stay_BL = np.exp(transition.log_stay_BL)
    wanted = np.maximum(golden[..., : process.vocab_size], 0)
    movable = x == process.vocab_size if process.name == "absorbing" else np.ones_like(x, bool)
    here = np.arange(process.vocab_size) == x[..., None]
    scale = max(1.0, float(wanted.max()))
    # A jump's probability is one at most; the reference's mass may be more, and what is left of it is where it goes.
    mass_BL1 = np.where(here, 0, wanted).sum(-1, keepdims=True)
    jump_BL1 = -np.expm1(np.asarray(transition.log_stay_BL))[..., None]
    got_BLS = np.exp(transition.log_destination_BLS) * np.where(mass_BL1 < 1, jump_BL1, mass_BL1)
    difference = np.where(movable[..., None] & ~here, got_BLS - wanted, 0) / scale
    assert np.abs(difference).max() < tolerance
    reference_stay = np.take_along_axis(golden, x[..., None], -1)[..., 0]
    inside = movable & (reference_stay > 1e-3) & (reference_stay < 1)
    assert np.abs(np.where(inside, stay_BL - reference_stay, 0)).max() < 10 * tolerance


@pytest.mark.parametrize(("graph", "name", "noise", "index", "consistent"), list(golden_cases()))
def test_golden_steps(graph, name, noise, index, consistent):
    process = make_process(name, 11, golden_noise(noise))
    x = GOLDEN[f"in/{graph}/x"]
    prefix = "consistent_" if consistent else ""
    key = f"in/{graph}/{noise}/consistent_log_score_{index}" if consistent else f"in/{graph}/log_score"
    log_score = jnp.asarray(GOLDEN[key][..., :11])
    t, u = (jnp.float32(value) for value in GOLDEN["in/t_step"][index])
    u = t - u
    # At t = 1, and where a geometric step is smaller than 1e-4, the reference's own float32 is off its float64 truth.
    tolerance = 1e-4 if t > 0.99 else 3e-5 if noise == "geometric" and index == 3 else 1e-5
    score_fn = lambda x, t: log_score  # noqa: E731
    euler = KERNELS["euler"].step(process, score_fn, jnp.asarray(x), t, u, NEUTRAL)
    golden = GOLDEN[f"out/{graph}/{noise}/{prefix}euler_probs_{index}"]
    compare(euler, golden, x, process, tolerance)
    if noise == "geometric" and index == 0:
        return  # sigma 20: the reference's own float32 fails there
    tweedie = KERNELS["tweedie"].step(process, score_fn, jnp.asarray(x), t, u, NEUTRAL)
    golden = np.maximum(GOLDEN[f"out/{graph}/{noise}/{prefix}analytic_probs_{index}"], 0)
    if name == "uniform":
        golden = golden / golden.sum(-1, keepdims=True)
    compare(tweedie, golden, x, process, tolerance)
    last = denoise(process, score_fn, jnp.asarray(x), t, NEUTRAL)
    golden = np.maximum(GOLDEN[f"out/{graph}/{noise}/{prefix}denoiser_probs_{index}"], 0)
    golden = golden / np.maximum(golden.sum(-1, keepdims=True), 1e-30)
    stay, jump = last.probabilities()
    probs = np.asarray(jump)
    if name == "uniform":
        probs = probs + np.asarray(stay)[..., None] * np.asarray(jax.nn.one_hot(x, 11))
    movable = (x == 11) if name == "absorbing" else np.ones_like(x, bool)
    assert np.abs(np.where(movable[..., None], probs - golden, 0)).max() < tolerance


def oracle(name):
    return enumeration.oracle(name, PROBS, S, L)


def law_of(tokens) -> np.ndarray:
    return enumeration.law_of(tokens, S)


@pytest.mark.parametrize(
    ("kernel", "name"), [(kernel, name) for kernel in ENUMERABLE for name in get_kernel(kernel).processes]
)
def test_simulation_draws_the_enumerated_law(name, kernel):
    process, score_fn = oracle(name)
    schedule = uniform_schedule(4)
    schedule = Schedule(schedule.time_grid, Knobs(jnp.linspace(0.1, -0.2, 4), jnp.linspace(-0.3, 0.2, 4)))
    kernel = get_kernel(kernel)
    exact = enumeration.exact_law(process, score_fn, kernel, schedule, L)
    sample = simulate(jax.random.key(0), process, kernel, score_fn, schedule, Coupling("iid"), 40_000, L)
    assert sample.nfe == 3 * kernel.nfe + 1
    assert enumeration.total_variation(law_of(sample.tokens), exact) < 0.02


@pytest.mark.parametrize(
    ("kernel", "name"),
    [(kernel, name) for kernel in ("euler", "tweedie", "ancestral") for name in get_kernel(kernel).processes],
)
def test_the_last_step_converges_too(name, kernel):
    """Halving the step halves the error at the data, the denoising step included (test_convergence.py: every kernel)."""
    process, score_fn = oracle(name)
    laws = [enumeration.exact_law(process, score_fn, get_kernel(kernel), uniform_schedule(m), L) for m in (32, 64, 128)]
    errors = np.array([enumeration.total_variation(law, PROBS) for law in laws])
    assert errors[-1] < 0.02
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 1.0, atol=0.3)


def test_first_hitting_is_exact():
    process, score_fn = oracle("absorbing")
    sample = first_hitting(sequence_keys(jax.random.key(1), 40_000), process, score_fn, L, L, NEUTRAL)
    assert (np.asarray(sample.calls_B) == L).all()
    assert np.abs(law_of(sample.tokens) - PROBS).sum() / 2 < 0.02


def test_ancestral_equals_tweedie_for_the_exact_posterior():
    process, score_fn = oracle("uniform")
    x, t, u = jnp.asarray(all_sequences(S, L)), jnp.float32(0.8), jnp.float32(0.5)
    a = KERNELS["ancestral"].step(process, score_fn, x, t, u, NEUTRAL).probabilities()
    b = KERNELS["tweedie"].step(process, score_fn, x, t, u, NEUTRAL).probabilities()
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, atol=2e-5), a, b)


def test_knobs_do_what_they_say():
    process, score_fn = oracle("absorbing")
    x, t, u = jnp.full((1, L), S), jnp.float32(0.8), jnp.float32(0.5)
    base_stay, base_jump = KERNELS["euler"].step(process, score_fn, x, t, u, NEUTRAL).probabilities()
    half = Knobs(jnp.log(0.5), jnp.zeros(()))
    stay, jump = KERNELS["euler"].step(process, score_fn, x, t, u, half).probabilities()
    np.testing.assert_allclose(1 - stay, (1 - base_stay) / 2, rtol=1e-4)
    np.testing.assert_allclose(jump, base_jump / 2, rtol=1e-4)
    cold = Knobs(jnp.zeros(()), jnp.log(0.5))
    stay, jump = KERNELS["euler"].step(process, score_fn, x, t, u, cold).probabilities()
    np.testing.assert_allclose(stay, base_stay, rtol=1e-6)
    squared = base_jump**2 / (base_jump**2).sum(-1, keepdims=True)
    np.testing.assert_allclose(jump / jump.sum(-1, keepdims=True), squared, rtol=1e-3)
    log_half = Knobs(jnp.log(0.5), jnp.zeros(()), "log_score")
    scaled = log_half.scale(score_fn(x, t))
    np.testing.assert_allclose(scaled, 0.5 * score_fn(x, t), rtol=1e-6)


def test_unknown_kernel():
    with pytest.raises(ValueError, match="config.student.kernel"):
        get_kernel("heun")
