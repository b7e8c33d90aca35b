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


def padded(tensors, rows):
    """The tensors of a network whose table has `rows` more rows than before, of noise."""
    rng = np.random.default_rng(0)
    names = ("vocab_embed.embedding", "output_layer.linear.weight", "output_layer.linear.bias")
    more = {n: rng.normal(size=(rows, *tensors[n].shape[1:])).astype(np.float32) for n in names if n in tensors}
    return tensors | {name: np.concatenate([tensors[name], part]) for name, part in more.items()}


def test_rows_past_the_vocabulary_are_left_out():
    """Duo's [PAD] row, tables padded to a multiple of 16: the mask's row is the one that config.json names."""
    tensors, card = tensors_of("sedd_absorb"), {"n_heads": 4, "mask_index": 11}
    sizes, params = to_ours("sedd", padded(tensors, 4), card, True, 11)
    assert sizes.vocab_size == 11
    same(params, to_ours("sedd", tensors, {"n_heads": 4}, True, 11)[1])
    same(to_ours("sedd", padded(tensors, 4), card, True)[1], params)  # the data's tokens are those below the mask
    with pytest.raises(ValueError, match=r"16 rows for vocab_size=11 and a mask, and nothing tells which"):
        to_ours("sedd", padded(tensors, 4), {"n_heads": 4}, True, 11)
    with pytest.raises(ValueError, match="mask_index=40, and its table has 12 rows"):
        to_ours("sedd", tensors, {"n_heads": 4, "mask_index": 40}, True)
    uniform = to_ours("sedd", padded(tensors, 1), {"n_heads": 4}, False, 12)
    same(uniform[1], to_ours("sedd", tensors, {"n_heads": 4}, False)[1])


def test_a_mask_among_the_data_s_tokens_is_never_drawn():
    tensors = tensors_of("sedd_absorb")
    sizes, params = to_ours("sedd", tensors, {"n_heads": 4, "mask_index": 3}, True, 12)
    head, table = params["params"]["head"]["bias"], params["params"]["embed"]["embedding"]
    assert sizes.vocab_size == 12 and len(table) == 13 and head[3] == -1e9 and (np.delete(head, 3) > -1e8).all()
    np.testing.assert_array_equal(table[12], table[3])
