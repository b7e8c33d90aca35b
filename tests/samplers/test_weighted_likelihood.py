"""The importance-weighted likelihood against the sampler's exact distribution, found by enumeration."""

import itertools

import jax
import numpy as np
import pytest

from lsd_jax.models.oracle import all_sequences
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.likelihood import PathCosts, all_orders, likelihood, path_costs
from lsd_jax.samplers.sampler import sampler
from tests.samplers.enumeration import draw, exact_law, frequencies, oracle

S, L = 3, 3
PROBS = np.random.default_rng(0).dirichlet(np.full(S**L, 0.3))
MODELS = {
    name: oracle(name, PROBS if name != "gaussian" else PROBS[: 5**2] / PROBS[: 5**2].sum(), *size)
    for name, size in {"absorbing": (S, L), "uniform": (S, L), "gaussian": (5, 2)}.items()
}
KEY = jax.random.key(3)


@pytest.mark.parametrize(
    ("process", "kernel"),
    [
        *(("absorbing", "euler"), ("uniform", "tweedie"), ("gaussian", "ancestral")),
        pytest.param("uniform", "euler", marks=pytest.mark.slow),
    ],
)
def test_the_weights_are_unbiased_in_p(process, kernel):
    """The mean of exp(-nats) over paths is the sampler's own probability of the sequence."""
    model = MODELS[process]
    vocab, length = (S, L) if process != "gaussian" else (5, 2)
    own = sampler(kernel, 3).bound_to(model, length)
    law = exact_law(model, own.kernel, own.schedule, length)
    sequences = all_sequences(vocab, length)[law > 0.02]
    costs = path_costs(model, own, KEY, sequences, 1024, 8192)
    p_NK = np.exp(-costs.nats_NK)
    error = p_NK.std(1) / np.sqrt(1024)
    assert not costs.exact and len(sequences) > 5
    np.testing.assert_array_less(np.abs(p_NK.mean(1) - law[law > 0.02]), 5 * error + 1e-4)


def test_it_falls_with_the_number_of_paths_from_the_elbo_to_the_likelihood():
    model, own = MODELS["absorbing"], sampler("euler", 3)
    law = exact_law(model, own.kernel, own.schedule, L)
    common = law > 0.01
    costs = path_costs(model, own.bound_to(model, L), KEY, all_sequences(S, L)[common], 1024, 4096)
    exact, weights = -np.log(law[common]), law[common] / law[common].sum()
    found = {count: weights @ costs.weighted(count) for count in (1, 4, 16, 1024)}
    assert found[1] == pytest.approx(weights @ costs.elbo) and found[1] > found[4] > found[16] > found[1024]
    assert found[1024] == pytest.approx(weights @ exact, abs=0.01) and found[1] > weights @ exact + 0.1


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_orders_of_a_table_are_enumerated(temperature):
    """Two steps of a pattern of two ranks have two orders: the weighted mean is -log p(x) itself."""
    model = MODELS["absorbing"]
    own = sampler("tweedie", 2, temperature=temperature, coupling=Coupling("low_discrepancy", "pattern", (1, 0)))
    bound = own.bound_to(model, L)
    costs = path_costs(model, bound, KEY, all_sequences(S, L), 4, 64)
    assert costs.exact and costs.nats_NK.shape == (S**L, 2)
    law = np.exp(-costs.weighted())
    assert law.sum() == pytest.approx(1, abs=1e-4)
    seen = frequencies(draw(KEY, model, bound, 50_000).tokens, S)
    assert np.abs(law - seen).max() < 0.01
    np.testing.assert_allclose(likelihood(model, own, all_sequences(S, L), paths=4), costs.weighted(), rtol=1e-5)


def test_orders_of_a_mixture_are_enumerated():
    """Both patterns' cyclic shifts are equally likely: here every order of three positions."""
    model = MODELS["absorbing"]
    own = sampler("tweedie", 3, coupling=Coupling("low_discrepancy", "pattern", ((0, 1, 2), (0, 2, 1))))
    bound = own.bound_to(model, L)
    orders = np.argsort(-all_orders(model, bound, 6), -1)
    assert sorted(map(tuple, orders)) == list(itertools.permutations(range(3))) and all_orders(model, bound, 5) is None
    costs = path_costs(model, bound, KEY, all_sequences(S, L), 4, 64)
    assert costs.exact and costs.nats_NK.shape == (S**L, 6)
    seen = frequencies(draw(KEY, model, bound, 50_000).tokens, S)
    assert np.abs(np.exp(-costs.weighted()) - seen).max() < 0.01


def test_orders_that_a_step_splits_are_not_enumerated():
    model = MODELS["absorbing"]
    for steps, generator in ((3, "pattern"), (2, "golden")):
        coupling = Coupling("low_discrepancy", generator, (1, 0) if generator == "pattern" else ())
        assert all_orders(model, sampler("tweedie", steps, coupling=coupling).bound_to(model, L), 64) is None
    iid = sampler("tweedie", 2).bound_to(model, L)
    assert all_orders(model, iid, 64) is None and not path_costs(model, iid, KEY, all_sequences(S, L)[:8], 2, 8).exact


def test_an_order_of_the_state_is_exact_with_one_path():
    model = MODELS["absorbing"]
    margin = sampler("margin", 2).bound_to(model, L)
    costs = path_costs(model, margin, KEY, all_sequences(S, L)[:8], 16, 8)
    assert costs.exact and costs.nats_NK.shape == (8, 1)


def test_effective_paths():
    even, one = np.full((2, 8), 3.0), np.array([[0.0] + [50.0] * 7])
    np.testing.assert_allclose(PathCosts(even, False).effective_paths, 8)
    np.testing.assert_allclose(PathCosts(one, False).effective_paths, 1)
    np.testing.assert_allclose(PathCosts(one, False).weighted(), np.log(8))
    huge = PathCosts(np.full((1, 4), 5000.0), False)  # no underflow
    np.testing.assert_allclose(huge.weighted(), 5000.0)


def test_a_number_of_paths_that_is_none_is_told():
    with pytest.raises(ValueError, match="^paths=0: must be a whole number, 1 or more"):
        likelihood(MODELS["absorbing"], sampler("euler", 2), all_sequences(S, L)[:2], paths=0)
