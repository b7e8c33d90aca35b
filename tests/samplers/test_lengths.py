"""Sequences of different lengths: the length is drawn first, pads are never noised, and -log p has the length's part."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.distill.objectives.score_alignment import perturbed_prior
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.samplers.continuous import continuous_time_nats
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.likelihood import PathCosts, path_costs
from tests.samplers.enumeration import frequencies, total_variation

S, L, PAD = 3, 3, 2
SHARES = (0.0, 0.2, 0.3, 0.5)
SEQUENCES = all_sequences(S, L)
LENGTHS = (SEQUENCES != PAD).sum(1)
WHOLE = (SEQUENCES == np.where(np.arange(L) < LENGTHS[:, None], SEQUENCES, PAD)).all(1) & (LENGTHS > 0)


@functools.cache
def case() -> tuple[np.ndarray, lsd.Diffusion]:
    """A distribution whose lengths have the shares, and its exact model."""
    law = np.where(WHOLE, np.random.default_rng(1).gamma(0.5, size=S**L), 0.0)
    for length, share in enumerate(SHARES):
        of_length = WHOLE & (LENGTHS == length)
        if share:
            law[of_length] *= share / law[of_length].sum()
    process = Absorbing(S, LogLinear(), SHARES)
    model = lsd.Diffusion.from_function(
        enumerated_log_posterior(process, law, L), process, "log_posterior", time_conditioned=False
    )
    return law, model


@pytest.mark.parametrize("name", ["first_hitting", "any_order"])
def test_one_token_at_a_time_draws_the_distribution(name):
    law, model = case()
    drawn = lsd.sample(model, lsd.sampler(name, L), jax.random.key(0), 20_000, length=L, batch_size=4096)
    assert total_variation(frequencies(drawn, S), law) < 0.02


@pytest.mark.parametrize(
    "name", ["euler", "remdm_conf", "remdm_cap", "remdm_loop", "predictor_corrector", "maskgit", "gillespie"]
)
def test_lengths_have_their_shares_and_pads_come_last(name):
    _, model = case()
    drawn = lsd.sample(model, lsd.sampler(name, 6), jax.random.key(1), 4000, length=L, batch_size=4000)
    found = frequencies(drawn, S)
    assert found[~WHOLE].sum() == 0
    shares = [found[LENGTHS == length].sum() for length in range(L + 1)]
    np.testing.assert_allclose(shares, SHARES, atol=0.04)


@pytest.mark.parametrize("name", ["margin", "eb", "tweedie"])
def test_the_likelihood_is_that_of_the_samples(name):
    """It sums to one over whole sequences, and is how often they are drawn."""
    _, model = case()
    pattern = Coupling("low_discrepancy", "pattern", (2, 0, 1))
    own = lsd.sampler(name, 3, **({"coupling": pattern} if name == "tweedie" else {}))
    costs = path_costs(model, own.bound_to(model, L), jax.random.key(0), SEQUENCES[WHOLE], 8, 64)
    p = np.exp(-costs.weighted())
    assert costs.exact and p.sum() == pytest.approx(1, abs=1e-4)
    drawn = lsd.sample(model, own, jax.random.key(2), 20_000, length=L, batch_size=4096)
    assert total_variation(frequencies(drawn, S)[WHOLE], p) < 0.02


def test_the_continuous_time_bound_of_the_exact_model_is_the_entropy():
    law, model = case()
    kept = SEQUENCES[law > 0]
    nats = continuous_time_nats(model, jax.random.key(0), np.repeat(kept, 400, 0), 4096).reshape(len(kept), -1)
    wanted = -(law[law > 0] * np.log(law[law > 0])).sum()
    assert law[law > 0] @ nats.mean(1) == pytest.approx(wanted, rel=0.02)


def test_a_student_is_distilled_saved_and_read_again(tmp_path):
    law, model = case()
    rows = SEQUENCES[np.random.default_rng(0).choice(len(law), 256, p=law)]
    student = lsd.distill(model, steps=(2,), data=rows)[2]
    student.save(tmp_path / "student.json")
    again = lsd.load_sampler(tmp_path / "student.json")
    assert again.process.lengths == SHARES
    drawn = lsd.sample(model, again, jax.random.key(0), 500)
    assert frequencies(drawn, S)[~WHOLE].sum() == 0
    for shares, told in (((), "None"), ((0.0, 0.5, 0.5, 0.0), r"shares of 0 ... 3 tokens \(mean 1.50\)")):
        other = lsd.Diffusion.from_function(lambda x, t: None, Absorbing(S, LogLinear(), shares))
        message = (
            rf"^process='absorbing': .* for lengths=shares of 0 ... 3 tokens \(mean 2.30\), the model's is {told}$"
        )
        with pytest.raises(lsd.InputError, match=message):
            again.bound_to(other)


@pytest.mark.parametrize("name", ["tweedie", "first_hitting"])
def test_a_condition_gives_the_length_too(name):
    law, model = case()
    given = np.array([[1, 0, PAD]]), np.array([[True, False, True]])
    condition = lsd.Condition(*(np.tile(array, (4000, 1)) for array in given))
    own = lsd.sampler(name, 3)
    drawn = lsd.sample(model, own, jax.random.key(0), 4000, length=L, condition=condition, batch_size=4000)
    assert (drawn[:, [0, 2]] == [1, PAD]).all()
    possible = law[[9 * 1 + 3 * token + PAD for token in (0, 1)]]
    assert (drawn[:, 1] == 0).mean() == pytest.approx(possible[0] / possible.sum(), abs=0.03)


def test_noise_never_touches_a_pad():
    process = Absorbing(S, LogLinear(), SHARES)
    x0 = jnp.asarray(SEQUENCES[WHOLE])
    x = process.corrupt(jax.random.key(0), x0, jnp.full((len(x0), 1), 0.999))
    np.testing.assert_array_equal(np.asarray(x) == PAD, np.asarray(x0) == PAD)
    assert (np.asarray(x)[np.asarray(x0) != PAD] == process.mask).mean() > 0.9


def test_alignment_starts_the_student_from_the_teachers_length():
    process = Absorbing(S, LogLinear(), SHARES)
    teacher = process.start(jnp.asarray(np.tile(SEQUENCES[WHOLE], (50, 1))))
    start = np.asarray(perturbed_prior(jax.random.split(jax.random.key(0), len(teacher)), process, teacher, 2))
    np.testing.assert_array_equal(start == PAD, np.asarray(teacher) == PAD)
    assert 0.1 < (start[start != PAD] != process.mask).mean() < 0.9


def test_a_length_that_is_never_drawn_has_probability_zero():
    process = Absorbing(S, LogLinear(), (0.0, 0.5, 0.0, 0.5))
    model = lsd.Diffusion.from_function(lambda tokens, t: jnp.zeros((*tokens.shape, S)), process, "log_posterior")
    rows = np.array([[0, 1, 1], [0, 1, PAD], [1, PAD, PAD]])
    for paths in (1, 4):
        nats = lsd.likelihood(model, lsd.sampler("euler", 2), rows, paths=paths)
        assert np.isposinf(nats[1]) and np.isfinite(nats[[0, 2]]).all()
    costs = PathCosts(np.array([[1.0, 2.0], [np.inf, np.inf], [1.0, np.inf]]), True)
    np.testing.assert_allclose(costs.weighted()[[0, 2]], [1.379885, 1 + np.log(2)], rtol=1e-5)
    assert np.isposinf(costs.weighted()[1]) and costs.effective_paths[1:].tolist() == [0, 1]
    assert np.isnan(PathCosts(np.array([[np.nan, 1.0]]), True).weighted()).all()


def test_what_does_not_fit_is_told():
    with pytest.raises(lsd.InputError, match=r"lengths=\(0.5, 0.1\): must be shares that sum to one"):
        Absorbing(S, LogLinear(), (0.5, 0.1))
    _, model = case()
    with pytest.raises(lsd.InputError, match="length=5: the process knows lengths up to 3"):
        lsd.sample(model, lsd.sampler("euler", 2), jax.random.key(0), 2, length=5)
    with pytest.raises(lsd.InputError, match="length=5: the process knows lengths up to 3"):
        lsd.distill(model, steps=(2,), data=np.zeros((64, 5), int))
    with pytest.raises(lsd.InputError, match=r"row 1 has a pad \(token 2\) before its end"):
        lsd.distill(model, steps=(2,), data=np.array([[0, 1, PAD], [0, PAD, 1]] * 64))
    with pytest.raises(lsd.InputError, match="lengths='ab': must be numbers"):
        Absorbing(S, LogLinear(), "ab")
    assert lsd.sample(model, lsd.sampler("euler", 2), jax.random.key(0), 2).shape == (2, L)  # the model knows it
    with pytest.raises(lsd.InputError, match="sequence_length=20: .* are for 22 tokens"):
        lsd.load_model("ddit", "qm9.safetensors", Absorbing(31, LogLinear(), [0.05] * 20 + [0.0]))
