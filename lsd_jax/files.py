"""Files that are written whole or not at all, whoever else writes at the same time, on a disk or in an object store.

`checked_path` makes a `pathlib.Path` of a local name, and an `epath.Path` of the address of a store. The latter has the methods of
the former, so code that is given a folder does not ask which it is; what a store cannot do is in this file.
"""

import contextlib
import io
import os
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from lsd_jax.errors import InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_PARTIAL = ".partial"
_STORES = {"gs": "gcs", "s3": "s3"}  # scheme of an address -> the extra that installs what reads it
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def checked_path(name: str, value: Any) -> pathlib.Path:
    """A path with the home directory filled in, or the address of an object store as an `epath.Path`.

    Raises:
        InputError: the value is no path; a store of another kind, one that does not answer, or whose library is not installed.
    """
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name}={value!r}: must be a path")
    address = _ADDRESS.match(os.fspath(value))
    return _in_store(name, os.fspath(value), address[1]) if address else pathlib.Path(value).expanduser()


def _in_store(name: str, address: str, scheme: str) -> pathlib.Path:
    if scheme not in _STORES:
        raise InputError(
            f"{name}={address!r}: must be a folder or a file of this machine, or lie on gs:// or s3://; else mount the store, and "
            "name its path"
        )
    if not address.removeprefix(f"{scheme}://").strip("/"):
        raise InputError(f"{name}={address!r}: names no bucket")
    # Of the two ways of epath to a store one, whatever else is installed: TensorFlow's knows no exclusive creation.
    os.environ.setdefault("EPATH_USE_TF", "false")
    import fsspec
    from etils import epath

    # What another process has written is seen at once: by default a listing is kept for the life of a process.
    fsspec.config.conf.setdefault(_STORES[scheme], {}).setdefault("use_listings_cache", False)
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError:
        package = f"{_STORES[scheme]}fs"
        raise InputError(
            f"{name}={address!r}: needs {package}, which is not installed: pip install {package}"
        ) from None
    path = epath.Path(address)
    try:
        store_of(path).ls(address, detail=False)
    except FileNotFoundError:
        pass  # nothing is there yet
    except Exception as error:  # gcsfs and s3fs each raise their own
        raise InputError(f"{name}={address!r}: the store does not answer: {_one_line(error)}") from None
    return path


def in_store(path: pathlib.Path) -> bool:
    """Whether a path lies in an object store."""
    return _ADDRESS.match(os.fspath(path)) is not None


def store_of(path: pathlib.Path) -> "AbstractFileSystem":
    """What reads and writes the store that a path lies in, with what `epath.Path` leaves out."""
    import fsspec

    return fsspec.core.url_to_fs(os.fspath(path))[0]


@contextlib.contextmanager
def local_copy(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The file, or of one in a store a copy on this machine's disk, for libraries that read disks alone.

    Raises:
        FileNotFoundError: no such file.
    """
    if not in_store(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, path.name)
        copy.write_bytes(path.read_bytes())
        yield copy


def move(path: pathlib.Path, target: pathlib.Path) -> None:
    """Renames a file or a folder; in a store, which has no names but those of its objects, each of these is copied."""
    if in_store(path):
        store, objects = store_of(path), store_of(path).find(os.fspath(path))
        below = os.fspath(path).partition("://")[2]
        for name in objects:
            store.cp_file(name, os.fspath(target) + name.removeprefix(below))
        for name in objects:
            store.rm_file(name)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def is_partial(path: pathlib.Path) -> bool:
    """Whether a file is what `write_whole` had written of another one when its process was killed."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL)


def write_whole(path: pathlib.Path, content: str | Callable[[BinaryIO], None]) -> None:
    """Writes a file under a temporary name of its own, and renames it when its bytes are on the disk.

    In a store nothing is renamed: an object appears when all of it has arrived.

    Args:
        path: the file; its folder is made.
        content: text, written as UTF-8, or what writes to an open binary file.

    Raises:
        OSError: no permission, a full disk; nothing is left then.
    """
    if in_store(path):
        _put(path, content)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if isinstance(content, str):
                file.write(content.encode())
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(partial, 0o666 & ~_umask())  # a temporary file is its owner's alone
        os.replace(partial, path)
    except BaseException:
        pathlib.Path(partial).unlink(missing_ok=True)
        raise


def _put(path: pathlib.Path, content: str | Callable[[BinaryIO], None]) -> None:
    if isinstance(content, str):
        whole = content.encode()
    else:
        buffer = io.BytesIO()  # a stream to a store would keep half a file where `content` raises
        content(buffer)
        whole = buffer.getvalue()
    try:
        path.write_bytes(whole)
    except Exception as error:  # gcsfs and s3fs each raise their own
        raise OSError(f"path={str(path)!r}: cannot be written: {_one_line(error)}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
