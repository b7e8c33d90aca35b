import numpy as np
import pytest

from lsd_jax.tasks import chain_laws, corpus


def test_countdown_without_mixing():
    initial, transition = chain_laws.countdown(4, 0.0)
    np.testing.assert_allclose(initial, [0, 1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(transition, [[0, 1 / 3, 1 / 3, 1 / 3], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])


def test_mixing_adds_the_uniform_distribution():
    initial, transition = chain_laws.countdown(4, 0.2)
    np.testing.assert_allclose([initial.sum(), *transition.sum(1)], 1)
    np.testing.assert_allclose([transition[2, 1], transition[2, 3], initial[0]], [0.8 + 0.05, 0.05, 0.05])


def test_samples_follow_the_chain():
    chain = chain_laws.countdown(5, 0.1)
    tokens = chain_laws.sample_chain(np.random.default_rng(0), *chain, 20_000, 6)
    first = np.bincount(tokens[:, 0], minlength=5) / len(tokens)
    np.testing.assert_allclose(first, chain[0], atol=0.015)
    counts = np.zeros((5, 5))
    np.add.at(counts, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1)
    np.testing.assert_allclose(counts / counts.sum(1, keepdims=True), chain[1], atol=0.02)


def test_samples_without_mixing_always_count_down():
    chain = chain_laws.countdown(8, 0.0)
    tokens = chain_laws.sample_chain(np.random.default_rng(0), *chain, 200, 30).astype(int)
    before, after = tokens[:, :-1], tokens[:, 1:]
    assert np.all(np.where(before > 0, after == before - 1, after > 0))


def test_bigram_is_the_training_text_s_and_no_other_s():
    initial, transition = chain_laws.bigram(0.01)
    train = corpus.split_chunks(corpus.read_corpus())["train"]
    after_q = train[:, 1:][train[:, :-1] == 17]  # u is 21
    share = np.mean(after_q == 21)
    assert share > 0.9
    assert transition[17, 21] == pytest.approx(0.99 * share + 0.01 / 27)
    assert transition.min() >= 0.01 / 27 * (1 - 1e-12)
    np.testing.assert_allclose(transition.sum(1), 1)
    np.testing.assert_allclose(initial @ transition, initial, atol=1e-12)
    letters = np.bincount(train.ravel(), minlength=27) / train.size
    assert np.abs(initial - letters).sum() / 2 < 0.01  # the mixing moves it by a little


def test_stationary_distribution_of_two_states():
    np.testing.assert_allclose(chain_laws.stationary(np.array([[0.5, 0.5], [0.25, 0.75]])), [1 / 3, 2 / 3])


def test_toy_is_positive_with_structure_and_its_chain_gives_it_back():
    joint = chain_laws.toy_joint(15, 0.003)
    assert joint.shape == (15, 15) and joint.min() > 0 and joint.sum() == pytest.approx(1)
    np.testing.assert_array_equal(joint, chain_laws.toy_joint(15, 0.003))
    initial, transition = chain_laws.toy(15, 0.003)
    np.testing.assert_allclose(initial[:, None] * transition, joint)
    independent = joint.sum(1)[:, None] * joint.sum(0)[None]
    assert np.abs(joint - independent).sum() / 2 > 0.4  # what a sampler in one step loses
    tokens = chain_laws.sample_chain(np.random.default_rng(0), initial, transition, 100_000, 2)
    drawn = np.bincount(tokens[:, 0].astype(int) * 15 + tokens[:, 1], minlength=225) / len(tokens)
    error = np.sqrt(joint.ravel() / len(tokens))
    assert (np.abs(drawn - joint.ravel()) < 4.5 * error).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: chain_laws.countdown(4, 1.5), r"^mix=1\.5: a share"),
        (lambda: chain_laws.countdown(4, -0.1), r"^mix=-0\.1: a share"),
        (lambda: chain_laws.countdown(1, 0.0), "^vocab_size=1: countdown needs"),
        (lambda: chain_laws.toy(1, 0.0), "^vocab_size=1: toy needs"),
        (lambda: chain_laws.bigram(0.0), "^mix=0: bigram needs"),
        (lambda: chain_laws.bigram(1.5), r"^mix=1\.5: a share"),
    ],
)
def test_errors_name_the_setting(call, message):
    with pytest.raises(ValueError, match=message):
        call()
