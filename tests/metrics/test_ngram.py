import numpy as np
import pytest

from lsd_jax.metrics import ngram


def test_ids_read_as_numbers_in_base_vocab_size_and_never_span_two_sequences():
    tokens = np.array([[1, 0, 2], [2, 2, 2]], np.uint8)  # the loader's type: must not overflow at 255
    law = ngram.ngram_distribution(tokens, 2, 200)
    assert law.ids.tolist() == [2, 200, 402]  # (0, 2), (1, 0), (2, 2) twice; (2, 2) across the rows is not a third
    assert law.probs.tolist() == pytest.approx([1 / 4, 1 / 4, 2 / 4])


def test_divergences_of_two_coins_in_closed_form():
    fair = ngram.ngram_distribution(np.array([[0, 1, 0, 1]]), 1, 2)
    biased = ngram.ngram_distribution(np.array([[0, 0, 0, 1]]), 1, 2)
    entropy = lambda p: -p * np.log2(p) - (1 - p) * np.log2(1 - p)
    # JS = H(middle) - mean of the entropies; the middle of 1/2 and 1/4 is 3/8.
    expected = entropy(3 / 8) - (entropy(1 / 2) + entropy(1 / 4)) / 2
    assert ngram.total_variation(fair, biased) == pytest.approx(1 / 4)
    assert ngram.jensen_shannon(fair, biased) == pytest.approx(expected)


@pytest.mark.parametrize("divergence", [ngram.total_variation, ngram.jensen_shannon])
def test_divergences_are_symmetric_and_count_what_either_lacks(divergence):
    # Supports {0, 1} and {1, 2}, half and half: they share mass 1/2, so both divergences are 1/2.
    a, b = (ngram.ngram_distribution(np.array([pair]), 1, 3) for pair in ([0, 1], [1, 2]))
    assert divergence(a, b) == pytest.approx(1 / 2)
    assert divergence(b, a) == pytest.approx(1 / 2)


def test_orders_that_do_not_fit_an_integer_are_refused():
    assert ngram.ngram_distribution(np.full((1, 4), 50256), 4, 50257).ids.tolist() == [50257**4 - 1]
    with pytest.raises(ValueError, match="do not fit"):
        ngram.ngram_distribution(np.zeros((1, 5), int), 5, 50257)
