"""What the processes of a pod agree on: values that one of them makes, errors that all of them raise, and waiting for each other.

With one process every function here does its work at once.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lsd_jax.errors import InputError

_LINE = 8192  # bytes of a message, whatever its characters
_KINDS = (InputError, ValueError, OSError, FileNotFoundError, FileExistsError, PermissionError, RuntimeError)
_ERRORS = {kind.__name__: kind for kind in _KINDS}


def from_first(make: Callable[[], Any]) -> Any:
    """What process 0 makes, on every process: a file is read by one, and what it decides is decided alike everywhere.

    Args:
        make: () -> what JSON can hold; called on process 0 alone.

    Raises:
        ValueError, OSError: what `make` raises, on every process, so that none waits for one that has ended.
    """
    if jax.process_count() == 1:
        return make()
    told, failed = {}, None
    if jax.process_index() == 0:
        try:
            told = {"value": make()}
        except Exception as error:  # a bug too: the others would wait for its answer until their heartbeat
            failed = error
            known = type(error) in _ERRORS.values()
            told = {
                "error": type(error).__name__ if known else "RuntimeError",
                "message": str(error) if known else f"process 0 failed: {type(error).__name__}: {error}",
            }
    raw = np.frombuffer(json.dumps(told).encode(), np.uint8)
    size = int(broadcast(np.int64(len(raw))))
    told = json.loads(bytes(broadcast(raw if jax.process_index() == 0 else np.zeros(size, np.uint8))))
    if failed is not None:
        raise failed
    if "error" in told:
        raise _ERRORS[told["error"]](told["message"])
    return told["value"]


def all_or_none(do: Callable[[], None]) -> None:
    """Does something on every process that may fail on one alone, for example read its disk; then all raise that error.

    Raises:
        ValueError, OSError, RuntimeError: what `do` raised here or elsewhere; the message says on which process.
    """
    if jax.process_count() == 1:
        do()
        return
    from jax.experimental import multihost_utils

    failed, told = None, {}
    try:
        do()
    except Exception as error:
        failed = error
        kind = type(error).__name__
        told = {"error": kind if kind in _ERRORS else "RuntimeError", "message": f"{error}"[:800]}
    line = json.dumps(told).encode()[:_LINE].ljust(_LINE)
    lines = multihost_utils.process_allgather(np.frombuffer(line, np.uint8))
    if failed is not None:
        raise failed
    for index, told in enumerate(json.loads(bytes(np.asarray(line))) for line in lines):
        if told:
            raise _ERRORS[told["error"]](f"{told['message']} (process {index})")


def broadcast(array: np.ndarray) -> np.ndarray:
    """Process 0's host array on every process; the others give one of its shape and dtype."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(array))


def arrays_from_first(arrays: Sequence[np.ndarray], forms: Sequence[tuple[Sequence[int], str]]) -> list[np.ndarray]:
    """Process 0's host arrays on every process, given their (shape, dtype)."""
    if jax.process_count() == 1:
        return list(arrays)
    found = []
    for index, (shape, dtype) in enumerate(forms):
        array = arrays[index] if jax.process_index() == 0 else np.zeros(shape, dtype)
        raw = broadcast(np.frombuffer(array.tobytes(), np.uint8))  # as bytes: no dtype is narrowed on the way
        found.append(np.frombuffer(raw.tobytes(), dtype).reshape(shape))
    return found


def barrier(name: str) -> None:
    """Waits until every process is here, so that what process 0 has written is there for all."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
