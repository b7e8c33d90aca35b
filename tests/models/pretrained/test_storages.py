"""The same weights in every storage that published checkpoints come in give the log-scores of the plain file.

The weights are the random ones that ship as lsd_jax/shipped/weights/tiny_*, of the shape of the published networks; test_parity.py
compares them with the reference implementations.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from lsd_jax.models import weights
from lsd_jax.models.load import load_model
from lsd_jax.models.pretrained.files import read_tensors
from tests.models.pretrained import torch_files

S = 11
# The order in which the published class registers its modules, and so that of its state dict and of its EMA.
ORDER = ("vocab_embed", "sigma_map", "rotary_emb", "blocks", "output_layer")
HEAD = ("output_layer.linear.weight", "output_layer.linear.bias")


def tensors_of(family):
    tensors = read_tensors(weights.SHIPPED / "weights" / f"tiny_{family}" / "model.safetensors")
    bare = {name.removeprefix("backbone."): value for name, value in tensors.items()}
    return dict(sorted(bare.items(), key=lambda item: ORDER.index(item[0].split(".")[0])))


def prefixed(prefix, tensors):
    return {prefix + name: value for name, value in tensors.items()}


def others(tensors):
    """Tensors of the same shapes that are not the right ones; buffers stay."""
    return {name: value if "inv_freq" in name else value[..., ::-1] + 1 for name, value in tensors.items()}


def discriminator(tensors):
    """DiDi-Instruct's second network: another head, its layers under spectral norm."""
    body = {name: value for name, value in others(tensors).items() if not name.startswith("output_layer")}
    return body | {"output_layer.main.0.weight_orig": np.ones((4, 4), np.float32)}


def ema(tensors):
    shadow = [value for name, value in tensors.items() if "inv_freq" not in name]
    return {"decay": 0.9999, "num_updates": 5, "shadow_params": shadow}


def lightning(state_dict, **more):
    """A checkpoint as PyTorch Lightning writes it."""
    config = torch_files.foreign("omegaconf.dictconfig", "DictConfig")()
    optimizer = [{"state": {0: {"exp_avg": np.ones((3, 2), np.float32)}}, "param_groups": [{"lr": 3e-4}]}]
    settings = {"hyper_parameters": {"config": config}, "hparams_name": "kwargs"}
    run = {"epoch": 1, "pytorch-lightning_version": "2.5.3", "optimizer_states": optimizer}
    return run | settings | {"state_dict": state_dict} | more


def didi(tensors, **networks):
    state = prefixed("student_ema.", tensors) | prefixed("discriminator.", discriminator(tensors))
    return lightning(state | networks, ema=ema(others(tensors)))


def sharded(folder, tensors, stem, suffix, save):
    names = list(tensors)
    parts = {f"{stem}-0000{i + 1}-of-00002{suffix}": names[i::2] for i in range(2)}
    for file, own in parts.items():
        save(folder / file, {name: tensors[name] for name in own})
    index = {"metadata": {}, "weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index))
    return folder


def safetensors(path, tensors):
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    return path.parent


def torch_file(path, tree):
    torch_files.save(path, tree)
    return path if path.suffix == ".ckpt" else path.parent


def sedd_run(folder, tree):
    (folder / "checkpoints-meta").mkdir()
    torch_files.save(folder / "checkpoints-meta" / "checkpoint.pth", tree)
    return folder


def compiled(name):
    """The name inside torch.compile of every block, and DistributedDataParallel around the whole."""
    head, dot, rest = name.partition("blocks.0.")
    return f"module._orig_mod.{head}{dot}{'_orig_mod.' if dot else ''}{rest}"


STORAGES = {
    "bare names, as on DiDi-Instruct's hub": lambda d, t: safetensors(d / "model.safetensors", t),
    "shards of safetensors": lambda d, t: sharded(d, prefixed("backbone.", t), "model", ".safetensors", safetensors),
    "pytorch_model.bin": lambda d, t: torch_file(d / "pytorch_model.bin", prefixed("backbone.", t)),
    "shards of .bin": lambda d, t: sharded(d, prefixed("backbone.", t), "pytorch_model", ".bin", torch_file),
    "SEDD's training": lambda d, t: sedd_run(d, {"model": prefixed("module.", others(t)), "ema": ema(t), "step": 7}),
    "Lightning": lambda d, t: torch_file(d / "x.ckpt", lightning(prefixed("backbone.", t))),
    "Lightning with an EMA list": lambda d, t: torch_file(
        d / "x.ckpt", lightning(prefixed("backbone.", others(t)), ema=ema(t))
    ),
    "Lightning of a distillation": lambda d, t: torch_file(
        d / "x.ckpt",
        lightning(prefixed("backbone.", others(t)) | prefixed("teacher._orig_mod.", others(t)), ema=ema(t)),
    ),
    "DiDi-Instruct's training": lambda d, t: torch_file(
        d / "x.ckpt", didi(t, **prefixed("backbone.", others(t)), reward_baseline=np.float32([0]))
    ),
    "DiDi-Instruct, from the hub's two files": lambda d, t: torch_file(d / "x.ckpt", didi(t)),
    "model.module.": lambda d, t: safetensors(d / "model.safetensors", prefixed("model.module.backbone.", t)),
    "_orig_mod. at two depths": lambda d, t: torch_file(
        d / "x.ckpt", lightning({f"model.{compiled(name)}": value for name, value in t.items()})
    ),
}


def log_scores(model, family):
    x = np.random.default_rng(0).integers(0, S + (family == "mdlm"), (2, 9)).astype(np.int32)
    return np.asarray(_log_score(model, x, jnp.float32(0.4)))


@jax.jit
def _log_score(model, x, t):
    return model.log_score(x, t)


@pytest.mark.parametrize("family", ["mdlm", "duo"])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_storage_gives_the_plain_file_s_log_scores(tmp_path, family, storage):
    source = STORAGES[storage](tmp_path, tensors_of(family))
    plain, found = load_model(family, f"tiny_{family}"), load_model(family, source)
    assert found.apply == plain.apply and found.identity.sha256 != plain.identity.sha256
    np.testing.assert_array_equal(log_scores(found, family), log_scores(plain, family))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
@pytest.mark.parametrize(("family", "name"), [("mdlm", "pytorch_model.bin"), ("duo", "model.safetensors")])
def test_half_precision_on_disk(tmp_path, family, dtype, name):
    halves = {key: value.astype(dtype) for key, value in tensors_of(family).items()}
    source = (safetensors if name.endswith("safetensors") else torch_file)(tmp_path / name, halves)
    plain, found = load_model(family, f"tiny_{family}"), load_model(family, source)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found.params))
    apart = np.abs(log_scores(found, family) - log_scores(plain, family))
    assert 0 < apart.max() < (0.2 if dtype == ml_dtypes.bfloat16 else 0.02)
    rounded = safetensors(tmp_path / "whole.safetensors", {k: v.astype(np.float32) for k, v in halves.items()})
    exact = load_model(family, rounded / "whole.safetensors")
    np.testing.assert_array_equal(log_scores(found, family), log_scores(exact, family))


@pytest.mark.parametrize("family", ["mdlm", "duo"])
def test_a_tied_head_is_the_embedding(tmp_path, family):
    tensors = tensors_of(family)
    body = {name: value for name, value in tensors.items() if name not in HEAD}
    table = tensors["vocab_embed.embedding"]
    (tmp_path / "whole").mkdir()
    whole = body | {HEAD[0]: table, HEAD[1]: np.zeros(len(table), np.float32)}
    plain = load_model(family, safetensors(tmp_path / "whole" / "model.safetensors", whole))
    tied = load_model(family, safetensors(tmp_path / "model.safetensors", body))
    np.testing.assert_array_equal(log_scores(tied, family), log_scores(plain, family))
    run = load_model(family, torch_file(tmp_path / "x.ckpt", lightning(others(body), ema=ema(body))))
    np.testing.assert_array_equal(log_scores(run, family), log_scores(plain, family))
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": false}')
    again = safetensors(tmp_path / "again.safetensors", body) / "again.safetensors"
    with pytest.raises(ValueError, match=r"again\.safetensors'.*output_layer\.linear\.weight is missing"):
        load_model(family, again)


def test_padded_tables_in_a_training_checkpoint(tmp_path):
    """A vocabulary of 11 and a mask in a table of 16 rows: config.json beside the file says which row the mask is."""
    tensors, rng = tensors_of("mdlm"), np.random.default_rng(0)
    more = {name: rng.normal(size=(4, *tensors[name].shape[1:])) for name in ("vocab_embed.embedding", *HEAD)}
    padded = {name: np.concatenate([tensors[name], part.astype(np.float32)]) for name, part in more.items()}
    source = torch_file(tmp_path / "x.ckpt", lightning(prefixed("backbone.", tensors | padded)))
    (tmp_path / "config.json").write_text(f'{{"mask_index": {S}}}')
    plain, found = load_model("mdlm", "tiny_mdlm"), load_model("mdlm", source)
    np.testing.assert_array_equal(log_scores(found, "mdlm"), log_scores(plain, "mdlm"))


def test_what_is_wrong_names_the_file(tmp_path):
    tensors = tensors_of("mdlm")
    short = {name: value for name, value in tensors.items() if name != "blocks.1.attn_out.weight"}
    extra = tensors | {"blocks.0.gate": np.ones(2, np.float32)}
    two = prefixed("student.", tensors) | prefixed("critic.", tensors)
    twice = prefixed("backbone.", tensors) | prefixed("module.backbone.", tensors)
    average = ema(tensors)
    average["shadow_params"] = average["shadow_params"][:-1]
    cases = {
        "missing.ckpt": (lightning(short), r"blocks\.1\.attn_out\.weight is missing instead of \(32, 32\)"),
        "unknown.ckpt": (lightning(extra), r"blocks\.0\.gate is unknown"),
        "two.ckpt": (lightning(two), r"several networks, under \['state_dict.student.', 'state_dict.critic.'\]"),
        "twice.ckpt": (lightning(twice), r"several networks, under .*'state_dict.module.backbone.'\]"),
        "average.ckpt": (
            lightning(prefixed("backbone.", tensors), ema=average),
            "its EMA holds 29 tensors that do not",
        ),
        "critic.ckpt": (lightning(discriminator(tensors)), r"output_layer\.main\.0\.weight_orig is unknown"),
        "empty.ckpt": (lightning({}), "no tensor 'vocab_embed.embedding'"),
    }
    for name, (tree, message) in cases.items():
        torch_files.save(tmp_path / name, tree)
        with pytest.raises(ValueError, match=message) as caught:
            load_model("mdlm", tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    folder = sharded(tmp_path, tensors, "model", ".safetensors", safetensors)
    pathlib.Path(folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00002\.safetensors.*no such file"):
        load_model("mdlm", folder)
