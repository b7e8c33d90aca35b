"""One code path for any number of devices: a mesh with the single axis `data`, batches sharded over it."""

import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lsd_jax.errors import InputError

# Every shard_map here turns the check of varying axes off: a scan inside a sampler or an oracle would otherwise have to
# know that it runs on a shard. Gradients are therefore taken locally, with no collective inside what is differentiated,
# and averaged once; tests compare them on eight devices with one.


PASS_BYTES = 2**30  # for one array over the vocabulary; a few of them are alive at a time


def data_mesh() -> Mesh:
    """All devices of all processes along the axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicate(tree, mesh: Mesh):
    """The tree with every leaf on every device, in buffers of its own (they may be donated)."""
    sharding = NamedSharding(mesh, P())
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(np.shape(leaf), sharding, lambda index: np.array(leaf)[index]), tree
    )


def replicate_arrays(tree, mesh: Mesh):
    """The tree's arrays, on the host or sharded, whole on every device."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def shard_batch(batch, mesh: Mesh):
    """Host arrays, this process's share, as global arrays whose first axis is sharded over the devices."""
    sharding = NamedSharding(mesh, P("data"))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch)


def mean_over_data(function: Callable, mesh: Mesh) -> Callable:
    """`function(replicated, batch)` on every device on its shard of the batch; the mean of its results over devices."""

    def local(replicated, batch):
        return jax.lax.pmean(function(replicated, batch), "data")

    return jax.shard_map(local, mesh=mesh, in_specs=(P(), P("data")), out_specs=P(), check_vma=False)


def map_over_data(function: Callable, mesh: Mesh) -> Callable:
    """`function(replicated, batch)` on every device on its shard; its results sharded like the batch."""
    return jax.shard_map(function, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"), check_vma=False)


def in_passes(function: Callable, batch, row_bytes: int):
    """`function(part)` on equal parts of a device's shard, one after the other, results stacked (passes, ...).

    Args:
        batch: arrays whose first axis is the sequence.
        row_bytes: of the largest array that `function` makes per sequence; a pass of more than one stays within PASS_BYTES of them.
    """
    count = jax.tree.leaves(batch)[0].shape[0]
    sizes = [size for size in range(2, count + 1) if count % size == 0 and size * row_bytes <= PASS_BYTES]
    size = max(sizes, default=1)
    parts = jax.tree.map(lambda leaf: leaf.reshape(count // size, size, *leaf.shape[1:]), batch)
    if size == count:
        return jax.tree.map(lambda leaf: leaf[None], function(batch))
    return jax.lax.map(function, parts)


def value_and_grad_over_data(loss_fn: Callable, mesh: Mesh, microbatch: int = 0, has_aux: bool = False) -> Callable:
    """The mean over all devices of `loss_fn(params, frozen, batch)` and its gradient with respect to `params`.

    Args:
        loss_fn: scalar mean loss of the batch it is given; with `has_aux`, (loss, a pytree of means).
        microbatch: sequences per pass on each device; the passes are accumulated. 0 takes all at once.

    Returns:
        A function of replicated params, replicated frozen values and a sharded batch, as `jax.value_and_grad` returns.
    """

    def local(params, frozen, batch):
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=has_aux)
        size = jax.tree.leaves(batch)[0].shape[0]
        if microbatch in (0, size):
            return jax.lax.pmean(value_and_grad(params, frozen, batch), "data")
        passes = size // microbatch
        parts = jax.tree.map(lambda leaf: leaf.reshape(passes, microbatch, *leaf.shape[1:]), batch)
        first = jax.tree.map(lambda leaf: leaf[0], parts)
        shapes = jax.eval_shape(value_and_grad, params, frozen, first)

        def accumulate(total, part):
            return jax.tree.map(lambda a, b: a + b / passes, total, value_and_grad(params, frozen, part)), None

        start = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.pmean(jax.lax.scan(accumulate, start, parts)[0], "data")

    return jax.shard_map(local, mesh=mesh, in_specs=(P(), P(), P("data")), out_specs=P(), check_vma=False)


def shard_global(array, mesh: Mesh) -> jax.Array:
    """An array that every process holds whole, PRNG keys too, with its first axis sharded over the devices."""
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(shard_global(jax.random.key_data(array), mesh))
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh, P("data")), lambda index: array[index])


def gather(array: jax.Array) -> np.ndarray:
    """A sharded array as a whole host array on every process."""
    if jax.process_count() == 1:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


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


_LINE = 8192  # bytes of a message, whatever its characters
_KINDS = (InputError, ValueError, OSError, FileNotFoundError, FileExistsError, PermissionError, RuntimeError)
_ERRORS = {kind.__name__: kind for kind in _KINDS}


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


def in_batches(function: Callable, batch_size: int, *arrays, progress: Callable[[int], None] | None = None):
    """`function(*batch)` over sharded batches of one shape, results on the host; the last batch is filled with copies,
    which are dropped again. `progress` is told how many rows are done after every batch.

    Raises:
        ValueError: the devices do not divide the batch.
    """
    mesh = data_mesh()
    if batch_size % mesh.size:
        raise InputError(f"batch_size={batch_size}: is not divisible by {mesh.size} devices")
    count = len(arrays[0])
    order = np.arange(-(-count // batch_size) * batch_size) % count
    results = []
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        parts = [shard_global(array[index], mesh) for array in arrays]
        results.append(jax.tree.map(gather, function(*parts)))
        if progress:
            progress(min(start + batch_size, count))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)


_HEARTBEAT = 30  # seconds after which a process that has died without a word is missed, and the others end
_PORT = "55527"  # of a coordinator that is given without one
_TOLD_EVERY = 15.0  # seconds between two lines about who is missing
_RETRY = 0.5  # seconds
_HOW = "outside a pod or SLURM give --coordinator, --num_processes and --process_id"

Start = tuple[str, int, int, Sequence[int] | None]  # coordinator, number of processes, this process, local devices


def join(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    local_device_ids: Sequence[int] | None,
    timeout: int,
) -> None:
    """Joins the other processes of this run through `jax.distributed.initialize`, once all of them are there.

    Args:
        coordinator, num_processes, process_id, local_device_ids: None asks the environment.
        timeout: seconds to wait for the others.

    Raises:
        InputError: the environment does not say who the others are, or not all of them came in time.
    """
    address, count, index, devices = start_of(coordinator, num_processes, process_id, local_device_ids, timeout)
    if count > 1:
        roll_call(address, count, index, timeout)
    try:
        jax.distributed.initialize(
            address,
            count,
            index,
            devices,
            cluster_detection_method="deactivate",  # it has been asked; again it would give each local process one GPU
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
    except (ValueError, RuntimeError) as error:  # jax's own
        raise InputError(f"--distributed: {str(error).splitlines()[0]}") from error


def start_of(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    local_device_ids: Sequence[int] | None,
    timeout: int,
) -> Start:
    """Who the processes of this run are: as given, else by JAX's and xpk's variables, else by JAX's cluster detection.

    Raises:
        InputError: neither the arguments nor the environment say so.
    """
    if coordinator and None in (num_processes, process_id):
        raise InputError(f"--coordinator={coordinator}: give --num_processes and --process_id too")
    found = (coordinator, num_processes, process_id, local_device_ids)
    if coordinator is None:
        coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS")
        if coordinator:  # xpk's pods name the coordinator without a port, and say the rest in variables of their own
            num_processes = _number("NNODES") if num_processes is None else num_processes
            process_id = _number("NODE_RANK") if process_id is None else process_id
            coordinator = _with_port(coordinator)
        found = (coordinator, num_processes, process_id, local_device_ids)
        if None in found[:3]:
            # Asked here and not inside initialize, since the roll is called before it.
            from jax._src.clusters import ClusterEnv

            try:
                found = ClusterEnv.auto_detect_unset_distributed_params(*found, None, timeout)
            except Exception as error:  # of JAX's detection, and of the clients of Kubernetes and of metadata servers
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise InputError(f"--distributed: {reason} ({_HOW})") from error
    coordinator, num_processes, process_id, local_device_ids = found
    for name, value in (("address of process 0", coordinator), ("number of processes", num_processes)):
        if value is None:
            raise InputError(f"--distributed: the environment does not tell the {name} ({_HOW})")
    if process_id is None:
        raise InputError(f"--distributed: the environment does not tell which process this is ({_HOW})")
    if not 0 <= process_id < num_processes:
        raise InputError(
            f"--process_id={process_id}: must be from 0 to {num_processes - 1}, one less than --num_processes"
        )
    return _with_port(coordinator), num_processes, process_id, local_device_ids


def _number(variable: str) -> int | None:
    value = os.environ.get(variable)
    if value is not None and not value.isdecimal():
        raise InputError(f"{variable}={value!r}: this environment variable must be a whole number")
    return None if value is None else int(value)


def _with_port(address: str) -> str:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        return f"{address}:{os.environ.get('JAX_COORDINATOR_PORT', _PORT)}"
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise InputError(f"--coordinator={address}: must be HOST:PORT")
    return address


def roll_call(address: str, count: int, index: int, timeout: float) -> None:
    """Returns on every process once all are there; process 0 logs who is missing.

    It uses the coordinator's own address before JAX does. JAX itself would wait without a word, and then end with a stack trace
    that does not say for whom it waited.

    Raises:
        InputError: not all came in time, or two said that they are the same process.
    """
    if index == 0:
        _call_roll(address, count, timeout)
    else:
        _answer_roll(address, count, index, timeout)


def _call_roll(address: str, count: int, timeout: float) -> None:
    port = int(os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", address).rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, backlog=count, dualstack_ipv6=both)
    except OSError as error:
        raise InputError(f"--coordinator={address}: process 0 cannot listen on port {port}: {error.strerror}") from None
    began = time.monotonic()
    told, here, failed = began, {}, ""
    with server, selectors.DefaultSelector() as selector:
        server.setblocking(False)
        selector.register(server, selectors.EVENT_READ)
        while len(here) < count - 1 and not failed:
            for key, _ in selector.select(_RETRY):
                if key.fileobj is server:
                    selector.register(server.accept()[0], selectors.EVENT_READ)
                    continue
                try:
                    line = key.fileobj.recv(64)
                except OSError:
                    line = b""
                words = line.split()
                if len(words) != 3 or words[0] != b"lsd_jax" or not (words[1] + words[2]).isdigit():
                    # It has ended, and may come again; or a stranger, such as a health check.
                    here = {name: peer for name, peer in here.items() if peer is not key.fileobj}
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    continue
                name, other = int(words[1]), int(words[2])
                if name in here or not 0 < name < count:
                    failed = f"two processes say that they are process {name} of {count}"
                elif other != count:
                    failed = f"process {name} counts {other} processes, and process 0 counts {count}"
                here[name] = key.fileobj
            now = time.monotonic()
            missing = _named([name for name in range(1, count) if name not in here])
            if missing and not failed and now - began > timeout:
                failed = f"{missing} did not come within {timeout:g} s; every worker must run the same command"
            elif missing and now - told > _TOLD_EVERY:
                told = now
                logging.warning("waiting for %s of %d processes, since %.0f s", missing, count, now - began)
        for key in list(selector.get_map().values()):
            if key.fileobj is not server:
                try:
                    key.fileobj.sendall((failed or "all here").encode())
                except OSError:  # ended in this moment: JAX's own wait misses it
                    pass
                key.fileobj.close()
    if failed:
        raise InputError(f"--distributed: {failed}")


def _named(missing: Sequence[int]) -> str:
    more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
    word = "process" if len(missing) == 1 else "processes"
    return f"{word} {', '.join(map(str, missing[:8]))}{more}" if missing else ""


def _answer_roll(address: str, count: int, index: int, timeout: float) -> None:
    host, _, port = address.rpartition(":")
    began = time.monotonic()
    told, answer, reason = began, "", "it has ended"
    while not answer:
        left = began + timeout + 2 * _RETRY - time.monotonic()  # process 0 ends first, and says who is missing
        if left <= 0:
            raise InputError(
                f"--distributed: process {index} found no process 0 at {address} within {timeout:g} s ({reason}); "
                "every worker must run the same command"
            )
        if time.monotonic() - told > _TOLD_EVERY:
            told = time.monotonic()
            logging.warning("process %d waits for process 0 at %s (%s)", index, address, reason)
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=min(left, 10)) as peer:
                reason = "it waits for others"
                peer.sendall(f"lsd_jax {index} {count}".encode())
                peer.settimeout(left)
                answer = peer.recv(512).decode(errors="replace")
        except OSError as error:
            reason = error.strerror or str(error)
        if not answer:
            time.sleep(_RETRY)
    if answer != "all here":
        raise InputError(f"--distributed: {answer}")
