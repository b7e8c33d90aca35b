import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from lsd_jax.models import features, inception


def test_it_has_the_published_networks_parameters():
    # torchvision's 27,161,264 less its auxiliary head (3,326,696) and classifier (2,049,000).
    assert inception.parameters() == 21_785_568
    shapes = inception.tensor_shapes()
    assert shapes["Mixed_7c.branch_pool.conv.weight"] == (192, 2048, 1, 1)
    assert shapes["Mixed_6b.branch7x7dbl_5.conv.weight"] == (192, 128, 1, 7)
    assert len(shapes) == 5 * 94


def test_what_does_not_fit_is_named(tmp_path):
    file = tmp_path / "inception.pth"
    save_file({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 3, 3), np.float32), "aux.weight": np.zeros(2)}, file)
    with pytest.raises(ValueError, match="is not pytorch-fid's Inception: 470 tensors do not fit: .* is missing"):
        features.load(str(file), (3, 32, 32), 256)


@pytest.mark.slow
def test_features_are_finite_and_depend_on_the_image(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        name: (np.ones(shape) if "running_var" in name or name.endswith("bn.weight") else rng.normal(size=shape) * 0.05)
        for name, shape in inception.tensor_shapes().items()
    }
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, tmp_path / "random.pth")
    network = features.load(str(tmp_path / "random.pth"), (3, 8, 8), 256)
    found = jax.jit(network.apply)(network.params, rng.integers(0, 256, (2, 192)))
    assert found.shape == (2, 2048) and np.isfinite(found).all() and np.abs(found[0] - found[1]).max() > 0
