# %% [markdown]
# # Quickstart: a text sampler with 8 network calls
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/lsd-jax/lsd_jax/blob/main/colab/01_quickstart.ipynb)
#
# A *discrete diffusion model* writes text by starting from a row of masks and calling its network again and again.
# The number of network evaluations per sample is its cost. It is called **NFE**.
# This notebook takes a text model that ships with lsd_jax and distills samplers of 4 and 8 evaluations for it.
# It then shows what was learned, and it compares the result with a plain sampler of the same NFE.
#
# | word | meaning |
# |---|---|
# | NFE | network evaluations per sample, the last one included |
# | M | the number of steps of a few-step sampler; here every step makes one evaluation, so NFE = M |
# | teacher | the same network, run with many steps or led along real text; the student is fitted to its paths |
# | student | the few-step sampler that is found: a time grid, an order of the positions, and a few numbers per step |
# | Euler | the plain sampler: equal steps, and positions are revealed in random order |
#
# The network itself is never changed. All terms are in
# [the glossary](https://github.com/lsd-jax/lsd_jax/blob/main/docs/glossary.md).

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
# `SIZE = "fast"` takes one to two minutes on 2 CPU cores. `"full"` uses more teacher paths, samples and sequences: it takes some
# minutes, and its numbers have less noise. `"tiny"` is for tests: every cell runs, and its numbers mean nothing. The environment
# variable `LSD_JAX_SIZE` goes before the cell's value.

# %%
import json
import os
import pathlib

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import lsd_jax as lsd
from lsd_jax.samplers.simulate import simulate

SIZE = "fast"
SIZES = {
    "full": {"steps": (4, 8), "paths": 64, "grid_points": 128, "samples": 512, "held_out": 24, "orders": 64},
    "fast": {"steps": (4, 8), "paths": 8, "grid_points": 16, "samples": 32, "held_out": 4, "orders": 8},
    "tiny": {"steps": (4,), "paths": 4, "grid_points": 8, "samples": 4, "held_out": 2, "orders": 2},
}
size = SIZES[os.environ.get("LSD_JAX_SIZE", SIZE)]
plt.rcParams["figure.dpi"] = 90

# %% [markdown]
# ## The model and its data
#
# The model has 1.8 million parameters and 27 characters: the space and a to z. It was trained on the State of the Union
# addresses, in sequences of 128 characters. The task holds the data and the metrics.

# %%
model = lsd.load_model("text")
task = lsd.make_task(lsd.Data(name="text"))
print(model.process)
for row in task.split("test")[:3]:
    print(task.decode(row))

# %% [markdown]
# ## Distill
#
# One call finds a sampler for every M. The paths of the teacher end in training text, so no teacher has to be sampled.
# For every pair of times the call measures what one step from the one to the other would cost. It then takes the order and the
# time grid that are cheapest on paths that nothing was fitted on.

# %%
students = lsd.distill(
    model,
    steps=size["steps"],
    data=task.split("train"),
    paths=size["paths"],
    student=lsd.StudentSettings(grid_points=size["grid_points"]),
)
for steps, student in students.items():
    coupling = student.coupling
    print(f"M = {steps}: NFE {student.nfe}, order {coupling.generator!r} {coupling.pattern or ''}")
M = max(students)  # the cells below look at this one
student = students[M]

# %% [markdown]
# ## What was learned: the time grid
#
# Time runs from 1, where all is masked, to 0, where nothing is. A step from time t to time u reveals about a share of t - u of
# all positions. The dotted line is the uniform grid of Euler. Where a learned grid lies on it, nothing was learned about the times.

# %%
figure, panels = plt.subplots(1, len(students), figsize=(9, 3.2), sharey=True, squeeze=False, layout="constrained")
for axes, (steps, own) in zip(panels[0], students.items()):
    uniform = np.linspace(1, 0, steps + 1)
    learned = np.asarray(own.schedule.time_grid)
    axes.plot(uniform, color="gray", linestyle=":", linewidth=3, label="uniform")
    axes.plot(learned, color="#D55E00", marker="o", markersize=5, label="student")
    axes.set(title=f"M = {steps}", xlabel="step", xticks=range(steps + 1))
    axes.grid(alpha=0.3)
    print(f"M = {steps}: farthest from the uniform grid by {np.abs(learned - uniform).max():.3f}")
panels[0, 0].set_ylabel("time")
panels[0, 0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## What was learned: the order
#
# The next cell draws one sample with each sampler and keeps the states between the steps. `simulate` is the function behind
# `lsd.sample`. In the picture a column is a position and a row is a step. What a step reveals is orange, what was there before it
# is dark, and what is still masked is light.
#
# Euler reveals random positions, so that neighbors are often drawn in the same step, independently of each other. A *sweep*
# reveals every M-th position in a step, and the next step reveals their neighbors. Tokens of one step are then far apart.

# %%
euler = lsd.sampler("euler", steps=M)
shown = {"Euler": euler.bound_to(model, task.length), "student": student}
trace = jax.jit(lambda key, model, own: simulate(key, model, own, 1, keep_states=True).states[:, 0])
states = {name: np.asarray(trace(jax.random.key(0), model, own)) for name, own in shown.items()}

# %%
colors = ListedColormap(["#EEEEEE", "#E69F00", "#33445C"])  # masked, revealed in this step, known before
figure, panels = plt.subplots(2, 1, figsize=(11, 4.4), sharex=True, layout="constrained")
for axes, (name, states_KL) in zip(panels, states.items()):
    known_KL = (states_KL != model.process.mask).astype(int)
    axes.imshow(known_KL[1:] + known_KL[:-1], cmap=colors, vmin=0, vmax=2, aspect="auto", interpolation="nearest")
    axes.set(title=f"{name}, NFE {M}", ylabel="step", yticks=range(M), yticklabels=range(1, M + 1))
panels[-1].set_xlabel("position")
plt.show()

# %% [markdown]
# The same sample of the student as text, its first 96 characters. An underscore is a mask.

# %%
for step, row in enumerate(states["student"]):
    print(step, task.decode(row[:96]))

# %% [markdown]
# ## Save and load
#
# A student is a readable file of a few dozen numbers. The network is not in it.
# [Its format](https://github.com/lsd-jax/lsd_jax/blob/main/docs/student_format.md) is enough to sample in another framework.

# %%
student.save("student.json")
sampler = lsd.load_sampler("student.json")
for field, value in json.loads(pathlib.Path("student.json").read_text()).items():
    print(f"{field}: {value}"[:120])

# %% [markdown]
# ## Sample
#
# Both samplers make 8 evaluations per sample. The first 56 characters of each sample are shown, the student's at the left.

# %%
count = size["samples"]
by_student = lsd.sample(model, sampler, jax.random.key(1), count)
by_euler = lsd.sample(model, euler, jax.random.key(1), count, length=task.length)
print(f"{f'student, NFE {M}':60}Euler, NFE {M}")
for left, right in zip(by_student[:8], by_euler[:8]):
    print(f"{task.decode(left[:56]):60}{task.decode(right[:56])}")

# %% [markdown]
# Some numbers of these samples. `tv2` and `tv3` are distances between the 2-gram and 3-gram frequencies of the samples and of
# test text; lower is better. They are above zero for real text too, because the sample is small: compare with the row of real
# text, which has as many sequences. `entropy_bits` says how varied the characters of a sequence are. It should be that of real
# text. No such number is to be read alone
# ([what each can tell](https://github.com/lsd-jax/lsd_jax/blob/main/docs/metrics.md)).

# %%
for name, tokens in (
    ("student", by_student),
    ("Euler", by_euler),
    ("real text", task.real(np.random.default_rng(0), count)),
):
    found = task.measure(tokens, resamples=0)
    print(f"{name:10}" + "".join(f"  {metric} {found[metric][0]:.3f}" for metric in ("tv2", "tv3", "entropy_bits")))

# %% [markdown]
# ## Likelihood
#
# `lsd.likelihood` gives -log p(x) of held-out text *under the few-step sampler itself*. Lower is better, and no low temperature can
# deceive it. A sampler has many reveal orders, and p(x) is a mean over all of them.
#
# * A student whose order is a short table has few orders: a sweep of 8 steps has 8 shifts. If every step reveals whole ranks of
#   the table, all orders are taken, and the number is **exact**.
# * For Euler, whose orders are too many, a few are drawn (`paths`). The number is then an **upper bound** of -log p(x), in the mean.
#
# So the difference between the two is an upper limit of the student's advantage. With more `paths` Euler's bound falls.

# %%
held_out = task.split("test")[: size["held_out"]]
settings = {"paths": size["orders"], "batch_size": 16}
nats = {
    "student": lsd.likelihood(model, sampler, held_out, **settings),
    "Euler": lsd.likelihood(model, euler, held_out, **settings),
}
for name, own in nats.items():
    print(
        f"{name:8} {own.mean():6.1f} nats per sequence, {own.mean() / task.length / np.log(2):.3f} bits per character"
    )
gain = nats["Euler"] - nats["student"]
print(f"Euler - student: {gain.mean():.1f} +- {gain.std(ddof=1) / len(gain) ** 0.5:.1f} nats (standard error)")

# %% [markdown]
# One point is one held-out sequence. Points above the line are better explained by the student.

# %%
figure, axes = plt.subplots(figsize=(4.2, 4.2), layout="constrained")
axes.plot(nats["student"], nats["Euler"], "o", color="#0072B2")
ends = [min(map(min, nats.values())) - 5, max(map(max, nats.values())) + 5]
axes.plot(ends, ends, color="gray", linestyle=":")
axes.set(
    xlim=ends, ylim=ends, xlabel=f"student, NFE {M}: -log p, nats", ylabel=f"Euler, NFE {M}: -log p, nats (at most)"
)
axes.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Is the student's number exact? Then it cannot depend on the random key, as Euler's does.

# %%
for name, own in (("student", sampler), ("Euler", euler)):
    again = lsd.likelihood(model, own, held_out[:2], key=jax.random.key(1), **settings)
    print(f"{name:8} {nats[name][:2].mean():.3f} nats with one key, {again.mean():.3f} with another")

# %% [markdown]
# ## Infilling
#
# Given characters stay as they are, wherever they stand, and `_` is filled in. Here the given words are in the middle and at the
# end. Nothing was trained for this.

# %%
prompt = "_" * 40 + " the american people " + "_" * 47 + " of this congress  "
condition = task.condition(prompt, count=6)
filled = lsd.sample(model, sampler, jax.random.key(2), count=6, condition=condition)
print(prompt)
for row in filled:
    print(task.decode(row))

# %% [markdown]
# ## Where to go from here
#
# * [02_your_model.ipynb](02_your_model.ipynb): a PyTorch network in, a student out, and sampling in PyTorch.
# * [04_pod.ipynb](04_pod.ipynb): several devices and several machines.
# * [quickstart.md](https://github.com/lsd-jax/lsd_jax/blob/main/docs/quickstart.md): the command line and all experiments.
# * [results.md](https://github.com/lsd-jax/lsd_jax/blob/main/docs/results.md): what helps, what does not, and what was withdrawn.
