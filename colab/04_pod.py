# %% [markdown]
# # Several devices, several machines
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/lsd-jax/lsd_jax/blob/main/colab/04_pod.ipynb)
#
# lsd_jax uses all devices that JAX sees, on one machine or on a pod. There is one code path for any number of them, and the
# results do not depend on how many there are. This notebook checks that: it finds the same student on one device, on eight
# devices, and in two processes of four devices each, which is what a pod is.
#
# | word | meaning |
# |---|---|
# | NFE | network evaluations per sample: the cost of a sampler |
# | M | the number of steps of a few-step sampler |
# | teacher, student | paths from noise to data in many small steps, and the sampler of M steps that is fitted to them |
# | mesh | all devices of all processes in a row; here its one axis is called `data` |
# | process | one Python program; a pod runs one per machine |

# %% [markdown]
# ## Install
#
# The next cell installs lsd_jax on Colab. It does nothing where lsd_jax is there already.

# %%
import importlib.util
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("lsd_jax") is None:
    source = "git+https://github.com/lsd-jax/lsd_jax"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)

# %% [markdown]
# `SIZE = "fast"` takes one to two minutes on 2 CPU cores. `"full"` takes longer sequences and more paths, `"tiny"` is for tests. The
# environment variable `LSD_JAX_SIZE` goes before the cell's value.
#
# `REAL = False` splits the CPU into eight devices. They share its cores, so nothing gets faster: they are for trying things out.
# `REAL = True` takes the GPUs or TPUs that are there. The number of devices has to be set before JAX is used for the first time.

# %%
import json
import os
import pathlib
import socket

import jax
import matplotlib.pyplot as plt
import numpy as np

from lsd_jax import parallel

SIZE = "fast"
SIZE = os.environ.get("LSD_JAX_SIZE", SIZE)
LENGTH = {"full": 128, "fast": 32, "tiny": 8}[SIZE]  # tokens per sequence
REAL = False
if not REAL:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
plt.rcParams["figure.dpi"] = 90
print(*jax.devices(), sep="\n")

# %% [markdown]
# ## How work is spread
#
# `parallel.data_mesh()` is the mesh of all devices. A batch of sequences is cut along its first axis, one part per device. Every
# device holds the whole network. Nothing else is cut, so a network has to fit on one device.

# %%
mesh = parallel.data_mesh()
batch = parallel.shard_global(np.zeros((16, 64), np.int32), mesh)
print(mesh)
for shard in batch.addressable_shards:
    print(shard.device, "holds rows", np.arange(16)[shard.index[0]])

# %% [markdown]
# ## The job
#
# One program does everything: it distills one student and draws samples from it. The model is the exact denoiser of a small
# known language, *countdown*, so no network has to be loaded. Nothing in `job` mentions devices. The lines below it are what a
# process of a pod needs: `jax.distributed.initialize` comes before any other use of JAX. On a TPU pod and under SLURM it finds the
# other processes by itself and takes no arguments.

# %%
JOB = """
import sys

import jax
import numpy as np

import lsd_jax as lsd


def job(name, length):
    task = lsd.make_task(lsd.Data(name="countdown", vocab_size=8, sequence_length=length, mix=0.01))
    model = task.oracle(lsd.Absorbing(task.vocab_size, lsd.LogLinear()))
    settings = lsd.StudentSettings(grid_points=length)
    data = task.real(np.random.default_rng(0), 1024)
    paths = max(length, 32)  # four for each of eight devices: the fourth part of them judges what is fitted on the others
    students = lsd.distill(model, steps=(4,), data=data, paths=paths, student=settings)
    tokens = lsd.sample(model, students[4], jax.random.key(0), count=64)
    if jax.process_index() == 0:  # one process writes
        students[4].save(f"{name}.json")
        np.save(f"{name}.npy", tokens)


if __name__ == "__main__":
    name, length, devices, process, processes, port = sys.argv[1], *map(int, sys.argv[2:])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", processes, process)
    job(name, length)
"""
size = pathlib.Path("pod_job.py").write_text(JOB)
print(f"pod_job.py: {size} characters")

# %% [markdown]
# **All devices of this process.** The job runs here.

# %%
sys.path.insert(0, ".")
pod_job = importlib.import_module("pod_job")
pod_job.job("all_devices", LENGTH)

# %% [markdown]
# **One device.** The job runs in a process of its own, with one CPU device.
#
# **Two processes of four devices.** They find each other at an address, as the machines of a pod do. Each holds a part of
# every batch.


# %%
def launch(name: str, devices: int, processes: int) -> None:
    """Runs the job in new processes and waits for them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = [sys.executable, "pod_job.py", name, str(LENGTH), str(devices)]
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [subprocess.Popen([*shared, str(index), str(processes), str(port)], **told) for index in range(processes)]
    logs = [process.communicate()[0] for process in running]
    codes = [process.returncode for process in running]
    print(f"{name}: exit codes {codes}")
    if any(codes):
        raise RuntimeError("\n".join(logs))


launch("one_device", devices=1, processes=1)
launch("two_processes", devices=4, processes=2)

# %% [markdown]
# ## The same student
#
# Sums over sequences are made in another order on other devices, so the last digits may differ. The choices may not: the order and
# the time grid are the same. Sample i depends on the random key and on i alone, so the tokens are the same too.

# %%
names = ("one_device", "all_devices", "two_processes")
found = {name: json.loads(pathlib.Path(f"{name}.json").read_text()) for name in names}
tokens = {name: np.load(f"{name}.npy") for name in names}
first = found["one_device"]
for name, student in found.items():
    order = student["coupling"]
    grid = np.abs(np.subtract(student["time_grid"], first["time_grid"])).max()
    same = (tokens[name] == tokens["one_device"]).mean()
    cost = student["metrics"]["cost_nats"]
    print(
        f"{name:14} {order['generator']} order, grid differs by {grid:.0e}, {same:.0%} of tokens alike, {cost:.4f} nats"
    )
    assert order == first["coupling"] and grid < 1e-5 and same == 1

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for name, marker, size in zip(names, "os^", (13, 8, 4)):
    panels[0].plot(found[name]["time_grid"], marker=marker, markersize=size, linewidth=0.8, label=name)
panels[0].plot([1, 0.75, 0.5, 0.25, 0], color="gray", linestyle=":", label="uniform")
panels[0].set(title="time grid of the student, M = 4", xlabel="step", ylabel="time", xticks=range(5))
panels[0].legend(frameon=False)
panels[1].imshow(tokens["all_devices"], cmap="viridis", aspect="auto", interpolation="nearest")
for row in range(0, 64, 64 // mesh.size)[1:]:
    panels[1].axhline(row - 0.5, color="white")
panels[1].set(title="the samples, white lines between devices", xlabel="position", ylabel="sample")
plt.show()

# %% [markdown]
# ## On a pod
#
# These commands run the main job, `configs/text.py`, by name. They were not run on a pod for this notebook. What was run is the job
# above, in two processes.
#
# **A TPU pod slice, or SLURM.** Every machine starts the same command. `--distributed` calls `jax.distributed.initialize()`, which
# finds the others:
#
#     python -m lsd_jax.main --config=text --distributed --workdir=/shared/runs/text
#
# **Machines of your own.** Say where process 0 listens, how many processes there are, and which this one is:
#
#     python -m lsd_jax.main --config=text --distributed --coordinator=10.0.0.1:1234 --num_processes=4 --process_id=0
#     python -m lsd_jax.main --config=text --distributed --coordinator=10.0.0.1:1234 --num_processes=4 --process_id=1   # and so on
#
# **One machine, several processes,** from a clone of the repository; `--dry_run` prints the commands instead:
#
#     python launch/local.py --processes=2 -- --config=text --workdir=runs/two
#
# **One process, a CPU that is split:**
#
#     python -m lsd_jax.main --config=text --config.cpu_devices=8
#
# What to know:
#
# * Process 0 alone writes, and the others go by what it has. The machines need no shared disk.
# * The number of teacher paths and every batch size must be a multiple of the number of devices. `lsd.sample` and
#   `lsd.likelihood` round their batches up by themselves.
# * Take at least four teacher paths per device. With fewer no path is left to judge on that nothing was fitted on, and the choice may
#   be another one than on one device.
# * An error on one machine ends all, with its message. A process that dies without a word is missed after 30 seconds.
# * The same command again goes on where it was stopped.
