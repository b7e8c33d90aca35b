# %% [markdown]
# # Molecules: SMILES strings with 4, 8 or 16 network calls
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/lsd-jax/lsd_jax/blob/main/colab/03_molecules.ipynb)
#
# A *SMILES string* writes a molecule as a line of atoms, bonds, brackets and ring numbers. A discrete diffusion model fills in
# such a line from masks. One wrong token and it is no molecule, so this is a hard test of samplers that draw many tokens in one
# step. This notebook takes a network that ships with lsd_jax, finds samplers of 4, 8 and 16 evaluations for it, and compares them
# with a plain sampler, at the same cost and at a much higher one.
#
# | word | meaning |
# |---|---|
# | NFE | network evaluations per sample: the cost of a sampler |
# | M | the number of steps of a few-step sampler; here every step makes one evaluation, so NFE = M |
# | student | the few-step sampler that is found: a time grid, and an order of the positions |
# | Euler | the plain sampler: equal steps, and positions are revealed in random order |
# | valid | RDKit reads the string as a molecule |
#
# The network itself is never changed.

# %% [markdown]
# ## Install
#
# The next cell installs lsd_jax on Colab, with RDKit, and the data: three wheels of which files are read, and no code is run.
# It does nothing where lsd_jax is there already. There you may have to run
# `pip install rdkit` and `pip install --no-deps qm9pack==1.0.3` yourself; what is missing says so.
# Frechet ChemNet distances need `fcd-torch==1.0.7` too, and MOSES needs `molsets==0.3.1`.

# %%
import importlib.util
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("lsd_jax") is None:
    source = "git+https://github.com/lsd-jax/lsd_jax"
    wheels = ["qm9pack==1.0.3", "molsets==0.3.1", "fcd-torch==1.0.7"]
    for what in ([f"lsd_jax[molecules] @ {source}"], ["--no-deps", *wheels]):
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *what], check=True)

# %% [markdown]
# `SIZE = "fast"` takes three to five minutes on 2 CPU cores, and one more when the data are prepared for the first time. `"full"`
# draws 2,000 molecules per sampler, with less noise in all numbers; it wants a GPU, or an hour. `"tiny"` is for tests: every cell
# runs, and its numbers mean nothing. The environment variable `LSD_JAX_SIZE` goes before the cell's value.
#
# `SET = "qm9"` is 131 thousand small molecules, of up to nine heavy atoms. `SET = "moses"` is 1.6 million molecules of the size of
# drugs: a network four times as large, and strings of 36 tokens in the mean. Everything takes some ten times as long, and 16
# evaluations give fewer valid molecules.
#
# `DATA` is where molecules to fit on and to test with come from. Here it is the set that the network was trained on. It may be a file
# of your own with one SMILES string per line, all of tokens that the network knows (`LSD_JAX_MOLECULES` goes before the cell's value).

# %%
import os

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap

import lsd_jax as lsd
from lsd_jax.samplers.simulate import simulate

SIZE = "fast"
SIZES = {
    "full": {"steps": (4, 8, 16), "many": 64, "paths": 64, "samples": 2000, "held_out": 128, "orders": 16},
    "fast": {"steps": (4, 8, 16), "many": 64, "paths": 16, "samples": 128, "held_out": 12, "orders": 16},
    "tiny": {"steps": (4,), "many": 16, "paths": 16, "samples": 64, "held_out": 2, "orders": 2},
}
SIZE = os.environ.get("LSD_JAX_SIZE", SIZE)
size = SIZES[SIZE]
SET = "qm9"
DATA = os.environ.get("LSD_JAX_MOLECULES", SET)
plt.rcParams["figure.dpi"] = 80

# %% [markdown]
# ## The model and its data
#
# The task holds the data and the metrics. Its vocabulary is the tokens of the strings, and a pad that follows a short string.
# Noise never touches a pad, so a sampler draws the length of a molecule first, and spends nothing on pads.

# %%
vocab_size, length = {"qm9": (31, 22), "moses": (25, 56)}[SET]
model = lsd.load_model(SET)
task = lsd.make_task(
    lsd.Data("molecules", path=DATA, vocab_size=vocab_size, sequence_length=length),
    lsd.Judge(references=2000) if SIZE == "full" else None,
)
train, test = task.split("train"), task.split("test")
print(f"{len(train):,} molecules to fit on, {len(test):,} for the test; {vocab_size} tokens:", *task.vocabulary)
print(*(task.decode(row) for row in test[:8]), sep="   ")

# %%
figure, axes = plt.subplots(figsize=(6, 2.4), layout="constrained")
axes.bar(np.arange(length + 1), model.process.lengths, color="#0072B2")
axes.set(xlabel="tokens of a molecule", ylabel="share, as drawn")
plt.show()

# %% [markdown]
# ## Distill
#
# One call finds a sampler for every M. Its paths end in training molecules, so no teacher has to be sampled. For every pair of
# times the call measures what one step from the one to the other would cost. It then takes the order and the time grid that are
# cheapest on molecules that nothing was fitted on.

# %%
students = lsd.distill(
    model,
    steps=size["steps"],
    data=train,
    paths=size["paths"],
    student=lsd.StudentSettings(grid_points=20),
)
for steps, student in students.items():
    coupling = student.coupling
    student.save(f"student{steps}.json")
    print(f"M = {steps}: NFE {student.nfe}, order {coupling.generator!r} {coupling.pattern or ''}")

# %% [markdown]
# ## What was learned: the time grid
#
# Time runs from 1, where all is masked, to 0, where nothing is. The dotted line is the uniform grid of Euler. Where a learned grid
# lies on it, nothing was learned about the times, and all that differs is the order.

# %%
figure, panels = plt.subplots(1, len(students), figsize=(9, 2.8), sharey=True, squeeze=False, layout="constrained")
for axes, (steps, student) in zip(panels[0], students.items()):
    uniform, learned = np.linspace(1, 0, steps + 1), np.asarray(student.schedule.time_grid)
    axes.plot(uniform, color="gray", linestyle=":", linewidth=3, label="uniform")
    axes.plot(learned, color="#D55E00", marker="o", markersize=5, label="student")
    axes.set(title=f"M = {steps}", xlabel="step")
    axes.grid(alpha=0.3)
    print(f"M = {steps}: farthest from the uniform grid by {np.abs(learned - uniform).max():.3f}")
panels[0, 0].set_ylabel("time")
panels[0, 0].legend(frameon=False)
plt.show()

# %% [markdown]
# ## What was learned: the order
#
# The next cell draws one molecule with each sampler and keeps the states between the steps. In the picture a column is a position
# and a row is a step. What a step reveals is orange, what was there before it is blue, what is still masked is light, and pads are
# white. A *sweep* reveals every M-th position in a step, and the next step their neighbors, from the left or from the right. Tokens of
# one step are then far apart, and nearly every token is drawn with a neighbor in view.

# %%
euler = {steps: lsd.sampler("euler", steps=steps) for steps in students}
M = min(8, max(students))  # what the picture shows
shown = {"Euler": euler[M].bound_to(model, length), "student": students[M]}
trace = jax.jit(lambda key, model, own: simulate(key, model, own, 1, keep_states=True).states[:, 0])
states = {name: np.asarray(trace(jax.random.key(5), model, own)) for name, own in shown.items()}

# %%
colors = ListedColormap(
    ["#EEEEEE", "#F0B040", "#A9C4E4", "#FFFFFF"]
)  # masked, revealed in this step, known before, pad
figure, panels = plt.subplots(2, 1, figsize=(9, 5.6), sharex=True, layout="constrained")
for axes, (name, states_KL) in zip(panels, states.items()):
    known_KL = (states_KL != model.process.mask).astype(int)
    picture_KL = np.where(states_KL[1:] == vocab_size - 1, 3, known_KL[1:] + known_KL[:-1])
    axes.imshow(picture_KL, cmap=colors, vmin=0, vmax=3, aspect="auto", interpolation="nearest")
    for step, position in zip(*np.nonzero(known_KL[1:] * (picture_KL < 3))):
        token = task.vocabulary[states_KL[step + 1, position]]
        axes.text(position, step, token, ha="center", va="center", fontsize=11 if len(token) < 3 else 7)
    axes.set(title=f"{name}, NFE {M}: {task.decode(states_KL[-1])}", ylabel="step", yticks=range(M))
    axes.set_yticklabels(range(1, M + 1))
panels[-1].set(xlabel="position", xticks=range(length))
plt.show()

# %% [markdown]
# ## Sample
#
# Students and Euler at the same NFE, and Euler with `many`, 64, which stands for the network run with many steps. Red squares are no
# molecules.

# %%
count, many = size["samples"], size["many"]
samplers = {f"student, NFE {steps}": student for steps, student in students.items()}
samplers |= {f"Euler, NFE {steps}": own for steps, own in {**euler, many: lsd.sampler("euler", steps=many)}.items()}
drawn = {
    name: lsd.sample(model, own, jax.random.key(0), count, length=length, batch_size=min(count, 500))
    for name, own in samplers.items()
}
for name, tokens in drawn.items():
    print(f"{name:16}", *(task.decode(row) for row in tokens[:4]), sep="  ")

# %%
names = (*(f"student, NFE {steps}" for steps in students), f"Euler, NFE {M}", f"Euler, NFE {many}")
rows = {"real data": test} | {name: drawn[name] for name in names}
figure, panels = plt.subplots(len(rows), 1, figsize=(10, 6.6), layout="constrained")
for axes, (name, tokens) in zip(panels, rows.items()):
    axes.imshow(np.concatenate(list(task.images(tokens[:12])), axis=1))
    axes.set(ylabel=name.replace(", ", "\n"), xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## How good are they?
#
# `task.measure` gives the metrics of MOSES' benchmark, with 95 % intervals. Shown are the share of valid molecules, how many of them
# are distinct, and how many of the distinct are not among the training molecules. Of real molecules all are new, since none is in
# two splits; a sampler is not to be judged by it, and it *falls* as one gets better: most small molecules of this kind are in the
# data. `SIZE = "full"` adds the Frechet ChemNet distance where its network is installed,
# which needs many molecules. The row of real data has as many, of the validation split.
#
# `lsd.likelihood` gives -log p of test molecules, length included, *under the few-step sampler itself*, in nats. Lower is better.
# It cannot be deceived by a sampler that repeats a few safe molecules. For most students it is exact; for Euler it is an upper bound
# in the mean, since of its many orders only 16 are drawn, so the difference is an upper limit of the student's advantage.

# %%
held_out, paths = test[: size["held_out"]], size["orders"]
found = {"real data": task.measure(task.data_row(0, count), resamples=100)}
found |= {name: task.measure(tokens, resamples=100) for name, tokens in drawn.items()}
nats = {
    name: lsd.likelihood(model, own, held_out, paths=paths, batch_size=16)
    for name, own in samplers.items()
    if own.nfe <= 16
}

# %%
metrics = [name for name in ("valid", "unique", "novelty", "fcd") if name in found["real data"]]
print(f"{'':16}" + "".join(f"{name:>9}" for name in metrics) + "   -log p, nats")
for name, own in found.items():
    line = "".join(f"{own[metric][0]:9.3f}" for metric in metrics)
    error = f"{nats[name].mean():9.2f} +- {nats[name].std(ddof=1) / len(held_out) ** 0.5:.2f}" if name in nats else ""
    print(f"{name:16}{line}{error}")
for steps in students:
    gain = nats[f"Euler, NFE {steps}"] - nats[f"student, NFE {steps}"]
    error = gain.std(ddof=1) / len(gain) ** 0.5
    print(f"NFE {steps}: Euler - student, molecule by molecule: {gain.mean():.2f} +- {error:.2f} nats (standard error)")

# %% [markdown]
# Valid molecules against the cost, with 95 % intervals.

# %%
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for kind, color in (("student", "#D55E00"), ("Euler", "#666666")):
    own = {int(name.split()[-1]): found[name]["valid"] for name in samplers if name.startswith(kind)}
    value, low, high = np.array(list(own.values())).T
    axes.errorbar(list(own), value, (value - low, high - value), color=color, marker="o", capsize=3, label=kind)
axes.set(
    xscale="log",
    xlabel="NFE",
    ylabel="valid, share",
    ylim=(0, 1),
    xticks=[*students, many],
    xticklabels=[*students, many],
)
axes.minorticks_off()
axes.grid(alpha=0.3)
axes.legend(frameon=False)
plt.show()

shares = {kind: [found[f"{kind}, NFE {steps}"]["valid"][0] for steps in students] for kind in ("student", "Euler")}
assert np.mean(shares["student"]) > np.mean(shares["Euler"])

# %% [markdown]
# ## Around a scaffold
#
# A part of the molecule can be given: `_` is a free token, and the molecule gets as many tokens as the prompt has. Nothing was trained
# for this. Of QM9 the first prompt is a ring that is to be closed, the second a ring of four with free tails, the third an aromatic
# ring with free members and a free tail.

# %%
prompts = {
    "qm9": ("O=C1____1", "___C1CCC1__", "Oc1c__cc1__"),
    "moses": ("O=C(N____________)c1ccccc1", "__________c1ccc(F)cc1", "c1ccc(______________)cc1"),
}[SET]
figure, panels = plt.subplots(len(prompts), 1, figsize=(10, 4.4), layout="constrained")
for axes, prompt in zip(panels, prompts):
    condition = task.condition(prompt, count=32)
    filled = lsd.sample(model, students[max(students)], jax.random.key(2), 32, condition=condition)
    valid = task.measure(filled, resamples=0)["valid"][0]
    texts = list(dict.fromkeys(task.decode(row) for row in filled))
    print(f"{prompt}: {valid:.0%} of 32 are valid, {len(texts)} are distinct:", *texts[:6], sep="  ")
    axes.imshow(np.concatenate(list(task.images(task.encode(texts[:10]))), axis=1))
    axes.set(xticks=[], yticks=[])
    axes.set_title(prompt, loc="left", family="monospace")
plt.show()

# %% [markdown]
# ## Where to go from here
#
# * Your own molecules: a file with one SMILES string per line. If all its tokens are among those of `SET`, name it as `DATA` above.
#   Else a network has to be trained on it first:
#   `python -m lsd_jax.main --config=molecules --config.data.path=mine.smi --config.model.weights=`.
# * What holds and what does not, with 10,000 molecules per sampler:
#   [molecules.md](https://github.com/lsd-jax/lsd_jax/blob/main/docs/results/molecules.md).
# * [02_your_model.ipynb](02_your_model.ipynb): a network of your own. [04_pod.ipynb](04_pod.ipynb): several devices.
