"""Samplers as users meet them: by name, as pytrees, with given tokens, and compiled once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process, token_dtype
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.file import load_sampler
from lsd_jax.samplers.kernel import Condition
from lsd_jax.samplers.registry import EVENT_SAMPLERS, SAMPLERS
from lsd_jax.samplers.sampler import Sampler, nfe_of, sampler, steps_within
from lsd_jax.samplers.schedule import fixed_grid
from lsd_jax.samplers.simulate import draw_and_count, sample
from tests.samplers.enumeration import draw, oracle

S, L = 3, 3
PROBS = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3))


def model_for(name: str) -> Diffusion:
    """The exact model of the first process that a sampler is defined for."""
    return oracle(SAMPLERS[name].processes[0], PROBS, S, L)


@pytest.mark.parametrize("name", EVENT_SAMPLERS)  # test_all_kernels.py: every kernel
def test_every_sampler_without_a_grid_runs_by_name(name):
    named = sampler(name, 4)
    tokens, calls = draw_and_count(
        model_for(name), named.bound_to(model_for(name), L), sequence_keys(jax.random.key(0), 8), 8
    )
    assert tokens.shape == (8, L) and tokens.dtype == np.uint8 and tokens.max() < S
    assert named.nfe == 4 and (calls >= 1).all()


def test_a_sample_is_what_simulate_draws_from_its_keys():
    model, named = model_for("tweedie"), sampler("tweedie", 4)
    drawn = sample(model, named, jax.random.key(3), 10, length=L, batch_size=5)
    assert drawn.dtype == np.uint8 and drawn.shape == (10, L)
    alone = draw(sequence_keys(jax.random.key(3), 10), model, named.bound_to(model, L), 10)
    np.testing.assert_array_equal(drawn, alone.tokens)
    # A sequence depends on the key and its number alone.
    np.testing.assert_array_equal(drawn[:3], sample(model, named, jax.random.key(3), 3, length=L))


def test_given_tokens_through_the_verb():
    model, named = model_for("tweedie"), sampler("tweedie", 4)
    given = Condition(np.tile([[2, 0, 1]], (10, 1)), np.tile([[True, False, True]], (10, 1)))
    drawn = sample(model, named, jax.random.key(0), 10, length=L, condition=given, batch_size=8)
    assert (drawn[:, [0, 2]] == [2, 1]).all() and len(np.unique(drawn[:, 1])) > 1
    with pytest.raises(ValueError, match=r"^condition\.tokens_BL=int64 \(10, 3\): must be integers of shape \(4, 3\)"):
        sample(model, named, jax.random.key(0), 4, length=L, condition=given)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("heun", {}, "^name='heun': choose one of"),
        ("euler", {"steps": 0}, "^steps=0: must be a whole number, 1 or more"),
        ("euler", {"temperature": -0.1}, "^temperature=-0.1: must be 0 .the likeliest token. or more"),
        ("euler", {"top_p": 1.5}, "^top_p=1.5: must be above 0 and at most 1"),
        ("euler", {"grid": "parabola"}, "^grid='parabola': choose one of"),
        ("maskgit", {"coupling": Coupling("shared")}, "^coupling.name='shared': must be 'iid' for kernel 'maskgit'"),
    ],
)
def test_impossible_samplers_are_told(name, settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        sampler(name, **{"steps": 4} | settings)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_the_model_is_told():
    absorbing, gaussian = (oracle(name, PROBS, S, L) for name in ("absorbing", "gaussian"))
    reads_time = dataclasses.replace(absorbing, time_conditioned=True)
    dither = Coupling("low_discrepancy", "dither", shape=(2, 2))
    for named, model, length, message in (
        (sampler("euler", 4), absorbing, None, "^length=None: the sampler was made by name"),
        (sampler("tweedie", 4), gaussian, L, "^kernel='tweedie': is defined for"),
        (sampler("cached", 4), reads_time, L, "^kernel='cached': reuses scores of earlier times"),
        (sampler("euler", 4, coupling=dither), absorbing, L, r"^coupling.shape=\(2, 2\): does not hold 3"),
        (sampler("euler", 4).bound_to(absorbing, 4), absorbing, L, "^length=3: .*distilled for 4"),
        (sampler("euler", 4).bound_to(absorbing, L), gaussian, L, "^process="),
    ):
        with pytest.raises(ValueError, match=message):
            sample(model, named, jax.random.key(0), 1, length=length)
    with pytest.raises(ValueError, match="^count=0: must be a whole number, 1 or more"):
        sample(absorbing, sampler("euler", 4), jax.random.key(0), 0, length=L)


def test_a_named_sampler_takes_grid_temperature_and_nucleus():
    named = sampler("euler", 4, temperature=0.9, top_p=0.8, grid="cosine")
    np.testing.assert_allclose(named.schedule.time_grid, fixed_grid("cosine", 4), atol=1e-7)
    np.testing.assert_allclose(np.exp(named.schedule.params.log_temperature), 0.9, rtol=1e-6)
    assert named.schedule.params.top_p == 0.8 and named.length is None and named.process is None
    absorbing, uniform = (oracle(name, PROBS, S, L).process for name in ("absorbing", "uniform"))
    assert not named.has_likelihood(absorbing) and sampler("euler", 4).has_likelihood(uniform)
    spread = sampler("euler", 4, coupling=Coupling("low_discrepancy"))
    assert spread.has_likelihood(absorbing) and not spread.has_likelihood(uniform)
    assert sampler("margin", 4).has_likelihood(absorbing) and not sampler("maskgit", 4).has_likelihood(absorbing)


@pytest.mark.parametrize("name", SAMPLERS)
def test_budgets_are_kept(name):
    kernel = SAMPLERS[name]
    for budget in (1, 2, 7, 16):
        assert nfe_of(kernel, steps_within(kernel, budget)) <= budget < nfe_of(kernel, steps_within(kernel, budget) + 1)


def test_tokens_take_as_little_room_as_they_need():
    assert token_dtype(256) is np.uint8 and token_dtype(257) is np.int32


def test_a_sampler_is_a_pytree_without_its_facts():
    named = sampler("euler", 4, coupling=Coupling("low_discrepancy")).bound_to(model_for("euler"), L)
    known = dataclasses.replace(named, facts={"metrics": {"cost_nats": 1.0}})
    leaves, structure = jax.tree.flatten(known)
    assert len(leaves) == 3  # times, coefficients, temperatures
    assert structure == jax.tree.structure(named) and hash(structure) == hash(jax.tree.structure(named))
    assert jax.tree.unflatten(structure, leaves).facts == {}
    passed = jax.jit(lambda value: value)(known)
    assert isinstance(passed, Sampler) and passed.facts == {} and passed.nfe == 4
    for field in ("kernel", "coupling", "length", "process"):
        assert getattr(passed, field) == getattr(named, field)
        assert field == "process" or jax.tree.structure(dataclasses.replace(named, **{field: None})) != structure
    np.testing.assert_array_equal(passed.schedule.time_grid, named.schedule.time_grid)


def test_all_schedules_of_as_many_steps_share_one_compilation(tmp_path):
    traces = []

    def log_posterior(x, t):
        traces.append(1)
        return jnp.full((*x.shape, S), -np.log(S))

    process = make_process("absorbing", S, make_noise("loglinear"))
    model = Diffusion.from_function(log_posterior, process, "log_posterior", time_conditioned=False)

    def run(each):
        before = len(traces)
        sample(model, each, jax.random.key(0), 8, length=L)
        return len(traces) - before

    first = run(sampler("euler", 4))
    assert first > 0
    for settings in ({}, {"temperature": 0.7}, {"temperature": 1.3, "grid": "cosine"}, {"grid": "square"}):
        assert run(sampler("euler", 4, **settings)) == 0
    assert run(dataclasses.replace(model_free("euler", process), facts={"provenance": {"seed": 1}})) == 0
    # A student loaded twice, and one like it with other numbers.
    for name, temperature in (("a", 0.9), ("b", 1.1)):
        sampler("euler", 4, temperature=temperature).bound_to(model, L).save(tmp_path / f"{name}.json")
    assert [run(load_sampler(tmp_path / f"{name}.json")) for name in ("a", "a", "b")] == [0, 0, 0]
    assert run(sampler("euler", 5)) == first == run(sampler("tweedie", 4))  # another program each


def model_free(name, process):
    """A sampler of four steps that is bound to a process and a length."""
    return dataclasses.replace(sampler(name, 4), length=L, process=process)
