"""The error of an input that cannot be used, and the checks of plain values that raise it."""

import numbers
import os
import pathlib
import re
from typing import Any


class InputError(ValueError):
    """A user's input cannot be used: one line that names the parameter, the config's field or the file, and what to do.

    The command line prints it without a traceback. Any other error is a bug of ours or of a library, and keeps its traceback.
    """


def check_whole(name: str, value: Any, least: int = 1) -> None:
    """Raises InputError where a value is no whole number, or below `least`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise InputError(f"{name}={value!r}: must be a whole number, {least} or more")


def check_real(name: str, value: Any) -> None:
    """Raises InputError where a value is no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name}={value!r}: must be a number")


def check_kind(name: str, value: Any, kind: type, example: str) -> None:
    """Raises InputError where a value is not of a class."""
    if not isinstance(value, kind):
        raise InputError(f"{name}={type(value).__name__}: must be {example}")


def checked_path(name: str, value: Any) -> pathlib.Path:
    """A path with the home directory filled in; raises InputError where the value is none, or the address of an object store."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"{name}={value!r}: must be a path")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", os.fspath(value)):  # as a path it would be a local folder named gs:
        raise InputError(
            f"{name}={value!r}: must be a folder or a file of this machine; mount the bucket, and name its path"
        )
    return pathlib.Path(value).expanduser()
