"""Orbax checkpoints of a state and, for training, of the data iterator; and a clean stop on SIGTERM or SIGINT."""

import pathlib
import signal
import sys
import time
from typing import NoReturn

import jax
from absl import logging

from lsd_jax import parallel
from lsd_jax.errors import InputError

STOPPED = (
    75  # exit code of a run that a signal stopped after a checkpoint: EX_TEMPFAIL of sysexits.h, "try again later"
)


class Manager:
    """Saves and restores (state, iterator) by step in one folder, keeping the newest `keep`.

    orbax and grain take seconds to import, so they are imported where a checkpoint is written or read.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 2):
        import orbax.checkpoint as ocp

        self._folder = folder.resolve()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state, iterator=None) -> None:
        """Writes a checkpoint; a step that exists is left alone."""
        if self._manager.latest_step() == step:
            return
        import orbax.checkpoint as ocp

        items = {"state": ocp.args.StandardSave(state)}
        if iterator is not None:
            import grain

            items["data"] = grain.checkpoint.CheckpointSave(iterator)
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore_latest(self, state, iterator=None):
        """The newest (state, iterator) that can be read, or the arguments unchanged where there is no checkpoint.

        Checkpoints that are newer and cannot be read are moved to the folder with ".unreadable" after its name; the log says so.

        Raises:
            ValueError: none can be read: truncated, or of another shape; the message names the newest one's folder.
        """
        steps, reasons = sorted(self._manager.all_steps(), reverse=True), {}
        if not steps:
            return state, iterator
        import orbax.checkpoint as ocp

        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        items = {"state": ocp.args.StandardRestore(target)}
        if iterator is not None:
            import grain

            items["data"] = grain.checkpoint.CheckpointRestore(iterator)
        for step in steps:
            try:
                restored = self._manager.restore(step, args=ocp.args.Composite(**items))
            except Exception as error:  # orbax, tensorstore and zarr each raise their own
                reasons[step] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                continue
            self._set_aside(reasons)
            logging.info("resumed from step %d in %s", step, self._folder)
            return restored["state"], restored.get("data", iterator) if iterator is not None else None
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
                aside.mkdir(exist_ok=True)
                (self._folder / str(step)).rename(aside / f"{step}-{time.time_ns()}")
        parallel.barrier("unreadable checkpoints")
        self._manager.reload()

    def close(self) -> None:
        self._manager.wait_until_finished()
        self._manager.close()


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
