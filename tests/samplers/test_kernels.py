"""Kernels against the reference's numbers, enumeration on a tiny space, and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.kernel import denoise
from lsd_jax.samplers.registry import KERNELS, SAMPLERS, get_kernel, get_sampler
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import Schedule, Step, StepParameters, neutral, uniform_schedule
from tests.samplers.enumeration import draw, exact_law, exact_laws, frequencies, oracle, total_variation

GOLDEN = np.load("tests/golden/sedd_samplers.npz")
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
    """Ours against the reference's unnormalized step probabilities, negative ones clamped as its draw does."""
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


@functools.partial(jax.jit, static_argnums=0)
def golden_steps(process, log_score, x, t, u):
    """Euler's, Tweedie's and the denoising transition of a network that gives this log-score."""
    model, step = Diffusion(process, lambda params, x, t: log_score), Step(t, u, neutral())
    return (*(KERNELS[name].transition(model, x, step) for name in ("euler", "tweedie")), denoise(model, x, step))


@pytest.mark.parametrize(("graph", "name", "noise", "index", "consistent"), list(golden_cases()))
def test_golden_steps(graph, name, noise, index, consistent):
    process = make_process(name, 11, golden_noise(noise))
    x = GOLDEN[f"in/{graph}/x"]
    prefix = "consistent_" if consistent else ""
    key = f"in/{graph}/{noise}/consistent_log_score_{index}" if consistent else f"in/{graph}/log_score"
    t, u = (jnp.float32(value) for value in GOLDEN["in/t_step"][index])
    u = t - u
    # At t = 1, and where a geometric step is smaller than 1e-4, the reference's own float32 is off its float64 truth.
    tolerance = 1e-4 if t > 0.99 else 3e-5 if noise == "geometric" and index == 3 else 1e-5
    euler, tweedie, last = golden_steps(process, GOLDEN[key][..., :11], x, t, u)
    compare(euler, GOLDEN[f"out/{graph}/{noise}/{prefix}euler_probs_{index}"], x, process, tolerance)
    if noise == "geometric" and index == 0:
        return  # sigma 20: the reference's own float32 fails there
    golden = np.maximum(GOLDEN[f"out/{graph}/{noise}/{prefix}analytic_probs_{index}"], 0)
    if name == "uniform":
        golden = golden / golden.sum(-1, keepdims=True)
    compare(tweedie, golden, x, process, tolerance)
    golden = np.maximum(GOLDEN[f"out/{graph}/{noise}/{prefix}denoiser_probs_{index}"], 0)
    golden = golden / np.maximum(golden.sum(-1, keepdims=True), 1e-30)
    stay, jump = last.probabilities()
    probs = np.asarray(jump)
    if name == "uniform":
        probs = probs + np.asarray(stay)[..., None] * (np.arange(11) == x[..., None])
    movable = (x == 11) if name == "absorbing" else np.ones_like(x, bool)
    assert np.abs(np.where(movable[..., None], probs - golden, 0)).max() < tolerance


# Every kernel, and every process; the other pairs are slow. Their steps are enumerated in test_convergence.py.
BOTH = ("euler", "predictor_corrector")
SIMULATED = [
    pytest.param(kernel, name, marks=pytest.mark.slow if number and kernel not in BOTH else ())
    for kernel in ENUMERABLE
    for number, name in enumerate(get_kernel(kernel).processes)
]


@pytest.mark.parametrize(("kernel", "name"), SIMULATED)
def test_simulation_draws_the_enumerated_distribution(name, kernel):
    model, kernel = oracle(name, PROBS, S, L), get_kernel(kernel)
    learned = StepParameters(jnp.linspace(0.1, -0.2, 4), jnp.linspace(-0.3, 0.2, 4))
    schedule = Schedule(uniform_schedule(4).time_grid, learned)
    exact = exact_law(model, kernel, schedule, L)
    sample = draw(jax.random.key(0), model, Sampler(schedule, kernel, length=L), 40_000)
    assert sample.nfe == 3 * kernel.nfe + 1
    assert total_variation(frequencies(sample.tokens, S), exact) < 0.02


@pytest.mark.parametrize(
    ("kernel", "name"),
    [(kernel, name) for kernel in ("euler", "tweedie", "ancestral") for name in get_kernel(kernel).processes],
)
def test_the_last_step_converges_too(name, kernel):
    """Halving the step halves the error at the data, the denoising step included (test_convergence.py: every kernel)."""
    model = oracle(name, PROBS, S, L)
    laws = exact_laws(model, get_kernel(kernel), [uniform_schedule(steps) for steps in (32, 64, 128)], L)
    errors = np.array([total_variation(law, PROBS) for law in laws])
    assert errors[-1] < 0.02
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 1.0, atol=0.3)


def test_ancestral_equals_tweedie_for_the_exact_posterior():
    model, x = oracle("uniform", PROBS, S, L), jnp.asarray(all_sequences(S, L))
    step = Step(jnp.float32(0.8), jnp.float32(0.5), neutral())
    a, b = (KERNELS[name].transition(model, x, step).probabilities() for name in ("ancestral", "tweedie"))
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, atol=2e-5), a, b)


def test_step_parameters_do_what_they_say():
    model, x = oracle("absorbing", PROBS, S, L), jnp.full((1, L), S)
    euler = lambda params: KERNELS["euler"].transition(model, x, Step(0.8, 0.5, params)).probabilities()
    base_stay, base_jump = euler(neutral())
    stay, jump = euler(StepParameters(jnp.log(0.5), jnp.zeros(())))
    np.testing.assert_allclose(1 - stay, (1 - base_stay) / 2, rtol=1e-4)
    np.testing.assert_allclose(jump, base_jump / 2, rtol=1e-4)
    stay, jump = euler(StepParameters(jnp.zeros(()), jnp.log(0.5)))
    np.testing.assert_allclose(stay, base_stay, rtol=1e-6)
    squared = base_jump**2 / (base_jump**2).sum(-1, keepdims=True)
    np.testing.assert_allclose(jump / jump.sum(-1, keepdims=True), squared, rtol=1e-3)
    log_half, scores = StepParameters(jnp.log(0.5), jnp.zeros(()), "log_score"), model.log_score(x, jnp.float32(0.8))
    np.testing.assert_allclose(log_half.scale(scores), 0.5 * scores, rtol=1e-6)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"^kernel='heun': choose one of \['ancestral', 'binomial_leaping'"):
        get_kernel("heun")
    with pytest.raises(ValueError, match="^kernel='gillespie': choose one of"):  # it has no time grid
        get_kernel("gillespie")
    with pytest.raises(ValueError, match="^name='heun': choose one of.*'gillespie'"):
        get_sampler("heun")


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_declares_its_processes_and_its_paper(name):
    declared = get_sampler(name)
    assert declared.name == name and (name not in KERNELS or declared.nfe >= 1)
    assert declared.processes and set(declared.processes) <= {"absorbing", "uniform", "gaussian"}
    assert declared.paper.split(",")[0].split()[-1].isdigit()  # authors and year, then where it is found
    if name in KERNELS:
        assert declared.stand_in.stand_in is declared.stand_in and declared.stand_in.nfe == 1
        assert set(declared.processes) <= set(declared.stand_in.processes)
