"""GPT-2's perplexity by named protocols, against the numbers of the reference implementations."""

import pathlib

import numpy as np
import pytest

from lsd_jax.metrics import gen_ppl
from lsd_jax.metrics.bootstrap import bootstrap_interval
from lsd_jax.metrics.scorer import gpt2_nats
from lsd_jax.models import pretrained
from lsd_jax.models.gpt2 import GPT2
from lsd_jax.models.pretrained.tokenizer import load_tokenizer

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "gpt2.npz")
TOKENS, END = GOLDEN["in/input_ids"], 96


def scored(protocol, batch_size=8):
    sizes, params, _ = pretrained.load("gpt2", "tiny_gpt2", "scorer")
    weight = gen_ppl.protocol_weight(protocol, TOKENS, END)
    return gpt2_nats(GPT2(sizes), params, TOKENS, weight, batch_size)


def test_nats_per_sequence():
    nats = scored("jys")
    np.testing.assert_allclose(nats[:, 0], GOLDEN["out/nll_per_token"].sum(-1), rtol=1e-5)
    np.testing.assert_array_equal(nats[:, 1], 19)
    np.testing.assert_allclose(nats[:, 0].sum() / nats[:, 1].sum(), GOLDEN["out/hf_loss"], rtol=1e-5)
    # SEDD's convention, which is not offered: the mean of the samples' own perplexities.
    np.testing.assert_allclose(np.exp(nats[:, 0] / 19).mean(), GOLDEN["out/ppl_sedd_mean_of_per_sample_exp"], rtol=1e-4)


@pytest.mark.parametrize(
    ("protocol", "name"),
    [("jys", "exp_of_mean"), ("jys", "mean_over_batches_of_2_then_exp"), ("mdlm", "mdlm_first_eos_mask")],
)
def test_protocols(protocol, name):
    np.testing.assert_allclose(gen_ppl.perplexity(scored(protocol)), GOLDEN[f"out/ppl_{name}"], rtol=1e-5)


@pytest.mark.parametrize("protocol", gen_ppl.PROTOCOLS)
def test_the_batch_size_changes_nothing(protocol):
    np.testing.assert_allclose(scored(protocol, 8), scored(protocol, 32), rtol=1e-6)


def test_mdlm_counts_the_first_end_and_what_follows_it_but_no_filling():
    tokens = np.array([[1, END, 2, END, 3, END], [END, END, END, END, END, END]])
    weight = gen_ppl.protocol_weight("mdlm", tokens, END)
    np.testing.assert_array_equal(weight, [[1, 1, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"^protocol='sedd'"):
        gen_ppl.protocol_weight("sedd", tokens, END)


def test_samples_go_through_text_to_the_scorer_s_tokens():
    theirs = load_tokenizer("tiny_tokenizer.json", 11, "field")  # space, aeinorst, newline, end of text
    own = load_tokenizer("tiny_gpt2", 97, "field")
    tokens = np.array([theirs.encode("no tears").ids, theirs.encode("art\n").ids + [10, 10, 1, 2]])
    found = gen_ppl.retokenized(tokens, theirs, own, END)
    assert found.shape == tokens.shape
    assert own.decode(found[0].tolist()) == "no tears"
    assert own.decode(found[1].tolist(), skip_special_tokens=False) == "art\n<|endoftext|><|endoftext|>ae"


def test_the_interval_is_the_bootstrap_of_the_perplexity():
    scored = np.random.default_rng(0).uniform([40, 15], [60, 19], (30, 2))
    wanted = bootstrap_interval(gen_ppl.perplexity, scored, seed=4, resamples=50)
    assert gen_ppl.perplexity_interval(scored, seed=4, resamples=50) == pytest.approx(wanted)
    assert gen_ppl.perplexity_interval(scored, resamples=0) == (gen_ppl.perplexity(scored),) * 3


def test_the_heading_names_the_scorer():
    assert gen_ppl.gen_ppl_column().heading == "gen-PPL (our scorer)"
    assert gen_ppl.gen_ppl_column("gpt2-large", "mdlm").heading == "gen-PPL (gpt2-large, mdlm)"
