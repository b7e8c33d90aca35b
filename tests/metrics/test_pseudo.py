"""Pseudo-perplexity: every token is predicted once, from the tokens that are not masked with it."""

import jax
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.metrics.gen_ppl import perplexity
from lsd_jax.metrics.pseudo import PASSES, MaskedScorer, load_masked_scorer


def test_it_is_the_sum_over_passes_by_hand():
    scorer = load_masked_scorer("antiberty:tiny_antiberty", 8, 13)
    rows = np.random.default_rng(0).integers(0, 20, (5, 13)).astype(np.int32)
    found = scorer(rows)
    assert found.shape == (5, 2) and (found[:, 1] == 13).all()
    model, wanted = scorer.model, np.zeros(5)
    for index in range(PASSES):
        masked = np.where(np.arange(13) % PASSES == index, model.process.mask, rows)
        log_prob = np.asarray(jax.nn.log_softmax(model.apply.module.apply(model.params, masked)))
        for place in range(index, 13, PASSES):
            wanted -= log_prob[np.arange(5), place, rows[:, place]]
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5)


def test_pads_are_neither_masked_nor_counted():
    rows = np.random.default_rng(0).integers(0, 20, (3, 7)).astype(np.int32)
    padded = np.concatenate([rows, np.full((3, 4), 20, np.int32)], 1)
    found = load_masked_scorer("antiberty:tiny_antiberty", 8, 11, padded=True)(padded)
    np.testing.assert_allclose(found, load_masked_scorer("antiberty:tiny_antiberty", 8, 7)(rows), rtol=1e-5)
    assert (found[:, 1] == 7).all()


def test_a_network_that_knows_nothing_has_the_vocabulary_as_perplexity():
    model = lsd.Diffusion.from_function(
        lambda x, t: jax.numpy.zeros((*x.shape, 20)), lsd.Absorbing(20, lsd.LogLinear())
    )
    rows = np.random.default_rng(0).integers(0, 20, (8, 9)).astype(np.int32)
    assert perplexity(MaskedScorer(model, 8, {})(rows)) == pytest.approx(20, rel=1e-5)


def test_only_masked_language_models_judge():
    for source in ("mdlm:tiny_mdlm", "gpt2", "antiberty:nowhere/"):
        with pytest.raises((lsd.InputError, FileNotFoundError), match="scorer=") as error:
            load_masked_scorer(source, 8, 9)
        assert "\n" not in str(error.value)


def test_sequences_that_are_too_long_are_told_before_any_work():
    with pytest.raises(lsd.InputError, match=r"^scorer='antiberty:tiny_antiberty': length=127: .* at most 126 tokens"):
        load_masked_scorer("antiberty:tiny_antiberty", 8, 127)
