"""Orders by token class, on distributions whose class is known."""

import jax.numpy as jnp
import numpy as np

from lsd_jax.tasks.smiles import VOCABULARIES
from measurements.structure import orders


def test_parentheses_digits_and_bonds_are_structure():
    vocabulary = VOCABULARIES["qm9"]
    found = {name: np.asarray(measure(jnp.log(jnp.eye(31)[None]))) for name, measure in orders(vocabulary).items()}
    structure = {name for name, mass in zip((*vocabulary, "pad"), found["likeliest structure first"][0]) if mass == 1}
    assert structure == set("#()-12345=")
    np.testing.assert_array_equal(found["likeliest atoms first"], -found["likeliest structure first"])


def test_a_class_may_be_sure_where_its_token_is_not():
    vocabulary = VOCABULARIES["qm9"]
    place = {token: index for index, token in enumerate(vocabulary)}
    prob = np.full((1, 3, 31), 1e-6)
    prob[0, 0, [place["("], place["1"]]] = 0.5  # surely structure
    prob[0, 1, [place["("], place["C"]]] = 0.4, 0.6
    prob[0, 2, place["N"]] = 1.0
    first = {name: measure(jnp.log(prob))[0].argmax() for name, measure in orders(vocabulary).items()}
    assert first["top-k margin"] == 2 == first["atoms first, by margin"] == first["likeliest atoms first"]
    assert first["likeliest structure first"] == 0 == first["structure first, by margin"]
    surest = orders(vocabulary)["surest class first"](jnp.log(prob))[0]
    assert surest[0] > 0.9 and surest[1] < 0.3
