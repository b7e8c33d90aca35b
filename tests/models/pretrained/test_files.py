"""Checkpoints are read without PyTorch, as they were stored, and nothing in them is ever run."""

import argparse
import builtins
import collections
import fractions
import functools
import json
import os
import pathlib
import pickle
import struct
import subprocess
import zipfile

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from lsd_jax.models.pretrained import files
from lsd_jax.models.pretrained.files import read_tensors
from tests.models.pretrained import torch_files

TREE = {
    "model": collections.OrderedDict(
        [
            ("blocks.0.weight", np.arange(6, dtype=np.float32).reshape(2, 3)),
            ("half", np.asarray([1.5, -2], np.float16)),
            ("brain", np.asarray([[1.5], [-2]], ml_dtypes.bfloat16)),
            ("empty", np.zeros((0, 4), np.float32)),
            ("scalar", np.asarray(7, np.int64)),
        ]
    ),
    "ema": {"decay": 0.999, "shadow_params": [np.ones(2, np.float32), np.zeros((1, 2), np.float64)]},
    "step": 5,
    "note": None,
}

TREE["model"]._metadata = collections.OrderedDict([("", {"version": 1})])  # as every state dict carries


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("folder", ["archive/", ""])
def test_a_torch_file_gives_every_tensor_under_its_dotted_name(tmp_path, compression, folder):
    path = tmp_path / "checkpoint.pth"
    torch_files.save(path, TREE, compression, folder)
    found = read_tensors(path)
    wanted = {f"model.{name}": value for name, value in TREE["model"].items()}
    wanted |= {f"ema.shadow_params.{index}": value for index, value in enumerate(TREE["ema"]["shadow_params"])}
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        np.testing.assert_array_equal(found[name], value)
        assert not found[name].flags.writeable or not value.size


def test_a_file_of_torch_before_1_6_gives_the_same(tmp_path):
    torch_files.save(tmp_path / "new.pt", TREE)
    torch_files.save_old(tmp_path / "old.pt", TREE)
    new, old = read_tensors(tmp_path / "new.pt"), read_tensors(tmp_path / "old.pt")
    assert list(new) == list(old)
    for name, value in new.items():
        assert old[name].dtype == value.dtype
        np.testing.assert_array_equal(old[name], value)


def test_a_file_of_torch_before_1_6_runs_no_code_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch_files.save_old(tmp_path / "old.pt", {"w": torch_files.Call(os.mkdir, "made")})
    with pytest.raises(ValueError, match=r"names (posix|nt)\.mkdir, which is code"):
        read_tensors(tmp_path / "old.pt")
    assert not (tmp_path / "made").exists()


def test_a_transposed_view_that_shares_its_storage(tmp_path):
    storage = np.arange(12, dtype=np.float32)
    view = torch_files.Call(torch_files.REBUILD, torch_files.StorageOf(0, storage), 2, (3, 2), (1, 4), False, {})
    torch_files.write_zip(tmp_path / "view.pt", torch_files.dumps({"w": view}), [storage])
    np.testing.assert_array_equal(read_tensors(tmp_path / "view.pt")["w"], [[2, 6], [3, 7], [4, 8]])


@pytest.mark.parametrize(
    "offset, shape, strides",
    [(0, (13,), (1,)), (11, (2,), (1,)), (0, (2,), (-1,)), (-1, (1,), (1,)), (0, (2, 2), (1,)), (0, (2,), (2**40,))],
)
def test_a_tensor_never_reaches_outside_its_storage(tmp_path, offset, shape, strides):
    storage = np.arange(12, dtype=np.float32)
    wild = torch_files.Call(torch_files.REBUILD, torch_files.StorageOf(0, storage), offset, shape, strides, False, {})
    torch_files.write_zip(tmp_path / "wild.pt", torch_files.dumps({"w": wild}), [storage])
    with pytest.raises(ValueError, match="outside its storage '0'"):
        read_tensors(tmp_path / "wild.pt")


def test_safetensors(tmp_path):
    tensors = {"a": np.arange(3, dtype=np.float32), "b": np.ones((2, 2), ml_dtypes.bfloat16)}
    save_file(tensors, tmp_path / "model.safetensors")
    found = read_tensors(str(tmp_path / "model.safetensors"))
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


HOSTILE = {
    "os.system": torch_files.Call(os.system, "touch mark"),
    "builtins.exec": torch_files.Call(builtins.exec, "open('mark', 'w').close()"),
    "builtins.eval": {"model": [torch_files.Call(builtins.eval, "open('mark', 'w')")]},
    "builtins.getattr": torch_files.Call(getattr, "x", "upper"),
    "subprocess.Popen": torch_files.Call(subprocess.Popen, ["touch", "mark"]),
    "torch.load": b"ctorch\nload\n(Vmark\ntR.",
    "torch._utils.__builtins__": b"ctorch._utils\n__builtins__\n.",
    "collections.abc": b"ccollections\nabc\n.",
    "a dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_asks_for_code_is_refused_and_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    pickled = HOSTILE[name] if isinstance(HOSTILE[name], bytes) else torch_files.dumps(HOSTILE[name])
    torch_files.write_zip(tmp_path / "hostile.pt", pickled)
    with pytest.raises(ValueError, match="is code and not a tensor, and is refused") as caught:
        read_tensors(tmp_path / "hostile.pt")
    assert "\n" not in str(caught.value)
    assert os.listdir() == ["hostile.pt"]


def settings():
    """What Lightning and fairseq keep beside the weights: objects of packages, of any kind that pickles know."""
    config = torch_files.foreign("omegaconf.dictconfig", "DictConfig")()
    config.__dict__ = {"_content": {"lr": 3e-4}, "_parent": None}
    tokenizer = torch_files.foreign("transformers.models.gpt2", "GPT2TokenizerFast")
    return {
        "hyper_parameters": {"config": config, "tokenizer": torch_files.Call(tokenizer, "gpt2"), "kind": tokenizer},
        "args": argparse.Namespace(arch="dit", groups=collections.defaultdict(list, {"a": [1]})),
        "callbacks": [functools.partial(max, 1), pathlib.PurePosixPath("a"), b"\xff", {1, 2}, fractions.Fraction(1, 2)],
    }


@pytest.mark.parametrize("weights", ["state_dict", "model"])
def test_the_settings_of_a_training_run_are_left_out(tmp_path, monkeypatch, weights):
    monkeypatch.chdir(tmp_path)
    before = dict(vars(files._StandIn))
    tree = {weights: TREE["model"], "ema": TREE["ema"], "step": 5, "loops": torch_files.Call(os.system, "touch mark")}
    torch_files.save(tmp_path / "run.ckpt", settings() | tree)
    found = read_tensors(tmp_path / "run.ckpt")
    assert [name for name in found if name.startswith(weights)] == [f"{weights}.{name}" for name in TREE["model"]]
    assert len(found) == len(TREE["model"]) + 2
    np.testing.assert_array_equal(found["ema.shadow_params.0"], np.ones(2))
    assert dict(vars(files._StandIn)) == before and os.listdir() == ["run.ckpt"]


@pytest.mark.parametrize("place", ["state_dict", "ema", "a file of no training run", "the file itself"])
def test_other_objects_are_refused_where_weights_are(tmp_path, place):
    config = settings()["hyper_parameters"]
    trees = {
        "state_dict": settings() | {"state_dict": {"w": np.ones(2), "config": config}},
        "ema": {"state_dict": {"w": np.ones(2)}, "ema": [config]},
        "a file of no training run": {"w": np.ones(2)} | settings(),
        "the file itself": [np.ones(2), config],
    }
    torch_files.save(tmp_path / "odd.ckpt", trees[place])
    with pytest.raises(
        ValueError, match=r"odd\.ckpt'.* its pickle names omegaconf.dictconfig.DictConfig, which is code"
    ):
        read_tensors(tmp_path / "odd.ckpt")


def test_the_hostile_pickles_do_run_where_nothing_stops_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(torch_files.dumps(HOSTILE["builtins.exec"]))
    assert os.listdir() == ["mark"]


@pytest.mark.parametrize(
    "pickled",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}Vkey\nI1\nsb.",  # BUILD: sets an attribute of our stand-in
        b"ccollections\nOrderedDict\n}Vupdate\nI1\nsb.",  # BUILD: overwrites a method of a class
        b"ctorch\nFloatStorage\n)R.",  # REDUCE: calls a storage's name
        b"ctorch._utils\n_rebuild_tensor_v2\n(I1\nI0\n)))tR.",  # a tensor of no storage
        b"\x82\x01.",  # the extension registry
        b"",
        b"not a pickle",
        pickle.dumps({"model": 1})[:-3],
    ],
)
def test_a_pickle_cannot_change_or_confuse_the_reader(tmp_path, pickled):
    torch_files.write_zip(tmp_path / "odd.pt", pickled)
    with pytest.raises(ValueError, match="odd.pt' cannot be read as tensors"):
        read_tensors(tmp_path / "odd.pt")
    assert callable(collections.OrderedDict.update)


def test_a_dict_that_holds_itself(tmp_path):
    endless = {}
    endless["again"] = endless
    torch_files.write_zip(tmp_path / "endless.pt", pickle.dumps(endless, 2))
    with pytest.raises(ValueError, match="nested without end"):
        read_tensors(tmp_path / "endless.pt")


def test_a_sharded_checkpoint_is_read_as_one(tmp_path):
    parts = {"a.safetensors": {"x": np.arange(3.0)}, "b.safetensors": {"y": np.eye(2), "z": np.zeros(1)}}
    for name, tensors in parts.items():
        save_file(tensors, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {t: name for name, own in parts.items() for t in own}}))
    found = read_tensors(index)
    assert set(found) == {"x", "y", "z"} and (found["y"] == np.eye(2)).all()
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.safetensors.*no such file"):
        read_tensors(index)
    for content, message in (
        ("{}", "is no index of shards"),
        ('{"weight_map": {"x": "../b"}}', "names a file elsewhere"),
    ):
        index.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_tensors(index)


def test_bad_files_are_told_in_one_line(tmp_path):
    torch_files.save(tmp_path / "whole.pt", TREE)
    save_file({"a": np.zeros(9, np.float32)}, tmp_path / "whole.safetensors")
    cases = {}
    for name in ("whole.pt", "whole.safetensors"):
        cases[f"short-{name}"] = ((tmp_path / name).read_bytes()[:-30], "load it again")
    cases["text.bin"] = (b"<html>404</html>", "neither a safetensors nor a PyTorch file")
    cases["empty.bin"] = (b"", "neither a safetensors nor a PyTorch file")
    torch_files.save_old(tmp_path / "old.pt", TREE)
    cases["short-old.pt"] = ((tmp_path / "old.pt").read_bytes()[:-30], "cannot be read as tensors")
    cases["start-old.pt"] = (files._LEGACY + b"rest", "cannot be read as tensors")
    cases["huge.safetensors"] = (struct.pack("<Q", 2**60) + b"{}", "no whole safetensors file")
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            read_tensors(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_tensors(tmp_path / "absent.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "no checkpoint")
    with pytest.raises(ValueError, match="no data.pkl"):
        read_tensors(tmp_path / "other.zip")
