"""Guided models against the exact posteriors of a joint distribution of a label and a sequence, by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.models.guidance import mixed
from lsd_jax.models.oracle import all_sequences
from tests.samplers.enumeration import frequencies, oracle, total_variation

S, L = 3, 3  # a label at position 0, and two tokens
JOINT = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3)) * 0.98 + 0.02 / S**L
LABEL = 1
T = jnp.float32(0.7)


def _model() -> lsd.Diffusion:
    return oracle("absorbing", JOINT, S, L)


def _given(free: tuple[int, ...]) -> jax.Array:
    """The label, token 2 at positions that are not free, and masks."""
    x_L = np.array([LABEL, 2, 2])
    x_L[list(free)] = S
    return jnp.asarray(x_L[None])


def _posterior(model: lsd.Diffusion, x_BL: jax.Array) -> np.ndarray:
    return np.asarray(jax.nn.softmax(model.process.log_clean(model.log_score(x_BL, T), x_BL, T)))[0]


@pytest.mark.parametrize("strength", [0, 0.5, 1, 2.5])
def test_a_guided_posterior_is_the_normalized_power_of_both(strength):
    table = JOINT.reshape(S, S, S)
    with_label, no_label = table[LABEL, :, 2], table[:, :, 2].sum(0)  # of position 1, with position 2 known
    wanted = (with_label / with_label.sum()) ** strength * (no_label / no_label.sum()) ** (1 - strength)
    model = lsd.guided(_model(), lsd.without(_model(), [0]), strength)
    np.testing.assert_allclose(_posterior(model, _given((1,)))[1], wanted / wanted.sum(), rtol=2e-5)


@pytest.mark.parametrize("name", ["uniform", "gaussian"])
def test_under_other_noise_two_models_are_mixed_alike(name):
    sequences = all_sequences(S, 2)
    first = JOINT.reshape(S, -1)[LABEL] / JOINT.reshape(S, -1)[LABEL].sum()
    models = oracle(name, first, S, 2), oracle(name, JOINT.reshape(S, -1).sum(0), S, 2)
    x_BL = jnp.asarray(sequences[4:5])
    powers = [_posterior(model, x_BL) for model in models]
    for strength in (0, 1, 2):
        wanted = powers[0] ** strength * powers[1] ** (1 - strength)
        found = _posterior(lsd.guided(*models, strength), x_BL)
        np.testing.assert_allclose(found, wanted / wanted.sum(-1, keepdims=True), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("strength", [0, 0.5, 1, 3])
def test_what_is_impossible_stays_so_and_is_no_nan(strength):
    log_with = jnp.log(jnp.array([0.0, 0.5, 0.5, 0.0]))
    log_without = jnp.log(jnp.array([0.5, 0.5, 0.0, 0.0]))
    value, slope = jax.value_and_grad(
        lambda s: jnp.exp(mixed(log_with, log_without, s)).sum() + mixed(log_with, log_without, s)[1]
    )(jnp.float32(strength))
    found = np.asarray(mixed(log_with, log_without, jnp.float32(strength)))
    assert np.isfinite([value, slope]).all()
    if strength == 0:
        np.testing.assert_array_equal(found, log_without)
    else:
        assert (np.isneginf(found) == [True, False, False, True]).all()
        assert found[2] == log_with[2]


def test_samples_and_students_follow_the_guided_distribution():
    strength, count = 2.0, 20_000
    model = lsd.guided(_model(), lsd.without(_model(), [0]), strength)
    condition = lsd.Condition(np.tile([LABEL, 0, 0], (count, 1)), np.tile([True, False, False], (count, 1)))
    # One token after another: position 1 or 2 first, each with chance a half, drawn from the guided posterior.
    table, wanted = JOINT.reshape(S, S, S), np.zeros((S, S))

    def lean(with_label: np.ndarray, no_label: np.ndarray) -> np.ndarray:
        power = (with_label / with_label.sum()) ** strength * (no_label / no_label.sum()) ** (1 - strength)
        return power / power.sum()

    pair, both = table[LABEL], table.sum(0)
    first, second = lean(pair.sum(1), both.sum(1)), lean(pair.sum(0), both.sum(0))
    for a in range(S):
        wanted[a] += first[a] * lean(pair[a], both[a]) / 2
        wanted[:, a] += second[a] * lean(pair[:, a], both[:, a]) / 2
    key, batch = jax.random.key(0), {"condition": condition, "batch_size": count}
    exact = lsd.sample(model, lsd.sampler("first_hitting", 1), key, count, length=L, **batch)
    assert (np.asarray(exact)[:, 0] == LABEL).all()
    assert total_variation(frequencies(np.asarray(exact)[:, 1:], S), wanted.reshape(-1)) < 0.015
    students = lsd.distill(model, (2,), length=L, teacher=lsd.TeacherSettings(steps=8, paths=16))
    drawn = np.asarray(lsd.sample(model, students[2], key, count, **batch))
    assert (drawn[:, 0] == LABEL).all()
    conditional = np.asarray(lsd.sample(_model(), students[2], key, count, **batch))
    likely = np.log(pair / both * both.sum())  # how much more often the label's sequences have it
    assert likely[drawn[:, 1], drawn[:, 2]].mean() > likely[conditional[:, 1], conditional[:, 2]].mean()


def test_another_strength_compiles_nothing_again():
    traces = []

    def posterior(x_BL, t):
        traces.append(1)
        return jnp.zeros((*x_BL.shape, S))

    base = lsd.Diffusion.from_function(posterior, _model().process)
    counts = []
    for strength in (0.5, 2.0):
        model = lsd.guided(base, lsd.without(base, [0]), strength)
        lsd.sample(model, lsd.sampler("euler", 2), jax.random.key(0), 4, length=L)
        counts.append(len(traces))
    assert 0 < counts[0] == counts[1]


def test_what_cannot_be_guided_is_refused():
    uniform = oracle("uniform", JOINT, S, L)
    with pytest.raises(ValueError, match=r"^unconditional=\.\.\.: its process must be that of the conditional model"):
        lsd.guided(_model(), uniform, 1.0)
    with pytest.raises(ValueError, match=r"^strength=-1: must be 0 or more"):
        lsd.guided(_model(), _model(), -1)
    with pytest.raises(ValueError, match=r"^strength='2': must be a number"):
        lsd.guided(_model(), _model(), "2")
    with pytest.raises(ValueError, match=r"^model=\.\.\.: the uniform process has no mask"):
        lsd.without(uniform, [0])
    for positions in ([], [-1], [0.5], 3):
        with pytest.raises(ValueError, match=r"^positions=.*: must be numbers of positions"):
            lsd.without(_model(), positions)
    with pytest.raises(ValueError, match=r"^positions=3: a sequence has 3 tokens"):
        lsd.without(_model(), [0, 3]).log_score(_given((1,)), T)
