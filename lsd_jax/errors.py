"""The error of an input that cannot be used, and the checks of plain values that raise it."""

import numbers
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
