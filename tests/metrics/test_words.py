"""Words counted by hand."""

import numpy as np
import pytest

from lsd_jax.metrics.words import real_words, vocabulary, whole_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ress of the unit", ["of", "the"]),
        (" of the ", ["of", "the"]),
        (" of", []),
        ("of ", []),
        ("whole", []),
        ("", []),
        ("   ", []),
        ("a  b   c", ["b"]),
    ],
)
def test_a_word_has_a_space_on_both_sides(text, words):
    assert whole_words(text) == words


def test_the_share_of_words_that_the_training_text_has():
    known = vocabulary(["we the people of", "the people of the states"])
    assert known == {"the", "people", "of"}
    texts = ["ates of the peeple of th", " the the the ", "xthe", "", "a zzz b"]
    found = real_words(texts, known)
    np.testing.assert_allclose(found, [3 / 4, 1, 0, 0, 0])
    assert found.dtype == np.float64 and real_words([], known).shape == (0,)


def test_a_mask_makes_a_word_unknown():
    assert real_words(["a o_ the b"], {"of", "the"}) == 0.5
