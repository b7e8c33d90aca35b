"""ChemNet against fcd_torch's own numbers (tests/golden/chemnet.npz), with the published weights and with random ones."""

import importlib.util

import jax
import numpy as np
import pytest

from lsd_jax.models import chemnet

GOLDEN = np.load("tests/golden/chemnet.npz")
SMILES = GOLDEN["in/smiles"].tolist()


def random_params():
    """As the fixture's meta says."""
    rng = np.random.default_rng(0)
    return {
        name: ({1: 0.05, 2: 0.1, 3: 3}[len(shape)] * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in chemnet._SHAPES.items()
    }


def test_strings_become_the_reference_s_places():
    """Two letters, unknown symbols, the first of two components, and a string that is too long are among them."""
    np.testing.assert_array_equal(chemnet.tokenize(SMILES), GOLDEN["in/tokens"])
    row = chemnet.tokenize(["CBr[Se]"])[0]
    assert row.tolist()[:6] == [0, 8, 26, 9, 33, 27] and row.tolist()[6:8] == [34, 35]  # e is unknown, "." ends


def test_features_are_the_reference_s_with_random_weights():
    found = jax.jit(chemnet.features)(random_params(), GOLDEN["in/tokens"][:5])
    np.testing.assert_allclose(found, GOLDEN["out/random"], atol=2e-4)  # molecules differ by 0.1


def test_features_are_the_reference_s_with_the_published_weights():
    if not any(map(importlib.util.find_spec, chemnet._WHEELS)):
        pytest.skip(f"ChemNet is not installed: {chemnet.INSTALL}")
    network = chemnet.load()
    found = jax.jit(network.apply)(network.params, GOLDEN["in/tokens"])
    assert found.shape == (len(SMILES), network.width)
    np.testing.assert_allclose(found, GOLDEN["out/features"], atol=3e-5)


def test_every_product_is_of_full_precision():
    """An accelerator's default would round them, and FCD with them."""
    program = str(jax.make_jaxpr(chemnet.features)(random_params(), GOLDEN["in/tokens"][:1]))
    products = program.count("dot_general[") + program.count("conv_general_dilated[")
    assert products == 4 and program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products


def test_without_the_wheel_the_message_has_the_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="^fcd=True: .*run: pip install --no-deps fcd-torch==1.0.7$"):
        chemnet.weights_file()


def test_another_network_is_named(monkeypatch, tmp_path):
    (tmp_path / "wrong.pt").write_bytes(b"PK nothing")
    monkeypatch.setattr(chemnet, "weights_file", lambda: tmp_path / "wrong.pt")
    with pytest.raises(ValueError, match="^fcd=True: .*wrong.pt' is not ChemNet; run: pip install"):
        chemnet.load.__wrapped__()
