import numpy as np
import pytest

from lsd_jax.models.tensors import fit, nested, shapes_of

WANTED = {"layer/kernel": (2, 3), "layer/bias": (3,)}
FOUND = {"layer.weight": np.arange(6, dtype=np.float16).reshape(3, 2), "layer.bias": np.ones(3, np.float32)}


def theirs(name):
    return name.replace("/", ".").replace("kernel", "weight")


def turned(name, array):
    return array.T if name.endswith("kernel") else array


def test_tensors_are_renamed_turned_and_in_float32():
    flat = fit(FOUND, WANTED, theirs, turned)
    assert {name: (value.dtype, value.shape) for name, value in flat.items()} == {
        name: (np.float32, shape) for name, shape in WANTED.items()
    }
    np.testing.assert_array_equal(nested(flat)["layer"]["kernel"], FOUND["layer.weight"].T)
    assert shapes_of(nested(flat)) == WANTED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer.bias": None}, r"^1 tensors do not fit: layer\.bias is missing instead of \(3,\)$"),
        ({"layer.bias": np.ones(2)}, r"layer\.bias is \(2,\) instead of \(3,\)"),
        ({"layer.weight": np.ones((2, 3))}, r"layer\.weight is \(3, 2\) instead of \(2, 3\)"),
        ({"gate": np.ones(1)}, "^1 tensors do not fit: gate is unknown$"),
        (
            {f"gate{i}": np.ones(1) for i in range(6)},
            r"^6 tensors do not fit: (gate\d is unknown; ){3}gate3 is unknown \.\.\.$",
        ),
        ({"layer.bias": np.array([1, np.inf, 0])}, "^1 tensors hold values that are not finite, layer/bias first$"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    found = {name: value for name, value in (FOUND | changes).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        fit(found, WANTED, theirs, turned)


def test_what_nothing_reads_may_be_there():
    assert fit(FOUND | {"rotary.inv_freq": np.ones(4)}, WANTED, theirs, turned, r"rotary\.\w+").keys() == WANTED.keys()
