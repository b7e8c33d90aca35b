"""Checkpoints that another number of processes and devices goes on from, and a signal to one of two processes in training."""

import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

from lsd_jax.checkpoints import STOPPED
from measurements.faults import cache_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Trains and distills in a folder, and writes what came out. With `stop` the last process gets SIGTERM in the step of that number,
# once in training and, when it is started again, once in the optimization.
_WORK = """
import os, pathlib, runpy, signal, sys
import jax
address, count, index, devices, folder, stop = sys.argv[1], *map(int, sys.argv[2:5]), pathlib.Path(sys.argv[5]), int(sys.argv[6])
jax.config.update("jax_num_cpu_devices", devices)
from lsd_jax import parallel, startup
if count > 1:
    startup.join(address, count, index, None, 100)
import dataclasses
import jax.numpy as jnp
import numpy as np
from lsd_jax.distill import optimize as optimization
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import init_student
from lsd_jax.models.ddit import DDiTConfig
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.tasks import chains
from lsd_jax.tasks.registry import make_task
from lsd_jax.tasks.task import Data
from lsd_jax.training import train as training
chain = runpy.run_path("tests/distill/chain.py")

def signaled(function, at):
    calls = []
    def called(*args, **named):
        calls.append(1)
        if index == count - 1 and len(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*args, **named)
    return called

chains.SPLITS = {"train": (0, 100), "validation": (1, 40), "test": (2, 20)}
task = make_task(Data("countdown", vocab_size=8, sequence_length=16, mix=0.001))
settings = training.TrainingSettings(steps=8, batch_size=16, microbatch=0, learning_rate=1e-3, warmup_steps=2, decay_share=0.3,
    weight_decay=0.1, ema_decay=0.99, checkpoint_every=100, validate_every=100, validation_sequences=32)
if stop:
    parallel.shard_batch = signaled(parallel.shard_batch, stop)
params, facts = training.train(settings, DDiTConfig(8, 16, 1, 2), make_process("absorbing", 8, LogLinear()),
    task.batches(16 // count, 0), task.split("validation"), folder / "train", seed=0)
moved = {"log_coefficient": jnp.array([0.3, -0.2]), "log_temperature": jnp.array([0.3, 0.2])}
start = dataclasses.replace(init_student(TWEEDIE, chain["SPREAD"], "score", 2), **moved)
if stop:
    optimization.Progress.__call__ = signaled(optimization.Progress.__call__, 1)
student, gain = optimization.optimize(start, chain["oracle"](), chain["teacher_paths"](),
    OptimizeSettings(steps=20, batch_size=8, learning_rate=0.02, checkpoint_every=100), folder / "student")
if index == 0:
    leaves = [*jax.tree.leaves(params), *jax.tree.leaves(student), np.array([facts["validation_bits"], gain])]
    np.savez(folder / "end.npz", *map(np.asarray, leaves))
"""


def work(folder, layout, stop=0):
    """Runs with (processes, devices of each); exit codes and messages."""
    count, devices = layout
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    words = [[address, str(count), str(index), str(devices), str(folder), str(stop)] for index in range(count)]
    running = [
        subprocess.Popen([sys.executable, "-c", _WORK, *own], stderr=subprocess.PIPE, text=True) for own in words
    ]
    errors = [process.communicate(timeout=500)[1] for process in running]
    return [process.returncode for process in running], errors


def finished(folder, layout):
    """What a run that nobody stops any more ends with."""
    codes, errors = work(folder, layout)
    assert codes == [0] * layout[0], errors
    with np.load(folder / "end.npz") as saved:
        return list(saved.values())


def stopped(folder, layout):
    """A folder of a run that was stopped in the fifth step of training, and of one stopped in the optimization after it."""
    halves = folder / "training", folder / "optimization"
    codes, errors = work(halves[0], layout, stop=5)
    assert codes == [STOPPED] * layout[0], errors
    steps = {next(line for line in error.splitlines() if line.startswith("stopped at step")) for error in errors}
    assert len(steps) == 1, steps  # all at one step
    (step,) = (path.name for path in (halves[0] / "train" / "checkpoints").iterdir())
    assert f"stopped at step {step};" in steps.pop() and 5 <= int(step) <= 6
    shutil.copytree(halves[0], halves[1])
    codes, errors = work(halves[1], layout, stop=100)  # trains on, and stops in the optimization
    assert codes == [STOPPED] * layout[0], errors
    assert [path.name for path in (halves[1] / "student" / "checkpoints").iterdir()] == ["10"]
    return halves


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(tmp_path_factory):
    """Runs of one layout share their programs."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cache_of(tmp_path_factory.mktemp("programs")).items():
            patch.setenv(name, value)
        yield


TWO, ONE, SINGLE = (2, 4), (1, 8), (1, 1)


@pytest.mark.parametrize(("saved", "others"), [(TWO, (ONE, SINGLE)), (ONE, (TWO,)), (SINGLE, (TWO,))])
def test_what_some_processes_and_devices_saved_others_go_on_with(tmp_path, saved, others):
    wanted = finished(tmp_path / "straight", saved)
    for half in stopped(tmp_path, saved):
        for layout in (saved, *others):
            copy = tmp_path / f"{half.name}_{layout}"
            shutil.copytree(half, copy)
            found = finished(copy, layout)
            if layout == saved:
                for one, other in zip(wanted, found, strict=True):
                    np.testing.assert_array_equal(one, other)
            else:
                for one, other in zip(wanted, found, strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
