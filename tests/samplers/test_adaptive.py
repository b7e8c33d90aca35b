"""Adaptive samplers: their rules against plain loops, exact laws, calls by the sequence, and thresholds for a mean."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.keys import sequence_keys
from lsd_jax.models.oracle import all_sequences
from lsd_jax.samplers.kernels.confidence import ordered_nll
from lsd_jax.samplers.registry import EVENT_SAMPLERS, KERNELS
from lsd_jax.samplers.schedule import uniform_schedule
from lsd_jax.samplers.simulate import draw_and_count
from tests.samplers.enumeration import frequencies, total_variation

S, L = 3, 4
SEQUENCES = all_sequences(S, L)
PROCESS = lsd.Absorbing(S, lsd.LogLinear())
CHOSEN = {"eb": 0.5, "confidence_threshold": 0.7, "klass": 0.5}
STRICTEST = {"eb": 0.0, "confidence_threshold": 1.0, "klass": 1.0}


class Table:
    """A network that is a table over all states, and no distribution's: every order of reveals has a law of its own."""

    def __init__(self, spread: float):
        rng = np.random.default_rng(3)
        own, shared = rng.normal(size=((S + 1) ** L, L, S)), rng.normal(size=(1, L, S))
        self.logits = 2 * shared + spread * own
        self.model = lsd.Diffusion.from_function(self.look_up, PROCESS, "posterior", time_conditioned=False)

    def look_up(self, tokens, t):
        return jnp.asarray(self.logits, jnp.float32)[tokens @ (S + 1) ** jnp.arange(L)[::-1]]

    def posterior(self, tokens: np.ndarray) -> np.ndarray:
        """The distributions (L, S) of one sequence, float64."""
        logits = self.logits[np.ravel_multi_index(tokens, (S + 1,) * L)]
        return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


# Where KLASS finds something stable, distributions change little with the tokens elsewhere.
TABLES = {"eb": Table(1.5), "confidence_threshold": Table(1.5), "klass": Table(0.1)}


def entropies(probs):
    return -(probs * np.log(probs)).sum(-1)


def bounded(entropy, positions, threshold):
    """The entropy bound in plain loops."""
    order = sorted(positions, key=lambda i: entropy[i])
    fits = [k for k in range(1, len(order) + 1) if sum(entropy[order[:k]]) - max(entropy[order[:k]]) <= threshold]
    return order[: max(fits)]


def rule(name, history, masked, threshold):
    """The positions that a call reveals, given the distributions of all calls so far."""
    probs = history[-1]
    if name == "eb":
        return bounded(entropies(probs), masked, threshold)
    ready = [i for i in masked if probs[i].max() >= threshold]
    if name == "klass":
        moves = [(b * np.log(b / a)).sum(-1) for a, b in itertools.pairwise(history[-3:])]
        ready = [i for i in ready if len(moves) == 2 and max(move[i] for move in moves) <= 0.01]
    return ready or [max(masked, key=lambda i: probs[i].max())]


def reference(name, threshold, budget, x0):
    """-log p(x0) and the number of calls of one sequence."""
    tokens, nats, history = np.full(L, S), 0.0, []
    while masked := np.flatnonzero(tokens == S).tolist():
        history.append(TABLES[name].posterior(tokens))
        chosen = masked if len(history) == budget else rule(name, history, masked, threshold)
        nats -= np.log(history[-1][chosen, x0[chosen]]).sum()
        tokens[chosen] = x0[chosen]
    return nats, len(history)


def drawn(model, sampler, count, condition=None):
    keys = sequence_keys(jax.random.key(0), count)
    return draw_and_count(model, sampler.bound_to(model, L), keys, count, condition)


@pytest.mark.parametrize("budget", [2, pytest.param(3, marks=pytest.mark.slow), 64])
@pytest.mark.parametrize("name", CHOSEN)
def test_the_likelihood_is_the_law_of_the_samples_and_sums_to_one(name, budget):
    model, adaptive = TABLES[name].model, lsd.sampler(name, budget, threshold=CHOSEN[name])
    nats, calls = np.array([reference(name, CHOSEN[name], budget, x0) for x0 in SEQUENCES]).T
    found = lsd.likelihood(model, adaptive, SEQUENCES)
    np.testing.assert_allclose(found, nats, atol=1e-4)
    assert abs(np.exp(-found).sum() - 1) < 1e-5
    tokens, counted = drawn(model, adaptive, 40_000)
    assert total_variation(frequencies(tokens, S), np.exp(-found)) < 0.02
    np.testing.assert_array_equal(counted, calls[tokens @ S ** np.arange(L)[::-1]])
    assert len(set(calls)) > (budget > 3)  # with room, sequences differ in their calls


@pytest.mark.parametrize("name", CHOSEN)
def test_the_likelihood_is_that_of_the_temperature_too(name):
    cool = lsd.sampler(name, 3, temperature=0.7, threshold=CHOSEN[name])
    law = np.exp(-lsd.likelihood(TABLES[name].model, cool, SEQUENCES))
    assert abs(law.sum() - 1) < 1e-5
    assert total_variation(frequencies(drawn(TABLES[name].model, cool, 40_000)[0], S), law) < 0.02


@pytest.mark.parametrize("name", CHOSEN)
def test_the_strictest_threshold_is_one_position_per_call(toy, name):
    strict = lsd.sampler(name, 64, threshold=STRICTEST[name])
    calls = drawn(TABLES[name].model, strict, 64)[1]
    assert (calls == L).all()
    if name == "eb":  # which is then the kernel `entropy` with a step per position
        exact = ordered_nll(TABLES[name].model, KERNELS["entropy"], uniform_schedule(L), jnp.asarray(SEQUENCES))
        np.testing.assert_allclose(lsd.likelihood(TABLES[name].model, strict, SEQUENCES), exact, atol=1e-5)
    model, probs = toy("absorbing")  # and exact, whatever the order
    np.testing.assert_allclose(np.exp(-lsd.likelihood(model, strict, all_sequences(3, 3))), probs, atol=1e-5)


@pytest.mark.parametrize(("name", "threshold"), [("eb", np.inf), ("eb", 100.0), ("confidence_threshold", 0.0)])
def test_the_loosest_threshold_is_one_call(name, threshold):
    model, masks = TABLES[name].model, np.full(L, S)
    loose = lsd.sampler(name, 64, threshold=threshold)
    assert (drawn(model, loose, 64)[1] == 1).all()
    costs = -np.log(TABLES[name].posterior(masks)[np.arange(L), SEQUENCES]).sum(-1)
    np.testing.assert_allclose(lsd.likelihood(model, loose, SEQUENCES), costs, atol=1e-5)


@pytest.mark.parametrize("name", CHOSEN)
def test_calls_count_by_the_sequence_and_never_above_the_budget(name):
    given = np.array([[0, 1, 2, 1]] * 8)
    fixed = np.array([[False] * 4, [True, False, True, False], [True] * 3 + [False], [True] * 4] * 2)
    for budget in (1, 2, 64):
        strict = lsd.sampler(name, budget, threshold=STRICTEST[name])
        tokens, calls = drawn(TABLES[name].model, strict, 8, lsd.Condition(given, fixed))
        assert (tokens[fixed] == given[fixed]).all() and (tokens < S).all()
        assert calls.tolist() == np.minimum((~fixed).sum(1), budget).tolist()


def test_the_published_threshold_is_taken_where_none_is_given():
    for name, kernel in EVENT_SAMPLERS.items():
        if kernel.threshold and name in TABLES:
            published = lsd.sampler(name, 64, threshold=kernel.threshold.published)
            both = [drawn(TABLES[name].model, made, 64)[0] for made in (published, lsd.sampler(name, 64))]
            np.testing.assert_array_equal(*both)


@pytest.mark.parametrize("name", CHOSEN)
def test_a_network_is_told_the_time_of_the_masks_that_are_left(name):
    def masks_left(tokens, t):  # the likeliest token says how many, less one
        left = jnp.round(PROCESS.mask_share(t) * L).astype(jnp.int32)
        return jnp.log(0.8 * jax.nn.one_hot(jnp.full(tokens.shape, left - 1), L) + 0.05)

    model = lsd.Diffusion.from_function(masks_left, lsd.Absorbing(L, lsd.LogLinear()), "posterior")
    tokens, calls = drawn(model, lsd.sampler(name, 64, temperature=0.0, threshold=STRICTEST[name]), 8)
    assert (calls == L).all() and (np.sort(tokens) == np.arange(L)).all()


@pytest.mark.parametrize("name", [*CHOSEN, "eb_uniform"])
def test_all_thresholds_share_one_program(name):
    traces = []

    def network(tokens, t):
        traces.append(name)
        return jax.nn.one_hot(tokens, S)

    process = PROCESS if name in CHOSEN else lsd.Uniform(S, lsd.LogLinear())
    model = lsd.Diffusion.from_function(network, process, "posterior")
    drawn(model, lsd.sampler(name, 4, threshold=0.5), 8)
    first = len(traces)
    for threshold in (0.1, 0.9):
        drawn(model, lsd.sampler(name, 4, threshold=threshold), 8)
    assert len(traces) == first > 0


def two_calls(model, threshold):
    """The law (27,) of `eb_uniform` with a budget of two calls, by enumeration."""
    states, process, law = all_sequences(3, 3), model.process, np.zeros((3, 3, 3))

    @jax.jit
    def posterior(t):
        return jax.nn.softmax(process.log_clean(model.log_score(jnp.asarray(states), t), jnp.asarray(states), t))

    at = {share: np.asarray(posterior(jnp.float32(share / 3)), np.float64) for share in (1, 2, 3)}
    product = lambda probs: np.einsum("i,j,k->ijk", *probs)
    for first in at[3]:
        accepted = bounded(entropies(first), range(3), threshold)
        middle = np.full((3, 3), 1 / 3)
        middle[accepted] = first[accepted]
        if (left := 3 - len(accepted)) == 0:
            law += product(first) / 27
            continue
        for probability, last in zip(product(middle).ravel(), at[left]):
            law += probability * product(last) / 27
    return law.ravel()


@pytest.mark.parametrize("threshold", [0.0, 0.6, 100.0])
def test_the_law_of_the_entropy_bound_under_uniform_noise(toy, threshold):
    world = toy("uniform")
    made = lsd.sampler("eb_uniform", 2, threshold=threshold).bound_to(world.model, 3)
    tokens, calls = draw_and_count(world.model, made, sequence_keys(jax.random.key(1), 40_000), 40_000)
    law = two_calls(world.model, threshold)
    assert abs(law.sum() - 1) < 1e-5 and world.error(tokens, law) < 0.02
    assert (calls == (1 if threshold == 100 else 2)).mean() > 0.9
    assert not made.has_likelihood(world.model.process)


@pytest.mark.parametrize("name", [*CHOSEN, "eb_uniform"])
def test_a_threshold_is_found_for_a_mean(toy, name):
    model, steps = (TABLES[name].model, L) if name in CHOSEN else (toy("uniform").model, 12)
    mean = 3.0 if name == "klass" else 2.5
    fitted = lsd.fit_threshold(model, lsd.sampler(name, steps), mean, length=L if name in CHOSEN else 3, count=1024)
    calls = draw_and_count(model, fitted, sequence_keys(jax.random.key(5), 1024), 1024)[1]
    assert abs(calls.mean() - mean) < 0.25 and calls.max() <= steps


def test_mistakes_are_told(toy):
    with pytest.raises(ValueError, match=r"^threshold=1.5: must be from 0 to 1 for 'klass'"):
        lsd.sampler("klass", 8, threshold=1.5)
    with pytest.raises(ValueError, match=r"^threshold=-1: must be 0 or more for 'eb'"):
        lsd.sampler("eb", 8, threshold=-1)
    with pytest.raises(ValueError, match=r"^threshold='high': must be a number"):
        lsd.sampler("eb", 8, threshold="high")
    for name in ("euler", "margin", "gillespie"):
        with pytest.raises(ValueError, match=f"^threshold=0.5: '{name}' has none"):
            lsd.sampler(name, 8, threshold=0.5)
    model = toy("absorbing").model
    with pytest.raises(ValueError, match=r"^sampler='gillespie': has no threshold; choose one of \['eb'"):
        lsd.fit_threshold(model, lsd.sampler("gillespie", 8), 4, length=3)
    with pytest.raises(ValueError, match=r"^mean_nfe=9: must be from 1 to the sampler's steps, 8"):
        lsd.fit_threshold(model, lsd.sampler("eb", 8), 9, length=3)
    with pytest.raises(ValueError, match="has no likelihood"):
        lsd.likelihood(toy("uniform").model, lsd.sampler("eb_uniform", 8), all_sequences(3, 3))
