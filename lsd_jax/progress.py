"""Progress of long loops: a line with a rate and an ETA, metrics as JSON lines and TensorBoard scalars."""

import json
import pathlib
import sys
import tempfile
import time

import jax
from absl import logging

from lsd_jax.files import in_store, write_whole


class Progress:
    """Reports a loop of `total` steps: a redrawn line in a terminal or a notebook, else a log line every `every` seconds."""

    def __init__(self, name: str, total: int, start: int = 0, every: float = 10.0):
        self._name, self._total, self._start, self._every = name, total, start, every
        self._began = self._shown = time.monotonic()

    def __call__(self, step: int, **values: float) -> None:
        """Tells that `step` steps are done; `values` are printed beside."""
        now = time.monotonic()
        shown_live = sys.stderr.isatty() or "ipykernel" in sys.modules
        if step < self._total and now - self._shown < (0.2 if shown_live else self._every):
            return
        self._shown = now
        rate = max(step - self._start, 1) / max(now - self._began, 1e-9)
        eta = (self._total - step) / rate
        shown = " ".join(f"{key}={float(value):.4g}" for key, value in values.items())
        line = f"{self._name} {step}/{self._total} {rate:.3g} steps/s ETA {eta:.0f}s {shown}".rstrip()
        if shown_live:
            print(f"\r\x1b[2K{line}", end="" if step < self._total else "\n", file=sys.stderr, flush=True)
        else:
            logging.info("%s", line)


class MetricWriter:
    """Appends scalars to `metrics.jsonl` and to TensorBoard event files in one folder, on the first process only.

    An object of a store cannot be appended to: the files are then on this machine's disk, and are copied there every `every` seconds.
    """

    def __init__(self, folder: pathlib.Path, every: float = 30.0):
        self._active = jax.process_index() == 0
        if self._active:
            from tensorboardX import SummaryWriter

            self._folder, self._every, self._copied, self._own = folder, every, time.monotonic(), None
            if in_store(folder):
                self._own = tempfile.TemporaryDirectory()
                kept, folder = folder / "metrics.jsonl", pathlib.Path(self._own.name)
                if kept.exists():
                    (folder / kept.name).write_bytes(kept.read_bytes())
            folder.mkdir(parents=True, exist_ok=True)
            self._lines = (folder / "metrics.jsonl").open("a")
            self._board = SummaryWriter(str(folder))

    def __call__(self, step: int, **values: float) -> None:
        """Writes `values` at `step`."""
        if not self._active:
            return
        record = {"step": step, **{key: float(value) for key, value in values.items()}}
        print(json.dumps(record), file=self._lines, flush=True)
        for key, value in record.items():
            self._board.add_scalar(key, value, step)
        if self._own and time.monotonic() - self._copied > self._every:
            self._board.flush()
            self._copy()

    def close(self) -> None:
        if self._active:
            self._lines.close()
            self._board.close()
            if self._own:
                self._copy()
                self._own.cleanup()

    def _copy(self) -> None:
        for file in pathlib.Path(self._own.name).iterdir():
            content = file.read_bytes()
            write_whole(self._folder / file.name, lambda stream, content=content: stream.write(content))
        self._copied = time.monotonic()
