import numpy as np
import pytest

from lsd_jax.metrics import repetition


def test_rates_by_hand():
    tokens = np.array([[0, 1, 0, 1, 0], [0, 1, 2, 3, 4], [2, 2, 2, 2, 2]], np.uint8)
    # Bigrams of the first: 01 10 01 10, two of four occurred before; of the last three of four.
    assert repetition.repetition_rate(tokens, 2, 5).tolist() == [2 / 4, 0, 3 / 4]
    assert repetition.longest_run(tokens).tolist() == [1 / 5, 1 / 5, 1]
    assert repetition.longest_run(np.array([[1, 1, 0, 0, 0, 1]])).tolist() == [3 / 6]
    with pytest.raises(ValueError, match="at least 6"):
        repetition.repetition_rate(tokens, 6, 5)


def test_periodic_text_repeats_all_but_its_first_period():
    tokens = np.tile(np.arange(12), 10)[None]
    assert repetition.repetition_rate(tokens, 8, 27)[0] == pytest.approx(1 - 12 / 113)
