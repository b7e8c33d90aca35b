"""Writes checkpoints in PyTorch's zip format without PyTorch: a pickle that names torch's functions, and raw storages."""

import io
import pathlib
import pickle
import zipfile
from typing import Any, ClassVar

import numpy as np

NAMES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
}


def _global(module: str, name: str) -> type:
    """A class that pickles as `module.name`."""
    return type(name, (), {"__module__": module, "__qualname__": name})


FOREIGN: list[type] = []


def foreign(module: str, name: str) -> type:
    """A class of a package that need not be there: its instances pickle as the package's own would."""
    FOREIGN.append(_global(module, name))
    return FOREIGN[-1]


STORAGES = {name: _global("torch", name) for name in NAMES.values()}
REBUILD = _global("torch._utils", "_rebuild_tensor_v2")


class StorageOf:
    """Pickles as a storage: the name of its file in the zip and its dtype."""

    def __init__(self, key: int, array: np.ndarray):
        self.key, self.array = key, array


class Call:
    """Pickles as the call of a global with the given arguments."""

    def __init__(self, target: Any, *args: Any):
        self.target, self.args = target, args

    def __reduce__(self):
        return self.target, self.args


class _Pickler(pickle._Pickler):
    def persistent_id(self, obj: Any):
        if not isinstance(obj, StorageOf):
            return None
        return ("storage", STORAGES[NAMES[str(obj.array.dtype)]], str(obj.key), "cpu", obj.array.size)

    def save_global(self, obj, name=None):
        if obj in (*STORAGES.values(), REBUILD, *FOREIGN):
            self.write(pickle.GLOBAL + f"{obj.__module__}\n{obj.__qualname__}\n".encode())
        else:
            super().save_global(obj, name)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, type: save_global}


class _OldPickler(_Pickler):
    def persistent_id(self, obj: Any):
        found = super().persistent_id(obj)
        return found and (*found, None)  # no part of a storage, but all of it


def save(path: pathlib.Path, tree: Any, compression: int = zipfile.ZIP_STORED, folder: str = "archive/") -> None:
    """Writes a tree of dicts, lists, scalars and numpy arrays as torch.save does."""
    described, storages = _described(tree)
    write_zip(path, dumps(described), storages, compression, folder)


def save_old(path: pathlib.Path, tree: Any) -> None:
    """Writes the tree as torch.save did before 1.6."""
    described, storages = _described(tree)
    keys = sorted(str(key) for key in range(len(storages)))
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(part, file, protocol=2)
        _OldPickler(file, protocol=2).dump(described)
        pickle.dump(keys, file, protocol=2)
        for key in keys:
            file.write(np.int64(storages[int(key)].size).tobytes() + storages[int(key)].tobytes())


def _described(tree: Any) -> tuple[Any, list[np.ndarray]]:
    """The tree with calls that make its arrays, and their storages."""
    storages: list[np.ndarray] = []

    def describe(node: Any) -> Any:
        if isinstance(node, np.ndarray):
            storages.append(node.copy("C"))
            strides = tuple(stride // node.itemsize for stride in storages[-1].strides)
            storage = StorageOf(len(storages) - 1, storages[-1])
            return Call(REBUILD, storage, 0, node.shape, strides, False, {})
        if isinstance(node, dict):
            described = type(node)((name, describe(child)) for name, child in node.items())
            if hasattr(node, "_metadata"):
                described._metadata = node._metadata
            return described
        return [describe(child) for child in node] if isinstance(node, list) else node

    return describe(tree), storages


def dumps(tree: Any) -> bytes:
    """The pickle of a tree that may hold `Call` and `StorageOf`."""
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump(tree)
    return stream.getvalue()


def write_zip(
    path: pathlib.Path,
    pickled: bytes,
    storages: list[np.ndarray] = (),
    compression: int = zipfile.ZIP_STORED,
    folder: str = "archive/",
) -> None:
    """A zip of a pickle and its storages."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{folder}data.pkl", pickled)
        archive.writestr(f"{folder}byteorder", "little")
        for key, array in enumerate(storages):
            archive.writestr(f"{folder}data/{key}", array.tobytes())
        archive.writestr(f"{folder}version", "3\n")
