"""Guided models against the exact posteriors of a joint distribution of a label and a sequence, by enumeration."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.models.guidance import mixed
from lsd_jax.models.oracle import all_sequences
from lsd_jax.processes.process import make_process
from tests.samplers.enumeration import frequencies, oracle, total_variation

S, L = 3, 3  # a label at position 0, and two tokens
JOINT = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3)) * 0.98 + 0.02 / S**L
LABEL = 1
T = jnp.float32(0.7)


def _model() -> lsd.Diffusion:
    return oracle("absorbing", JOINT, S, L)


def _constant(logits_BLS: jax.Array, x_BL: jax.Array, t: jax.Array) -> jax.Array:
    return logits_BLS


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
        assert (np.isneginf(found) == [True, False, strength < 1, True]).all()
        assert strength < 1 or found[2] == log_with[2]


@pytest.mark.parametrize("t", [0.5, 1.0])
@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_peaked_posteriors_keep_their_tail_under_uniform_noise(t, strength):
    """At time 1 a score is 1 up to what the posterior adds, a thousandth: it cannot say of a rare token how rare it is."""
    rng = np.random.default_rng(1)
    first = (4 * rng.normal(size=(1, 6, 27))).astype(np.float32)
    second = first + 0.5 * rng.normal(size=first.shape).astype(np.float32)
    process = lsd.Uniform(27, lsd.LogLinear())
    models = [
        lsd.Diffusion.from_function(functools.partial(_constant, jnp.asarray(each)), process)
        for each in (first, second)
    ]
    x_BL = jnp.asarray(rng.integers(0, 27, (1, 6)))
    guided = lsd.guided(*models, strength)
    found = np.exp(np.asarray(guided.apply.log_posterior(guided.params, x_BL, jnp.float32(t)), np.float64))
    powers = [
        each.astype(np.float64) - np.log(np.exp(each.astype(np.float64)).sum(-1, keepdims=True))
        for each in (first, second)
    ]
    wanted = np.exp(strength * powers[0] + (1 - strength) * powers[1])
    wanted /= wanted.sum(-1, keepdims=True)
    assert np.abs(found - wanted).sum(-1).max() / 2 < 1e-5
    plain = lsd.Diffusion.from_function(
        lambda x, t: jnp.log(jnp.asarray(wanted, jnp.float32)), process, "log_posterior"
    )
    scores = [np.asarray(model.log_score(x_BL, jnp.float32(t))) for model in (guided, plain)]
    np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output", ["posterior", "log_posterior", "mean", "score", "log_score"])
@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_the_posterior_of_an_output_is_what_its_score_says(name, output):
    process = make_process(name, 5, lsd.LogLinear())
    logits = jnp.asarray(np.random.default_rng(2).normal(size=(1, 4, 5)), jnp.float32)
    if output == "log_posterior":
        logits = jax.nn.log_softmax(logits)
    if output == "log_score":
        logits = process.log_score(jax.nn.log_softmax(logits), jnp.zeros((1, 4), jnp.int32), T)
    x_BL = jnp.array([[process.num_states - 1, 0, 2, process.num_states - 1]])
    model = lsd.Diffusion.from_function(lambda x, t: logits, process, output)
    found = model.apply.log_posterior((), x_BL, T)
    wanted = jax.nn.log_softmax(process.log_clean(model.log_score(x_BL, T), x_BL, T))
    read = np.asarray(x_BL[0]) == process.num_states - 1 if name == "absorbing" else np.ones(4, bool)
    np.testing.assert_allclose(found[0][read], wanted[0][read], atol=1e-3)


@pytest.mark.parametrize("name", ["absorbing", "uniform", "gaussian"])
def test_soft_tokens_are_guided_as_the_tokens_that_they_are(name):
    models = [oracle(name, JOINT, S, L), oracle(name, JOINT[::-1].copy(), S, L)]
    if name == "absorbing":
        models[1] = lsd.without(models[1], [2])
    model, process = lsd.guided(*models, 2.0), models[0].process
    x_BL = jnp.array([[0, process.num_states - 1, 1], [2, 0, process.num_states - 1]])
    soft = jax.nn.one_hot(x_BL, process.num_states)
    hard, found = (np.asarray(process.masked(x_BL, model.log_score(x, T))) for x in (x_BL, soft))
    np.testing.assert_allclose(found, hard, atol=1e-4)
    slope = jax.grad(lambda x: jnp.where(x_BL[..., None] == process.num_states - 1, model.log_score(x, T), 0.0).sum())(
        soft
    )
    assert np.isfinite(slope).all()


def test_another_strength_or_other_positions_are_another_network(tmp_path):
    model = lsd.load_model("qm9")

    def guided(positions: list[int], strength: float) -> lsd.Diffusion:
        return lsd.guided(model, lsd.without(model, positions), strength)

    made = [guided([0], 1.5), guided([1], 1.5), guided([0], 1.5 + 1e-7), guided([0, 1], 1.5)]
    assert len({each.identity.sha256 for each in made}) == 4 == len({each.identity.id for each in made}) + 1
    assert guided([1, 0, 1], 1.5).identity == made[3].identity
    custom = lsd.guided(_model(), lsd.without(_model(), [0]), 1.5)
    settings = {"length": L, "teacher": lsd.TeacherSettings(steps=8, paths=16), "folder": tmp_path}
    lsd.distill(custom, (2,), **settings)
    with pytest.raises(ValueError, match="M=2 was distilled with another network"):
        lsd.distill(lsd.guided(_model(), lsd.without(_model(), [0]), 4.0), (2,), **settings)


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
    with pytest.raises(ValueError, match=r"^unconditional=\.\.\.: its process has another name; both models need one"):
        lsd.guided(_model(), uniform, 1.0)
    for strength in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"^strength={strength}: must be 0 or more"):
            lsd.guided(_model(), _model(), strength)
    with pytest.raises(ValueError, match=r"^strength='2': must be a number"):
        lsd.guided(_model(), _model(), "2")
    with pytest.raises(ValueError, match=r"^model=\.\.\.: the uniform process has no mask"):
        lsd.without(uniform, [0])
    for positions in ([], [-1], [0.5], 3):
        with pytest.raises(ValueError, match=r"^positions=.*: must be numbers of positions"):
            lsd.without(_model(), positions)
    with pytest.raises(ValueError, match=r"^positions=3: a sequence has 3 tokens"):
        lsd.without(_model(), [0, 3]).log_score(_given((1,)), T)
