"""CDR3 in antibodies whose loop is known, and what samples of other loops, or of none, get."""

import numpy as np
import pytest

from lsd_jax.metrics import cdr3

# Published variable regions and their loops without Cys 104 and Trp or Phe 118, in IMGT's numbers.
CHAINS = {
    "trastuzumab, heavy": (
        "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDYWGQGTLVTVSS",
        "SRWGGDGFYAMDY",
    ),
    "trastuzumab, light": (
        "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFGQGTKVEIK",
        "QQHYTTPPT",
    ),
    "a loop with Y-x-C and W-G-x-G inside": (
        "QVQLVQSGAEVKKPGASVKVSCKASEDTAVYYCARDYCWGSGSYYCGYDIWGQGTMVTVSS",
        "ARDYCWGSGSYYCGYDI",
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_loop_of_known_antibodies(name):
    chain, loop = CHAINS[name]
    assert cdr3.loop_lengths([chain]).tolist() == [len(loop)] and f"C{loop}" in chain


def test_no_loop_is_found_where_there_is_none():
    heavy = CHAINS["trastuzumab, heavy"][0]
    none = [
        "",
        "ACDEFGHIKLMNPQRSTVWY",
        heavy.replace("YYC", "YYS"),
        heavy.replace("WGQG", "AGQG"),
        "YYCWGQG",
        "YYC" + 41 * "A" + "WGQG",
    ]
    assert cdr3.loop_lengths(none).tolist() == [0] * len(none)
    assert cdr3.loop_lengths(["YYC" + 40 * "A" + "WGQG"]) == 40


def test_lengths_are_compared_over_chains_that_have_the_loop():
    real = np.array([10, 12, 14, 0])
    found = cdr3.measure(np.array([11, 13, 0, 0]), real, seed=0, resamples=0)
    assert found == {"cdr3": (0.5, 0.5, 0.5), "cdr3_length_w1": pytest.approx((1.0, 1.0, 1.0))}
    assert cdr3.measure(real, real, 0, 0)["cdr3_length_w1"] == (0.0, 0.0, 0.0)
    longer = [cdr3.measure(real[:3] + more, real, 0, 0)["cdr3_length_w1"][0] for more in (1, 4)]
    assert longer == pytest.approx([1, 4])


def test_nothing_is_said_of_what_is_no_antibody():
    assert cdr3.measure(np.array([11, 13]), np.array([12, 0, 0]), 0, 10) == {}
    assert set(cdr3.measure(np.zeros(3, int), np.array([12, 12]), 0, 10)) == {"cdr3"}


def test_an_interval_shrinks_with_the_sample():
    rng = np.random.default_rng(0)
    real, found = rng.integers(8, 20, 1000), rng.integers(6, 24, 1000)
    widths = [np.diff(cdr3.measure(found[:count], real, 0, 100)["cdr3_length_w1"][1:])[0] for count in (20, 1000)]
    assert 0 < widths[1] < widths[0] / 3
