"""NaN is never a plausible result: not a token, not a weight, not a record."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.experiment.records import write_json
from lsd_jax.models import backbones, weights
from lsd_jax.models.ddit import DDiTConfig
from lsd_jax.processes.draws import inverse_cdf
from lsd_jax.processes.noise import LogLinear

S, L = 4, 6  # a whole block of tokens: what lies behind the last one is the mask


def broken(process):
    """A network whose answers are not numbers once half of the tokens are known, or at late times."""
    answer = lambda tokens, t: jnp.full((*tokens.shape, S), jnp.nan) + 0 * t
    return lsd.Diffusion.from_function(answer, process, "log_posterior", time_conditioned=False)


@pytest.mark.parametrize("size", [5, 5000])
def test_no_token_is_drawn_from_nan(size):
    log_mass = np.zeros((3, size), np.float32)
    log_mass[1, 2] = np.nan
    tokens = np.asarray(inverse_cdf(jnp.asarray(log_mass), jnp.full(3, 1 << 31, jnp.uint32)))
    assert tokens[1] == -1 and (tokens[[0, 2]] >= 0).all()


ANSWERS = {
    "a constant": lambda tokens, t: jnp.full((*tokens.shape, S), jnp.nan),
    "of the tokens": lambda tokens, t: jnp.where(tokens[..., None] >= 0, jnp.nan, 0.0) * jnp.ones((1, 1, S)),
    "a table": lambda tokens, t: jnp.asarray(np.full((S + 1, S), np.nan, np.float32))[tokens],
    "one column": lambda tokens, t: jnp.zeros((*tokens.shape, S)).at[..., 2].set(jnp.nan),
    "nothing possible": lambda tokens, t: jnp.full((*tokens.shape, S), -jnp.inf),
    "infinity": lambda tokens, t: jnp.zeros((*tokens.shape, S)).at[..., 2].set(jnp.inf),
}
KERNELS = ("tweedie", "euler", "theta_rk2", "theta_trapezoidal", "maskgit", "gillespie", "first_hitting")
KERNELS += ("eb", "confidence_threshold", "klass")
# One of every kind: these meet every answer, the others one of them; all meet all in the slow tests.
OF_EVERY_KIND = ("tweedie", "theta_rk2", "maskgit", "gillespie", "eb")


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    "length", [1, pytest.param(3, marks=pytest.mark.slow)]
)  # parts of a vector of the processor, and whole ones
def test_no_sampler_makes_a_token_of_nan(answer, length):
    """The compiler simplifies, fuses and vectorizes: what one program keeps as NaN another one may turn into a number."""
    model = lsd.Diffusion.from_function(ANSWERS[answer], lsd.Absorbing(S, LogLinear()), time_conditioned=False)
    for name in KERNELS if answer == "of the tokens" or length > 1 else OF_EVERY_KIND:
        for seed in range(3):
            with pytest.raises(ValueError, match="its answers are not numbers"):
                lsd.sample(model, lsd.sampler(name, steps=2), jax.random.key(seed), 1, length=length)


@pytest.mark.parametrize("name", ["euler", "tweedie", "theta_trapezoidal", "gillespie", "eb_uniform"])
def test_a_broken_network_is_told_under_uniform_noise(name):
    process = lsd.Uniform(S, LogLinear())
    infinite = lsd.Diffusion.from_function(ANSWERS["infinity"], process, "log_score", time_conditioned=False)
    for model in (broken(process), infinite):
        with pytest.raises(ValueError, match="its answers are not numbers"):
            lsd.sample(model, lsd.sampler(name, steps=2), jax.random.key(0), 4, length=L)


def test_likelihood_and_distillation_tell_a_broken_network():
    model = broken(lsd.Absorbing(S, LogLinear()))
    with pytest.raises(ValueError, match="its answers are not numbers; 3 of 3 sequences have no likelihood"):
        lsd.likelihood(model, lsd.sampler("euler", steps=2), np.zeros((3, L), int))
    with pytest.raises(ValueError, match="its answers are not numbers; the teacher's paths"):
        lsd.distill(model, steps=(2,), length=L, teacher=lsd.TeacherSettings(steps=4, paths=8))


def test_weights_that_are_not_numbers_are_neither_written_nor_read(tmp_path):
    sizes, path = DDiTConfig(S, 16, 1, 2), tmp_path / "w.safetensors"
    params = backbones.initial(sizes, jax.random.key(0))
    weights.save(path, params, sizes, {})
    before = path.read_bytes()
    bad = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params)
    with pytest.raises(ValueError, match="^params=.*not finite"):
        weights.save(path, bad, sizes, {})
    assert path.read_bytes() == before
    spoiled = bytearray(before)
    spoiled[-2:] = np.float16(np.nan).tobytes()
    path.write_bytes(spoiled)
    with pytest.raises(ValueError, match=r"^weights=.*w\.safetensors.*not finite"):
        weights.load(path)


def test_a_record_holds_null_and_no_nan(tmp_path):
    write_json(tmp_path / "r.json", {"a": [1.0, float("nan")], "b": {"c": (float("inf"), 2)}})
    found = json.loads((tmp_path / "r.json").read_text())
    assert found.pop("not_finite") == {"a.1": "nan", "b.c.0": "inf"}  # what stood where
    assert found == {"a": [1.0, None], "b": {"c": [None, 2]}}


def test_temperature_zero_is_greedy():
    """One step from masks alone: every position takes its likeliest token."""
    likely = jnp.asarray(np.random.default_rng(0).normal(size=(L, S)), jnp.float32)
    answer = lambda tokens, t: jax.nn.log_softmax(jnp.broadcast_to(likely, (*tokens.shape, S)))
    model = lsd.Diffusion.from_function(answer, lsd.Absorbing(S, LogLinear()), "log_posterior", time_conditioned=False)
    tokens = lsd.sample(model, lsd.sampler("euler", 2, temperature=0.0), jax.random.key(0), 16, length=L)
    np.testing.assert_array_equal(tokens, np.tile(likely.argmax(1), (16, 1)))
