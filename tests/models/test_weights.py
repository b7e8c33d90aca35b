import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models import weights
from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.tasks.corpus import read_corpus, split_chunks
from lsd_jax.training.train import SequenceLoss, validation_bits


@pytest.fixture
def saved(tmp_path):
    config = DDiTConfig(vocab_size=5, dim=16, depth=1, heads=2)
    params = DDiT(config).init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    weights.save(tmp_path / "w.safetensors", params, config, {"data": "none"})
    return tmp_path / "w.safetensors", config, params


def test_weights_come_back(saved):
    path, config, params = saved
    read_config, read, card = weights.load(path)
    assert read_config == config and card == {"data": "none"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), params, read)


def test_truncated_foreign_and_missing_files(saved, tmp_path):
    path, _, params = saved
    (tmp_path / "t.safetensors").write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"t\.safetensors"):
        weights.load(tmp_path / "t.safetensors")
    other = DDiTConfig(vocab_size=5, dim=16, depth=2, heads=2)
    weights.save(tmp_path / "o.safetensors", params, other, {})
    with pytest.raises(ValueError, match="block_1"):
        weights.load(tmp_path / "o.safetensors")
    with pytest.raises(FileNotFoundError):
        weights.load(tmp_path / "none.safetensors")


def test_shipped_teacher_reaches_its_stated_bound():
    """The weights of the characters' model say real text is far likelier than shuffled text, at about the bound on their card."""
    config, params, card = weights.load(weights.resolve("text_teacher.safetensors"))
    loss = jax.jit(SequenceLoss("denoising", DDiT(config), Absorbing(27, LogLinear())))
    rows = split_chunks(read_corpus())["validation"][:, :128][:64]
    bits, error = validation_bits(loss, jax.random.key(0), rows, 128, params)
    assert abs(bits - card["validation_bits"]) < 4 * error
    shuffled = np.random.default_rng(0).permuted(rows, axis=1)
    assert validation_bits(loss, jax.random.key(0), shuffled, 128, params)[0] > bits + 1
