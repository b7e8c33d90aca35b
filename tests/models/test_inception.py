"""Inception against pytorch-fid's own numbers, and what its loader refuses."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from lsd_jax.models import image_features, inception


def test_it_has_the_published_networks_parameters():
    # torchvision's 27,161,264 less its auxiliary head (3,326,696) and classifier (2,049,000).
    shapes = inception.tensor_shapes()
    assert sum(int(np.prod(shape)) for name, shape in shapes.items() if "running" not in name) == 21_785_568
    assert shapes["Mixed_7c.branch_pool.conv.weight"] == (192, 2048, 1, 1)
    assert shapes["Mixed_6b.branch7x7dbl_5.conv.weight"] == (192, 128, 1, 7)
    assert len(shapes) == 5 * 94


def test_what_does_not_fit_is_named(tmp_path):
    file = tmp_path / "inception.pth"
    save_file({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 3, 3), np.float32), "aux.weight": np.zeros(2)}, file)
    with pytest.raises(
        ValueError, match="features='.*': not pytorch-fid's Inception: 470 tensors do not fit: .* is missing"
    ):
        image_features.load(str(file), (3, 32, 32), 256)


def random_tensors():
    """As the fixture's meta says."""
    rng, tensors = np.random.default_rng(0), {}
    for name, shape in sorted(inception.tensor_shapes().items()):
        n = rng.standard_normal(shape)
        if name.endswith("running_var"):
            n = 1 + 0.5 * np.abs(n)
        elif name.endswith("bn.weight"):
            n = 1 + 0.1 * n
        else:
            n = n * np.sqrt(2 / np.prod(shape[1:])) if name.endswith("conv.weight") else 0.1 * n
        tensors[name] = n.astype(np.float32)
    return tensors


def test_features_are_pytorch_fids(tmp_path):
    """pytorch-fid's InceptionV3, in float64, on the same random weights and images (tests/golden/inception.npz)."""
    golden = np.load("tests/golden/inception.npz")
    save_file(random_tensors(), tmp_path / "random.pth")
    network = image_features.load(str(tmp_path / "random.pth"), (3, 32, 32), 256)
    found = jax.jit(network.apply)(network.params, golden["in/x"].astype(np.int32))
    np.testing.assert_allclose(found, golden["out/features"], rtol=1e-4, atol=1e-5)
