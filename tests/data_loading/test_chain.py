import numpy as np
import pytest
from ml_collections import ConfigDict

from lsd_jax.data import bigram, chain, loader, text, toy

DATA = ConfigDict(
    {"name": "bigram", "vocab_size": 27, "sequence_length": 16, "mix": 0.01, "path": "", "normalize": False}
)


def test_bigram_is_the_training_text_s_and_no_other_s():
    initial, transition = bigram.transition_matrix(0.01)
    train = text.split_chunks(text.read_corpus())["train"]
    after_q = train[:, 1:][train[:, :-1] == 17]  # u is 21
    share = np.mean(after_q == 21)
    assert share > 0.9
    assert transition[17, 21] == pytest.approx(0.99 * share + 0.01 / 27)
    assert transition.min() >= 0.01 / 27 * (1 - 1e-12)
    np.testing.assert_allclose(transition.sum(1), 1)
    np.testing.assert_allclose(initial @ transition, initial, atol=1e-12)
    letters = np.bincount(train.ravel(), minlength=27) / train.size
    assert np.abs(initial - letters).sum() / 2 < 0.01  # the mixing moves it by a little
    with pytest.raises(ValueError, match=r"config\.data\.mix=0"):
        bigram.transition_matrix(0.0)


def test_stationary_law_of_two_states():
    np.testing.assert_allclose(bigram.stationary_law(np.array([[0.5, 0.5], [0.25, 0.75]])), [1 / 3, 2 / 3])


def test_toy_is_a_positive_law_with_structure_and_its_chain_gives_it_back():
    joint = toy.law(15, 0.003)
    assert joint.shape == (15, 15) and joint.min() > 0 and joint.sum() == pytest.approx(1)
    np.testing.assert_array_equal(joint, toy.law(15, 0.003))
    initial, transition = toy.transition_matrix(15, 0.003)
    np.testing.assert_allclose(initial[:, None] * transition, joint)
    independent = joint.sum(1)[:, None] * joint.sum(0)[None]
    assert np.abs(joint - independent).sum() / 2 > 0.4  # what a sampler in one step loses
    tokens = chain.sample_chain(np.random.default_rng(0), initial, transition, 100_000, 2)
    drawn = np.bincount(tokens[:, 0].astype(int) * 15 + tokens[:, 1], minlength=225) / len(tokens)
    error = np.sqrt(joint.ravel() / len(tokens))
    assert (np.abs(drawn - joint.ravel()) < 4.5 * error).all()


def test_chain_of_names_a_field_that_does_not_fit():
    for changes, message in (
        ({"name": "toy", "vocab_size": 15}, r"config\.data\.sequence_length=16: toy has 2"),
        ({"name": "text"}, "no exactly known law"),
        ({"mix": 1.5}, r"config\.data\.mix=1\.5"),
        ({"name": "countdown", "mix": -0.1}, r"config\.data\.mix=-0\.1"),
    ):
        with pytest.raises(ValueError, match=message):
            chain.chain_of(ConfigDict({**DATA, **changes}))


@pytest.mark.parametrize("changes", [{}, {"name": "toy", "vocab_size": 15, "sequence_length": 2}])
def test_prepared_sequences_are_draws_of_the_chain(monkeypatch, tmp_path, changes):
    monkeypatch.setenv("LSD_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(chain, "SPLITS", {"train": (0, 40), "validation": (1, 20), "test": (2, 20)})
    data = ConfigDict({**DATA, **changes})
    rows = loader.load_split(data, "test")
    wanted = chain.sample_chain(np.random.default_rng([0, 2]), *chain.chain_of(data), 20, data.sequence_length)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, wanted.tolist()))
    other = ConfigDict({**data, "mix": 0.05})
    assert loader.make_builder(data).builder_config.name != loader.make_builder(other).builder_config.name
