"""Tensors out of published checkpoints, safetensors or PyTorch's, without PyTorch and without running their code.

A PyTorch checkpoint is a zip of a pickle and raw storages. A pickle may name any Python function to be called; here no name is
ever looked up. Those that describe tensors are answered by inert records of our own, all others by a stand-in that does
nothing. A stand-in is refused, but for one place: the settings that a training run keeps beside its weights (PyTorch
Lightning's `hyper_parameters` hold whole objects of omegaconf and transformers), which are left out.
"""

import collections
import json
import pathlib
import pickle
import struct
import zipfile
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from lsd_jax.errors import InputError

# Entries of a training checkpoint that are weights: Lightning's and fairseq's, and the EMA beside them.
_WEIGHTS = ("state_dict", "model", "ema")
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # the magic number that torch.save wrote before 1.6
_DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def read_tensors(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Every tensor of a checkpoint file under its dotted name: nested dicts and lists are joined, "model.blocks.0.w".

    An EMA kept as a list gives "ema.shadow_params.0" and so on. Dtypes stay as stored (bfloat16 is ml_dtypes'); what is
    no tensor is left out, and so is every entry of a training checkpoint that holds other objects, such as its settings.
    Tensors of a PyTorch file are read-only views of the file: only what is used takes memory.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, not a checkpoint, in the old format, or it asks for code to be run; one line.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {str(path)!r}: no such file")
    if path.name.endswith(".index.json"):
        return {name: tensor for shard in shards(path) for name, tensor in read_tensors(shard).items()}
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK"):
        return _read_zip(path)
    if head.startswith(_LEGACY):
        return _read_legacy(path)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _read_safetensors(path)
    raise InputError(f"checkpoint {str(path)!r} is neither a safetensors nor a PyTorch file, or its start is damaged")


def shards(index: pathlib.Path) -> list[pathlib.Path]:
    """The files that a sharded checkpoint's index (model.safetensors.index.json) names, beside it.

    Raises:
        ValueError: it is no such index, or it names files elsewhere.
    """
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"checkpoint {str(index)!r} is no index of shards: {error}") from None
    if wrong := [name for name in names if pathlib.PurePath(name).name != name]:
        raise InputError(f"checkpoint {str(index)!r} names a file elsewhere: {wrong[0]!r}")
    return [index.with_name(name) for name in names]


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, "np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError) as error:
        raise InputError(f"checkpoint {str(path)!r} is no whole safetensors file; load it again: {error}") from None


def _read_zip(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise InputError("it holds no data.pkl")
            folder = pickles[0].removesuffix("data.pkl")
            if _has(archive, folder + "byteorder") and archive.read(folder + "byteorder") != b"little":
                raise InputError("its numbers are big-endian")
            with archive.open(pickles[0]) as stream:
                tree = _unpickled(_Unpickler(stream))
            return {name: _materialize(path, archive, folder, leaf) for name, leaf in _leaves(tree)}
    except zipfile.BadZipFile as error:
        raise InputError(f"checkpoint {str(path)!r} is truncated or damaged; load it again: {error}") from None
    except RecursionError:
        raise InputError(f"checkpoint {str(path)!r}: its dicts are nested without end") from None
    except Exception as error:  # a hostile pickle can raise anything
        detail = str(error) or type(error).__name__
        raise InputError(f"checkpoint {str(path)!r} cannot be read as tensors: {detail}") from None


def _read_legacy(path: pathlib.Path) -> dict[str, np.ndarray]:
    """A file of PyTorch before 1.6: pickles of a magic number, a version, the machine, the tree and the storages' keys, then
    every storage's length and bytes."""
    try:
        with path.open("rb") as stream:
            for _ in range(3):
                _Unpickler(stream).load()
            unpickler = _Unpickler(stream)
            leaves, flat = _leaves(_unpickled(unpickler)), {}
            for key in map(str, _Unpickler(stream).load()):
                (count,) = struct.unpack("<q", stream.read(8))
                dtype = np.dtype(_DTYPES[unpickler.storages[key].dtype])
                flat[key] = np.memmap(path, dtype, "r", stream.tell(), count) if count else np.zeros(0, dtype)
                stream.seek(count * dtype.itemsize, 1)
            return {name: _view(leaf, flat[leaf.storage.key]) for name, leaf in leaves}
    except RecursionError:
        raise InputError(f"checkpoint {str(path)!r}: its dicts are nested without end") from None
    except Exception as error:  # a hostile pickle can raise anything
        detail = str(error) or type(error).__name__
        raise InputError(f"checkpoint {str(path)!r} cannot be read as tensors: {detail}") from None


class _Storage(NamedTuple):
    """A storage named by the pickle: its file in the zip, numpy's name of its dtype, and its length."""

    key: str
    dtype: str
    numel: int


class _Tensor(NamedTuple):
    """A tensor described by the pickle: offset, shape and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _RebuildTensor:
    """Stands for torch._utils._rebuild_tensor_v2; without attributes, so that a pickle cannot change it."""

    __slots__ = ()

    def __call__(self, storage, offset, shape, strides, *_ignored):
        if not isinstance(storage, _Storage):
            raise InputError("a tensor without a storage")
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _RebuildParameter:
    """Stands for torch._utils._rebuild_parameter."""

    __slots__ = ()

    def __call__(self, data, *_ignored):
        return data


class _StandIn:
    """Stands for whatever else a pickle names: it takes what is done to it, and does and keeps nothing.

    Every name has a class of its own, whose `asked` says it.
    """

    __slots__ = ()
    asked = ""

    def __new__(cls, *_ignored, **_also):
        return object.__new__(cls)

    def __call__(self, *_ignored, **_also):
        return self

    def _ignore(self, *_ignored):
        return None

    __setstate__ = __setitem__ = append = extend = add = _ignore


class _Unpickler(pickle.Unpickler):
    """Builds containers, numbers, strings and tensor descriptions; every other name gives a stand-in, unseen by Python.

    `asked` lists those names, used or not; `storages` has every storage that the pickle names, used or not.
    """

    def __init__(self, stream: IO[bytes]):
        super().__init__(stream)
        self.asked: list[str] = []
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return name
        admitted = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
            ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
        }
        if (module, name) in admitted:
            return admitted[module, name]
        self.asked.append(f"{module}.{name}")
        return type("StandIn", (_StandIn,), {"__slots__": (), "asked": self.asked[-1]})

    def persistent_load(self, pid: Any) -> _Storage:
        kind, name, key, _, numel, *part = pid  # the old format can name a part of a storage
        if kind != "storage" or name not in _DTYPES or any(entry is not None for entry in part):
            raise InputError(f"a storage of kind {name!r}")
        return self.storages.setdefault(str(key), _Storage(str(key), name, int(numel)))


def _unpickled(unpickler: "_Unpickler") -> Any:
    """The tree of a pickle, the settings of a training checkpoint left out.

    Raises:
        ValueError: it names code where weights are, or in a file that is no training checkpoint.
    """
    try:
        tree = unpickler.load()
    except Exception:
        if unpickler.asked:  # what went wrong, went wrong with a stand-in
            raise _refusal(unpickler.asked[0]) from None
        raise
    if not unpickler.asked:
        return tree
    if not isinstance(tree, dict) or not any(isinstance(tree.get(name), dict) for name in _WEIGHTS):
        raise _refusal(unpickler.asked[0])
    found = {name: _stand_in(entry) for name, entry in tree.items()}
    for name in _WEIGHTS:
        if found.get(name):
            raise _refusal(found[name])
    return {name: entry for name, entry in tree.items() if not found[name]}


def _stand_in(tree: Any) -> str:
    """The name that the first stand-in of a tree stands for; empty without one."""
    if isinstance(tree, _StandIn) or (isinstance(tree, type) and issubclass(tree, _StandIn)):
        return tree.asked
    children = (
        (*tree, *tree.values()) if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple, set)) else ()
    )
    return next(filter(None, map(_stand_in, children)), "")


def _refusal(name: str) -> InputError:
    return InputError(
        f"its pickle names {name}, which is code and not a tensor, and is refused; save the state dict alone, best as "
        "safetensors"
    )


def _leaves(tree: Any, prefix: str = "") -> list[tuple[str, _Tensor]]:
    """(dotted name, tensor) of a tree of dicts and lists, in its order."""
    if isinstance(tree, _Tensor):
        return [(prefix or "tensor", tree)]
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    return [leaf for name, child in pairs for leaf in _leaves(child, f"{prefix}.{name}" if prefix else str(name))]


def _materialize(path: pathlib.Path, archive: zipfile.ZipFile, folder: str, tensor: _Tensor) -> np.ndarray:
    """A read-only view of the tensor's bytes in a zip."""
    dtype = np.dtype(_DTYPES[tensor.storage.dtype])
    info = archive.getinfo(f"{folder}data/{tensor.storage.key}")
    if info.compress_type != zipfile.ZIP_STORED:
        return _view(tensor, np.frombuffer(archive.read(info), dtype))
    count = info.file_size // dtype.itemsize
    return _view(tensor, np.memmap(path, dtype, "r", _data_start(path, info), count) if count else np.zeros(0, dtype))


def _view(tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
    """A read-only view of the tensor in its storage's numbers, after checking that it stays inside them."""
    shape, strides = tensor.shape, tensor.strides
    whole = len(shape) == len(strides) and all(int(size) == size >= 0 for size in (*shape, *strides, tensor.offset))
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(shape, strides)) if whole else -1
    if 0 in shape and whole:
        return np.zeros(shape, flat.dtype)
    if not 0 <= last < len(flat):
        raise InputError(f"a tensor of shape {shape} reaches outside its storage {tensor.storage.key!r}")
    steps = [stride * flat.itemsize for stride in strides]
    return np.asarray(np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False))


def _data_start(path: pathlib.Path, info: zipfile.ZipInfo) -> int:
    """Where a stored entry's bytes begin: behind its local header, whose name and extra field have their own lengths."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + name + extra


def _has(archive: zipfile.ZipFile, name: str) -> bool:
    return name in archive.namelist()
