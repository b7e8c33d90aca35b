"""Files that are written whole or not at all, whoever else writes at the same time."""

import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import BinaryIO

_PARTIAL = ".partial"


def is_partial(path: pathlib.Path) -> bool:
    """Whether a file is what `write_whole` had written of another one when its process was killed."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL)


def write_whole(path: pathlib.Path, content: str | Callable[[BinaryIO], None]) -> None:
    """Writes a file under a temporary name of its own, and renames it when its bytes are on the disk.

    Args:
        path: the file; its folder is made.
        content: text, written as UTF-8, or what writes to an open binary file.

    Raises:
        OSError: no permission, a full disk; nothing is left then.
    """
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
