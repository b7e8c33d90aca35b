"""One run per run directory: a file lock on a disk, and in an object store, which has none, an object that its owner keeps renewing."""

import contextlib
import fcntl
import json
import os
import pathlib
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from absl import logging

from lsd_jax import agreement
from lsd_jax.errors import InputError
from lsd_jax.files import in_store, is_partial, store_of

BEAT = 10.0  # seconds between two renewals of a claim in a store
PATIENCE = 40.0  # seconds without one after which its owner is taken for dead


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Holds a run directory for one run, from its first process.

    On a disk the lock goes with that process, however it ends. In a store a run that was killed leaves its claim: on its own machine
    the next start sees that the process is gone, on another one it watches the claim for `PATIENCE` seconds.

    Raises:
        FileExistsError: another run is in it; on every process.
        ValueError: a store's object `lock` is something else.
    """
    lock = _claimed if in_store(workdir) else _flocked
    with contextlib.ExitStack() as held:
        agreement.from_first(lambda: held.enter_context(lock(workdir)))
        yield


@contextlib.contextmanager
def _flocked(workdir: pathlib.Path) -> Iterator[None]:
    with (workdir / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise _taken(workdir, file.read().strip()) from None
        for path in filter(is_partial, [*workdir.rglob(".*")]):
            path.unlink()  # of a run that was killed
        file.truncate(0)
        file.write(_self())
        file.flush()
        yield


@contextlib.contextmanager
def _claimed(workdir: pathlib.Path) -> Iterator[None]:
    claim = Claim(workdir)
    claim.take()
    ended = threading.Event()
    beats = threading.Thread(target=claim.renew_until, args=(ended,), daemon=True, name="claim")
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        claim.drop()


class Claim:
    """The object `lock` of a run directory in a store: who the owner is, and a number that it raises every `BEAT` seconds."""

    def __init__(self, workdir: pathlib.Path):
        self._workdir, self._address, self._store = workdir, f"{workdir}/lock", store_of(workdir)
        self._own = {"run": uuid.uuid4().hex, "owner": _self(), "machine": _machine(), "process": os.getpid()}
        self._own |= {"started": _started(os.getpid()), "beat": 0}

    def take(self) -> None:
        """Makes the claim, in place of one whose owner is dead.

        Raises:
            FileExistsError: the owner of the one that is there is alive.
        """
        held = self._read()
        if held:
            if self._is_alive(held):
                raise _taken(self._workdir, held["owner"])
            logging.warning("%s was left by %s, which has ended", self._address, held["owner"])
            self._remove(held["run"])
        try:
            self._store.pipe_file(self._address, json.dumps(self._own).encode(), mode="create")
        except FileExistsError:  # of two that start at once the store lets one through
            raise _taken(self._workdir, (self._read() or {}).get("owner", "")) from None

    def renew_until(self, ended: threading.Event) -> None:
        """Raises the claim's number until the event; ends the process where another run has taken the directory over."""
        while not ended.wait(BEAT):
            try:
                held = self._read()
                if held and held["run"] != self._own["run"]:
                    logging.error("error: %s; this one ends", _taken(self._workdir, held["owner"]))
                    os._exit(1)  # from a thread: nothing may be written any more
                self._own["beat"] += 1
                self._store.pipe_file(self._address, json.dumps(self._own).encode())
            except Exception as error:  # the store is away for a moment: the next beat tries again
                logging.warning("%s could not be renewed: %s", self._address, error)

    def drop(self) -> None:
        """Takes the claim back, if it is still this run's; what was made stands where the store is away."""
        try:
            self._remove(self._own["run"])
        except Exception as error:  # gcsfs and s3fs each raise their own
            logging.warning("%s could not be removed: %s", self._address, error)

    def _read(self) -> dict[str, Any] | None:
        try:
            held = json.loads(self._store.cat_file(self._address))
        except FileNotFoundError:
            return None
        except ValueError:
            held = None
        if not isinstance(held, dict) or {"run", "owner"} - held.keys():  # of a directory that was copied from a disk
            raise InputError(
                f"workdir={str(self._workdir)!r}: its object `lock` is no claim of a run; delete {self._address}"
            )
        return held

    def _remove(self, run: str) -> None:
        if (self._read() or {}).get("run") == run:
            with contextlib.suppress(FileNotFoundError):
                self._store.rm_file(self._address)

    def _is_alive(self, held: dict[str, Any]) -> bool:
        if held.get("machine") and held["machine"] == self._own["machine"]:
            return _started(held["process"]) == held["started"]
        logging.info("%s names %s: watching for %g s whether it is alive", self._address, held["owner"], PATIENCE)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            time.sleep(min(1.0, PATIENCE / 10))
            now = self._read()
            if now != held:
                return now is not None
        return False


def _taken(workdir: pathlib.Path, owner: str) -> FileExistsError:
    return FileExistsError(f"workdir={str(workdir)!r}: another run is in it ({owner})")


def _self() -> str:
    return f"process {os.getpid()} on {platform.node()}"


def _machine() -> str:
    """What two processes share that see each other's numbers: a start of the kernel, and a container; "" where it is not known."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _started(process: int) -> str:
    """When a process of this machine was started, in clock ticks since the machine was; "" if none of that number runs."""
    try:
        # Behind the name in parentheses, which may hold spaces, the fields from the third on: the state, and the 22nd is the start.
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
