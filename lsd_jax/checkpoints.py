"""Orbax checkpoints of a state and, for training, of the data iterator; and a clean stop on SIGTERM or SIGINT."""

import pathlib
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from typing import BinaryIO, NoReturn

import jax
from absl import logging

from lsd_jax import agreement, parallel, shards
from lsd_jax.errors import InputError
from lsd_jax.files import in_store, move, write_whole

STOPPED = (
    75  # exit code of a run that a signal stopped after a checkpoint: EX_TEMPFAIL of sysexits.h, "try again later"
)


class Manager:
    """Saves and restores (state, iterator) by step in one folder, keeping the newest `keep`.

    orbax takes seconds to import, so it is imported where a checkpoint is written or read.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 2):
        import orbax.checkpoint as ocp

        check_folder("folder", folder)
        self._folder, self._staged = folder, _Staged(folder) if _is_staged(folder) else None
        written = self._staged.folder if self._staged else folder if in_store(folder) else folder.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(written, options=options)

    def save(self, step: int, state, iterator=None) -> None:
        """Writes a checkpoint; a step that exists is left alone.

        Args:
            iterator: a grain iterator, at the same place on all processes.
        """
        if self._manager.latest_step() == step:
            return
        import orbax.checkpoint as ocp

        items = {"state": ocp.args.StandardSave(shards.unboxed(state))}
        if iterator is not None:
            # Every process is at the same place of its data; the first one writes it for any number of them.
            items["data"] = ocp.args.JsonSave(iterator.get_state())
        self._manager.save(step, args=ocp.args.Composite(**items))
        if self._staged:
            self._staged.put(step, self._manager.all_steps())

    def restore_latest(self, state, iterator=None):
        """The newest (state, iterator) that can be read, or the arguments unchanged where there is no checkpoint.

        Checkpoints that are newer and cannot be read are moved to the folder with ".unreadable" after its name; the log says so.

        Raises:
            ValueError: none can be read: truncated, or of another shape; the message names the newest one's folder.
        """
        steps, reasons, restored = sorted(self._manager.all_steps(), reverse=True), {}, {}
        if not steps:
            return state, iterator
        import orbax.checkpoint as ocp

        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, shards.unboxed(state))
        items = {"state": ocp.args.StandardRestore(target)}
        if iterator is not None:
            items["data"] = ocp.args.JsonRestore()
        for step in steps:

            def read(step=step):
                restored.update(self._manager.restore(step, args=ocp.args.Composite(**items)).items())

            try:
                agreement.all_or_none(read)  # one that is read on one process alone is read on none
            except Exception as error:  # orbax, tensorstore and zarr each raise their own
                reasons[step] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                continue
            self._set_aside(reasons)
            logging.info("resumed from step %d in %s", step, self._folder)
            state = shards.like(restored["state"], state)
            if iterator is not None:
                iterator.set_state(restored["data"])
            return state, iterator
        raise InputError(
            f"checkpoint {self._folder / str(steps[0])} cannot be read ({reasons[steps[0]]}), nor is an earlier one; delete "
            f"{self._folder} to start anew"
        )

    def _set_aside(self, reasons: dict[int, str]) -> None:
        """Moves unreadable checkpoints out of the way of those that will be written at their steps."""
        if not reasons:
            return
        aside = self._folder.with_name(self._folder.name + ".unreadable")
        for step, reason in reasons.items():
            logging.warning("checkpoint %s cannot be read (%s): moved to %s", self._folder / str(step), reason, aside)
            if jax.process_index() == 0:
                kept = aside / f"{step}-{time.time_ns()}"
                if self._staged:
                    self._staged.set_aside(step, kept)
                else:
                    move(self._folder / str(step), kept)
        agreement.barrier("unreadable checkpoints")
        self._manager.reload()

    def close(self) -> None:
        self._manager.wait_until_finished()
        self._manager.close()
        if self._staged:
            self._staged.close()


def check_folder(name: str, folder: pathlib.Path) -> None:
    """Raises InputError where several processes cannot share checkpoints below a folder."""
    if jax.process_count() > 1 and _is_staged(folder):
        raise InputError(
            f"{name}={str(folder)!r}: several processes write checkpoints together on a shared disk or on gs:// alone; mount the "
            "bucket, and name its path"
        )


def _is_staged(folder: pathlib.Path) -> bool:
    return in_store(folder) and not str(folder).startswith("gs://")


class _Staged:
    """A folder of checkpoints on this machine's disk, each kept in a store as one object: orbax writes to disks and gs:// alone."""

    def __init__(self, store: pathlib.Path):
        self._store, self._own = store, tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self._own.name)
        for file in store.glob("*.tar"):
            if not file.stem.isdigit():
                continue
            try:
                with tempfile.TemporaryFile() as local:
                    with file.open("rb") as remote:
                        shutil.copyfileobj(remote, local)
                    local.seek(0)
                    with tarfile.open(fileobj=local) as archive:
                        archive.extractall(self.folder, filter="data")
            except (tarfile.TarError, EOFError):
                # Then it cannot be read, as one that is truncated on a disk.
                (self.folder / file.stem).mkdir(exist_ok=True)

    def put(self, step: int, kept: Sequence[int]) -> None:
        """Copies the checkpoint of `step` to the store, and removes there what is not among `kept`."""

        def pack(stream: BinaryIO) -> None:
            with tarfile.open(fileobj=stream, mode="w") as archive:
                archive.add(self.folder / str(step), str(step))

        write_whole(self._store / f"{step}.tar", pack)
        for file in self._store.glob("*.tar"):
            if file.stem.isdigit() and int(file.stem) not in kept:
                file.unlink()

    def set_aside(self, step: int, target: pathlib.Path) -> None:
        """Moves the object of a checkpoint."""
        move(self._store / f"{step}.tar", target.with_name(f"{target.name}.tar"))
        shutil.rmtree(self.folder / str(step))

    def close(self) -> None:
        """Removes the folder on the disk."""
        self._own.cleanup()


class StopSignal:
    """While active, SIGTERM and SIGINT to any process of a run make all of them save and leave at the same step.

    Args:
        active: False leaves the signals alone, where nothing is kept that a stop could save.
    """

    def __init__(self, active: bool = True):
        self._active = active

    def __enter__(self) -> "StopSignal":
        self._number, self._asked = 0, None
        self._previous = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT) if self._active else ():
                self._previous[number] = signal.signal(number, self._request)
        except ValueError:  # not in the main thread: signals are then the host program's business
            logging.warning("not in the main thread: SIGTERM will not write a checkpoint")
        return self

    def _request(self, number, frame) -> None:
        del frame
        self._number = number

    def agreed(self, wait: bool = True) -> bool:
        """Whether to stop now: the same answer on all processes, which ask it at the same steps.

        Args:
            wait: False never waits for the devices; with several processes the answer is then that to the question before this one.
        """
        if not self._active:
            return False
        if jax.process_count() == 1:
            return self._number > 0
        before, self._asked = self._asked, parallel.on_any_process(self._number > 0)
        return (before is not None and bool(before)) or (wait and bool(self._asked))

    def leave(self, done: int) -> NoReturn:
        """Ends the process after the checkpoint of step `done`.

        Raises:
            SystemExit: with the exit code STOPPED.
        """
        self._number = 0
        # srun and other launchers end all processes as soon as one has ended, which must not change the exit codes.
        if jax.process_count() > 1:
            for number in self._previous:
                signal.signal(number, signal.SIG_IGN)
            self._previous.clear()
        print(f"stopped at step {done}; run the same command again to go on", file=sys.stderr, flush=True)
        raise SystemExit(STOPPED)

    def __exit__(self, *error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._number:  # it came after the last question, and does now what it does without this class
            signal.raise_signal(self._number)
