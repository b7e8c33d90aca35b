"""A published network loads under any wrapper's prefix, and anything else is refused by the names of its tensors."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from lsd_jax.models import pretrained, weights
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.models.pretrained.mapping import to_ours
from tests.models.pretrained import torch_files


def tensors_of(name):
    return read_tensors(weights.SHIPPED / "weights" / f"tiny_{name}" / "model.safetensors")


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("prefix", ["", "module.", "model.module.", "state_dict.backbone."])
def test_prefixes_of_wrappers(prefix):
    tensors = tensors_of("sedd_absorb")
    wrapped = {prefix + name: value for name, value in tensors.items()}
    if prefix:
        wrapped["optimizer.state.0.exp_avg"] = np.zeros(3, np.float32)
    same(to_ours("sedd", wrapped, {}, True)[1], to_ours("sedd", tensors, {}, True)[1])


def test_a_training_checkpoint_of_sedd_gives_its_ema(tmp_path):
    tensors = tensors_of("sedd_absorb")
    learned = [name for name in tensors if name != "rotary_emb.inv_freq"]
    averaged = {name: tensors[name] + 1 for name in learned}
    run = tmp_path / "checkpoints-meta"
    run.mkdir()
    tree = {"model": tensors, "ema": {"decay": 0.9999, "shadow_params": list(averaged.values())}, "step": 7}
    torch_files.save(run / "checkpoint.pth", tree)
    sizes, params, _ = pretrained.load("sedd", str(tmp_path), "weights", True)
    assert sizes.heads == 4  # from the rotary buffer, without a config.json
    same(params, to_ours("sedd", averaged, {"n_heads": 4}, True)[1])
    torch_files.save(run / "checkpoint.pth", tree | {"ema": {"shadow_params": list(averaged.values())[:-1]}})
    with pytest.raises(ValueError, match="EMA holds 29 tensors that do not fit the network's 30"):
        to_ours("sedd", read_tensors(run / "checkpoint.pth"), {}, True)


def test_an_ema_kept_as_a_dict_is_preferred():
    tensors = tensors_of("radd")
    both = {f"model.{name}": value for name, value in tensors.items()}
    both |= {f"ema.{name}": value + 1 for name, value in tensors.items()}
    averaged = {name: value + 1 for name, value in tensors.items()}
    same(to_ours("radd", both, {}, True)[1], to_ours("radd", averaged, {"n_heads": 4}, True)[1])


def test_wrong_tensors_are_named():
    tensors = tensors_of("sedd_absorb")
    missing = {name: value for name, value in tensors.items() if name != "blocks.1.attn_out.weight"}
    with pytest.raises(ValueError, match=r"blocks\.1\.attn_out\.weight is missing instead of \(32, 32\)"):
        to_ours("sedd", missing, {}, True)
    with pytest.raises(ValueError, match=r"blocks\.0\.mlp\.2\.bias is \(31,\) instead of \(32,\)"):
        to_ours("sedd", tensors | {"blocks.0.mlp.2.bias": np.zeros(31, np.float32)}, {}, True)
    with pytest.raises(ValueError, match=r"1 tensors do not fit: blocks\.0\.gate is unknown"):
        to_ours("sedd", tensors | {"blocks.0.gate": np.zeros(2, np.float32)}, {}, True)
    with pytest.raises(ValueError, match=r"not finite, head/bias first"):
        to_ours("sedd", tensors | {"output_layer.linear.bias": np.full(12, np.nan, np.float32)}, {}, True)
    without = {name: value for name, value in tensors.items() if "rotary" not in name}
    with pytest.raises(ValueError, match="config.json"):
        to_ours("sedd", without, {}, True)


@pytest.mark.parametrize(
    ("family", "source", "message"),
    [
        ("sedd", "tiny_gpt2", "no tensor 'vocab_embed.embedding', which every SEDD checkpoint has"),
        ("gpt2", "tiny_radd", "no tensor 'wte.weight'"),
        ("sedd", "tiny_radd", "it lacks a time input .sigma_map.mlp.0.weight., and no SEDD network does"),
        ("radd", "tiny_sedd_absorb", "it has a time input .*, and no RADD network does"),
        ("sedd", "tiny_tokens.npy", "neither a safetensors nor a PyTorch file"),
    ],
)
def test_another_architecture_is_refused_in_one_line(family, source, message):
    with pytest.raises(ValueError, match=message) as caught:
        pretrained.load(family, source, "weights", True)
    assert f"weights='{source}'" in str(caught.value) and "\n" not in str(caught.value)


def test_truncated_weights(tmp_path):
    save_file(tensors_of("radd"), tmp_path / "whole.safetensors")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match="no whole safetensors file; load it again"):
        pretrained.load("radd", str(tmp_path), "weights", True)
