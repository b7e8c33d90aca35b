# %% [markdown]
# # Your model: a PyTorch network in, a few-step sampler out
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/lsd-jax/lsd_jax/blob/main/colab/02_your_model.ipynb)
#
# This notebook trains a tiny masked diffusion model in PyTorch, in the manner of MDLM. It gives the network to lsd_jax, which
# finds samplers of 4 and 8 network evaluations for it. The result goes back to PyTorch as one small file, where it runs without
# JAX. A network of your own takes the place of the tiny one.
#
# | word | meaning |
# |---|---|
# | NFE | network evaluations per sample: the cost of a sampler |
# | M | the number of steps of a few-step sampler; here every step makes one evaluation, so NFE = M |
# | teacher | the same network, run with many steps; its samples are what the student is fitted to |
# | student | the few-step sampler that is found |
# | Euler | the plain sampler: equal steps, and positions are revealed in random order |
#
# All rules for a network, and the ways for Flax and JAX, are in
# [your_model.md](https://github.com/lsd-jax/lsd_jax/blob/main/docs/your_model.md).

# %% [markdown]
# ## Install
#
# The next cell installs lsd_jax on Colab, where PyTorch is there already. It does nothing where lsd_jax is there too.

# %%
import importlib.util
import subprocess
import sys

if "google.colab" in sys.modules and importlib.util.find_spec("lsd_jax") is None:
    source = "git+https://github.com/lsd-jax/lsd_jax"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)

# %% [markdown]
# `SIZE = "fast"` takes about a minute on 2 CPU cores. `"full"` trains longer and draws more samples. `"tiny"` is for tests: every
# cell runs, and its numbers mean nothing. The environment variable `LSD_JAX_SIZE` goes before the cell's value.

# %%
import os
import pathlib
import shutil

import jax
import matplotlib.pyplot as plt
import numpy as np
import torch

import lsd_jax as lsd

SIZE = "fast"
SIZES = {
    "full": {"steps": (4, 8), "training": 3000, "paths": 128, "grid_points": 128, "samples": 2048},
    "fast": {"steps": (4, 8), "training": 400, "paths": 32, "grid_points": 32, "samples": 256},
    "tiny": {"steps": (4,), "training": 150, "paths": 8, "grid_points": 8, "samples": 128},
}
size = SIZES[os.environ.get("LSD_JAX_SIZE", SIZE)]
plt.rcParams["figure.dpi"] = 90
torch.manual_seed(0)
torch.set_num_threads(1)  # the network is tiny: more threads would wait for each other

# %% [markdown]
# ## A toy language
#
# A sentence has six words of three letters, in the order of English. Each word is drawn from a short list. A space follows each
# word, so a sentence has 24 characters. Whether a sample is right is easy to check: are its words in the lists?

# %%
ARTICLES, ADJECTIVES = "the one any our".split(), "old big red sad wet shy".split()
NOUNS, VERBS = "cat dog cow hen fox pig".split(), "saw met bit fed hit led".split()
SENTENCE = (ARTICLES, ADJECTIVES, NOUNS, VERBS, ARTICLES, NOUNS)
ALPHABET = sorted({letter for words in SENTENCE for word in words for letter in word} | {" "})
LENGTH, VOCABULARY = 24, len(ALPHABET)
MASK = VOCABULARY  # the index after the data's tokens


def make_sentences(rng: np.random.Generator, count: int) -> np.ndarray:
    lines = ["".join(rng.choice(words) + " " for words in SENTENCE) for _ in range(count)]
    return np.array([[ALPHABET.index(letter) for letter in line] for line in lines])


def decode(tokens) -> str:
    return "".join((ALPHABET + ["_"])[int(token)] for token in tokens)


def right_words(tokens) -> np.ndarray:
    """The share of right words of every sequence."""
    lines = [decode(row) for row in tokens]
    return np.array(
        [np.mean([line[4 * i : 4 * i + 4].strip() in SENTENCE[i] for i in range(len(SENTENCE))]) for line in lines]
    )


data = make_sentences(np.random.default_rng(0), 4096)
for row in data[:3]:
    print(decode(row), f"{right_words([row])[0]:.0%} right words")

# %% [markdown]
# ## The network
#
# It maps tokens (B, L), some of which are masks, to log-probabilities (B, L, S) of the S data tokens. It reads no time: the
# share of masks tells it all that matters. MDLM works like this.


# %%
class Network(torch.nn.Module):
    def __init__(self, dim: int = 48, depth: int = 1):
        super().__init__()
        self.token = torch.nn.Embedding(VOCABULARY + 1, dim)
        self.place = torch.nn.Parameter(torch.randn(LENGTH, dim))
        layer = torch.nn.TransformerEncoderLayer(
            dim, 4, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = torch.nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = torch.nn.Linear(dim, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.token(tokens) + self.place[: tokens.shape[1]]
        return self.head(self.body(hidden)).log_softmax(-1)


# %% [markdown]
# ## Train it
#
# A time t is drawn for every sequence, every token is masked with probability t, and the network is asked for the masked tokens.
# The loss is weighted by 1 / t. In the mean it is an upper bound on -log p of the data.

# %%
network, batch, steps = Network(), 64, size["training"]
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, steps)
sentences, losses = torch.from_numpy(data), []
for _ in range(steps):
    tokens = sentences[torch.randint(len(sentences), (batch,))]
    time = (torch.rand(1) + torch.arange(batch) / batch) % 1 * 0.999 + 0.001
    masked = torch.rand(batch, LENGTH) < time[:, None]
    nats = -network(torch.where(masked, MASK, tokens)).gather(-1, tokens[..., None])[..., 0]
    loss = (nats * masked / time[:, None]).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    losses.append(loss.item())
network.eval()

entropy = sum(np.log(len(words)) for words in SENTENCE) / LENGTH
figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
axes.plot(losses, color="#0072B2", linewidth=0.8, label="loss")
axes.axhline(entropy, color="black", linestyle="--", linewidth=1, label="entropy of the language")
axes.set(xlabel="training step", ylabel="nats per character", ylim=(0, None))
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Give it to lsd_jax
#
# `from_torch` leaves the network in PyTorch. JAX calls it through a host callback, so nothing has to be ported. The process is
# masking with a log-linear schedule, the usual one. `output="log_posterior"` says that the network returns log-probabilities;
# logits would be `"posterior"`. `from_torch` calls the network once and refuses an answer that is not what was said.

# %%
model = lsd.from_torch(network, lsd.Absorbing(VOCABULARY, lsd.LogLinear()), output="log_posterior")

# %% [markdown]
# ## Distill
#
# No data is given: the teacher is the network itself, run with many steps. The network is not changed, and no gradient passes
# through it.

# %%
settings = lsd.StudentSettings(grid_points=size["grid_points"])
students = lsd.distill(model, steps=size["steps"], length=LENGTH, paths=size["paths"], student=settings)
for steps, student in students.items():
    coupling = student.coupling
    student.save(f"student{steps}.json")
    print(f"M = {steps}: NFE {student.nfe}, order {coupling.generator!r} {coupling.pattern or ''}")

# %% [markdown]
# ## Back in PyTorch, without JAX
#
# `student_torch.py` is one file that needs torch and numpy alone. Copy it into your project. The cell below copies it here and
# prints what it imports: Python's own modules, numpy and torch.

# %%
packaged = pathlib.Path(lsd.__file__).parent / "shipped" / "pytorch" / "student_torch.py"
shutil.copy(packaged, "student_torch.py")
print(*(line for line in packaged.read_text().splitlines() if line.startswith(("import ", "from "))), sep="\n")

# %% [markdown]
# `student_torch.sample` calls the network once per step. A function around the network records what it is called with.

# %%
sys.path.insert(0, ".")
student_torch = importlib.import_module("student_torch")

calls = []


def watched(tokens: torch.Tensor) -> torch.Tensor:
    calls.append(tokens.clone())
    return network(tokens)


loaded = {steps: student_torch.load(f"student{steps}.json") for steps in students}
generator = torch.Generator().manual_seed(0)
tokens = student_torch.sample(loaded[4], watched, count=1, output="log_posterior", generator=generator)
print(f"{len(calls)} calls of the network. What each call read, and the sample:")
for state in (*calls, tokens):
    print(decode(state[0]))

# %% [markdown]
# The same as a picture for more samples: the step in which each position is revealed. Every row is a sample. From sample to sample
# the order of a student changes by a shift, and by its direction where it mixes two. The letters of a word are in different steps,
# so each is drawn with the earlier ones in view.

# %%
calls.clear()
student_torch.sample(loaded[4], watched, count=8, output="log_posterior", generator=generator)
revealed = sum((state == MASK).int() for state in calls).numpy()
figure, axes = plt.subplots(figsize=(9, 2.8), layout="constrained")
image = axes.imshow(revealed, cmap="viridis", vmin=1, vmax=4, aspect="auto")
axes.set(xlabel="position", ylabel="sample", xticks=range(0, LENGTH, 4))
figure.colorbar(image, ticks=range(1, 5), label="step of the student, M = 4")
plt.show()

# %% [markdown]
# ## Is it better than Euler at the same NFE?
#
# The number is the share of right words. Students are drawn in PyTorch. Euler is drawn by lsd_jax with the same network. Euler with
# 64 evaluations stands for the network run with many steps.

# %%
count = size["samples"]
drawn = {}
for steps in students:
    rival = lsd.sampler("euler", steps=steps)
    drawn[f"Euler, NFE {steps}"] = lsd.sample(model, rival, jax.random.key(0), count, length=LENGTH, batch_size=256)
    own = student_torch.sample(loaded[steps], network, count, output="log_posterior", generator=generator)
    drawn[f"student, NFE {steps}"] = own.numpy()
many = lsd.sampler("euler", steps=64)
drawn["Euler, NFE 64"] = lsd.sample(model, many, jax.random.key(0), count, length=LENGTH, batch_size=256)

shares = {name: right_words(tokens) for name, tokens in drawn.items()}
for name, tokens in drawn.items():
    print(f"{name:15}", *(decode(row) for row in tokens[:2]), sep=" | ")

# %%
names = list(shares)
means = [shares[name].mean() for name in names]
errors = [1.96 * shares[name].std() / count**0.5 for name in names]
hues = ["#D55E00" if name.startswith("student") else "#999999" for name in names]
figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
axes.barh(names, means, xerr=errors, color=hues)
for place, (mean, error) in enumerate(zip(means, errors)):
    axes.text(mean + error + 0.01, place, f"{mean:.2f}", va="center")
axes.invert_yaxis()
axes.set(xlabel="share of right words, with 95 % intervals", xlim=(0, 1.12))
plt.show()

for steps in students:
    assert shares[f"student, NFE {steps}"].mean() > shares[f"Euler, NFE {steps}"].mean()

# %% [markdown]
# Right words alone do not say that the samples are as varied as the language: a sampler that repeats one sentence has them too.
# The next cell counts how many of the words of each list occur, and how even: the entropy of the words at each place, in bits, in
# the mean over the six places. It should be that of the language. Misspelled words raise it.

# %%
for name in names:
    words = np.array([[decode(row)[4 * i : 4 * i + 3] for i in range(len(SENTENCE))] for row in drawn[name]])
    counts = [np.unique(words[:, i], return_counts=True)[1] / count for i in range(len(SENTENCE))]
    print(f"{name:15} {np.mean([-(p * np.log2(p)).sum() for p in counts]):.2f} bits")
print(f"{'the language':15} {np.mean([np.log2(len(words)) for words in SENTENCE]):.2f} bits")

# %% [markdown]
# ## With your own network
#
# * Replace `Network` by yours. It must be bidirectional, and the mask must have the index after the data's tokens. Wrap the
#   network where this is not so.
# * Say what it returns (`output=`) and what it reads as time (`time_input=`).
# * Choose `steps`, `length` and perhaps `paths`.
#   [your_model.md](https://github.com/lsd-jax/lsd_jax/blob/main/docs/your_model.md) says how long it takes.
# * This language was made so that the letters of a word depend on each other strongly. How much a student gains on other data
#   is to be measured on that data.
