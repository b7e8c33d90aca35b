"""AntiBERTy and Sapiens: their own numbers on real antibodies, one network under both names, and clear errors.

The numbers in tests/golden/antiberty.npz are logits of AntiBERTy's own PyTorch class on three antibodies, whole and with 15, 50 and 100 %
masks. What needs a published network's wheel says how to get it; CI installs both.
"""

import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.models.bert import Bert
from lsd_jax.models.pretrained import bert, sources
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.models.weights import SHIPPED
from lsd_jax.tasks.proteins import LETTERS

GOLDEN = pathlib.Path(__file__).parents[2] / "golden" / "antiberty.npz"
TINY = SHIPPED / "weights" / "tiny_antiberty" / "model.safetensors"


def needs(wheel):
    missing = importlib.util.find_spec(wheel) is None
    return pytest.mark.skipif(missing, reason=f"not installed: {sources.WHEELS[wheel][2]}")


def logits(model, tokens):
    return np.asarray(jax.jit(model.apply.module.apply)(model.params, jnp.asarray(tokens)))


@needs("antiberty")
def test_antiberty_gives_its_own_logits_on_real_antibodies():
    golden, model = np.load(GOLDEN), lsd.load_model("antiberty")
    names = json.loads(str(golden["meta"]))["sequences"]
    assert len(names) == 3
    for index in range(3):
        found = logits(model, golden[f"in/{index}"].astype(np.int32))
        np.testing.assert_allclose(found, golden[f"out/{index}"], atol=2e-4)


@needs("antiberty")
def test_a_masked_residue_of_trastuzumab_is_predicted_from_the_others():
    model = lsd.load_model("antiberty")
    heavy = np.load(GOLDEN)["in/0"][0].astype(np.int32)
    cysteine = "".join(LETTERS[token] for token in heavy).index("YYCSR") + 2  # conserved in every antibody
    masked = heavy.copy()
    masked[cysteine] = model.process.mask
    posterior = jax.nn.softmax(logits(model, masked[None])[0, cysteine])
    assert LETTERS[int(posterior.argmax())] == "C" and posterior.max() > 0.9


@needs("sapiens")
def test_sapiens_prefers_the_antibody_to_its_shuffled_letters():
    model = lsd.load_model("sapiens")
    heavy = np.load(GOLDEN)["in/1"][0].astype(np.int32)
    rows = np.stack([heavy, np.random.default_rng(0).permutation(heavy)])
    log_prob = jax.nn.log_softmax(logits(model, rows))
    own = np.take_along_axis(np.asarray(log_prob), rows[..., None], -1)[..., 0].mean(-1)
    assert own[0] > own[1] + 0.5 and np.exp(own[0]) > 0.7


def as_sapiens(tensors):
    """The same network under Sapiens' names and rows."""
    theirs, ours = bert.LAYOUTS["antiberty"], bert.LAYOUTS["sapiens"]
    table = tensors[theirs.embedding]
    rows = {0: 2, 1: 0, 2: 3, 3: 1, 24: 4} | {4 + letter: 5 + letter for letter in range(20)}
    order = [rows[row] for row in range(25)]
    head = "cls.predictions.decoder"
    position = tensors[theirs.position] + tensors["bert.embeddings.token_type_embeddings.weight"][:1]
    found = {
        ours.embedding: table[order],
        ours.position: np.concatenate([np.zeros_like(position[:2]), position]),
        "decoder.lm_head.weight": tensors[f"{head}.weight"][order],
        "decoder.lm_head.bias": tensors[f"{head}.bias"][order],
    }
    own = {name: module for module, name in ours.modules.items()}
    for module, name in theirs.modules.items():
        for block in range(2 if "{}" in name else 1):
            for kind in ("weight", "bias"):
                found[f"{own[name].format(block)}.{kind}"] = tensors[f"{module.format(block)}.{kind}"]
    return found


def test_one_network_under_both_names():
    tensors = read_tensors(TINY)
    sizes, params = bert.to_ours("antiberty", tensors, {})
    others, theirs = bert.to_ours("sapiens", as_sapiens(tensors), {"layer_norm_eps": sizes.epsilon})
    assert sizes == others and (sizes.depth, sizes.dim, sizes.vocab_size) == (2, 16, 20)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3), params, theirs
    )  # positions were added in halves


def test_a_head_that_is_not_stored_is_the_table_of_tokens():
    tensors = read_tensors(TINY)
    head = "cls.predictions.decoder.weight"
    tied = bert.to_ours("antiberty", {name: value for name, value in tensors.items() if name != head}, {})[1]
    wanted = bert.to_ours("antiberty", tensors | {head: tensors["bert.embeddings.word_embeddings.weight"]}, {})[1]
    jax.tree.map(np.testing.assert_array_equal, tied, wanted)


def test_soft_tokens_that_are_certain_are_embedded_as_tokens():
    sizes, params = bert.to_ours("antiberty", read_tensors(TINY), {})
    tokens = np.random.default_rng(0).integers(0, 21, (2, 9)).astype(np.int32)
    hard, soft = Bert(sizes).apply(params, tokens), Bert(sizes).apply(params, jax.nn.one_hot(tokens, 21))
    np.testing.assert_allclose(hard, soft, atol=1e-5)


SHARES = (0, 0, 0, 0, 0.1, 0.2, 0, 0.3, 0, 0.4)  # of lengths 0 to 9


def with_pads():
    return lsd.load_model("antiberty", "tiny_antiberty", lsd.Absorbing(21, lsd.LogLinear(), SHARES))


def test_a_padded_chain_is_read_as_the_chain_alone():
    plain, padded = lsd.load_model("antiberty", "tiny_antiberty"), with_pads()
    tokens = np.random.default_rng(0).integers(0, 20, (3, 9)).astype(np.int32)
    tokens[:, 1] = plain.process.mask
    lengths = (4, 7, 9)
    rows = np.full((3, 9), 20, np.int32)
    for row, own, length in zip(rows, tokens, lengths):
        row[:length] = np.where(own == plain.process.mask, padded.process.mask, own)[:length]
    found = logits(padded, rows)
    for row, own, length in zip(found, tokens, lengths):
        np.testing.assert_allclose(row[:length, :20], logits(plain, own[None, :length])[0], atol=1e-5)
    soft = padded.apply.module.apply(padded.params, jax.nn.one_hot(rows, 22))
    np.testing.assert_allclose(soft[:, :4], found[:, :4], atol=1e-5)
    draw = jax.nn.softmax(padded.log_score(jnp.asarray(rows), jnp.float32(0.5)))
    assert draw[0, 1, 20] == 0 and draw[0, 1, :20].sum() == pytest.approx(1, abs=1e-5)


def test_the_likelihood_of_a_padded_chain_is_the_chain_s_and_its_length_s():
    plain, padded = lsd.load_model("antiberty", "tiny_antiberty"), with_pads()
    chain = np.random.default_rng(1).integers(0, 20, (2, 7))
    rows = np.concatenate([chain, np.full((2, 2), 20)], 1)
    by = lsd.sampler("margin", steps=3)  # whose likelihood is exact
    np.testing.assert_allclose(
        lsd.likelihood(padded, by, rows), lsd.likelihood(plain, by, chain) - np.log(0.3), rtol=1e-4
    )


def test_samples_have_lengths_of_their_own_and_no_pad_inside():
    rows = lsd.sample(with_pads(), lsd.sampler("euler", steps=3), jax.random.key(0), count=400)
    assert rows.shape == (400, 9) and (np.diff((rows == 20).astype(int)) >= 0).all()
    shares = np.bincount((rows < 20).sum(1), minlength=10) / 400
    np.testing.assert_allclose(shares, SHARES, atol=0.08)


def test_a_pad_and_lengths_come_together():
    for process in (lsd.Absorbing(21, lsd.LogLinear()), lsd.Absorbing(20, lsd.LogLinear(), (0.0, 1.0))):
        with pytest.raises(lsd.InputError, match="with a pad it is 21, and the process needs the shares of lengths"):
            lsd.load_model("antiberty", "tiny_antiberty", process)


def test_what_does_not_fit_is_told_in_one_line(monkeypatch):
    tensors = read_tensors(TINY)
    with pytest.raises(lsd.InputError, match="vocab_size=27"):
        lsd.load_model("antiberty", "tiny_antiberty", lsd.Absorbing(27, lsd.LogLinear()))
    with pytest.raises(lsd.InputError, match="process='uniform'"):
        lsd.load_model("antiberty", "tiny_antiberty", lsd.Uniform(20, lsd.LogLinear()))
    short = {name: value for name, value in tensors.items() if "layer.1.output.dense.weight" not in name}
    with pytest.raises(lsd.InputError, match=r"layer\.1\.output\.dense\.weight is missing"):
        bert.to_ours("antiberty", short, {})
    with pytest.raises(lsd.InputError, match="30 rows of tokens instead of 25"):
        bert.to_ours("antiberty", tensors | {bert.LAYOUTS["antiberty"].embedding: np.zeros((30, 16))}, {})
    model = lsd.load_model("antiberty", "tiny_antiberty")
    with pytest.raises(lsd.InputError, match="length=127: the network reads at most 126"):
        logits(model, np.zeros((1, 127), np.int32))
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install --no-deps antiberty==0.1.3"):
        lsd.load_model("antiberty")
