"""Start-up of a run in several processes: who they are, a wait that says who is missing, and `jax.distributed`."""

import os
import selectors
import socket
import time
from collections.abc import Sequence

import jax
from absl import logging

from lsd_jax.errors import InputError

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
                logging.warning("waiting for %s of %d, since %.0f s", missing, count, now - began)
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
