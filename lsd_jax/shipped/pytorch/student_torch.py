"""Draws samples with a student of lsd_jax in PyTorch, without JAX. Copy this file: it needs torch and numpy only.

    student = load("student.json")
    tokens = sample(student, network, count=8, output="posterior")

It follows docs/student_format.md of lsd_jax section by section, for kernels of one stage under masking and uniform noise; other
files are refused in one line. Suffixes name axes: B sequences, L positions, S data tokens.
"""

import json
import math
from collections.abc import Callable

import numpy as np
import torch

FORMATS = ("lsd_jax.student/1", "lsd_jax.student/2")
KERNELS = ("euler", "tweedie", "ancestral", "tau_leaping", "binomial_leaping")
OUTPUTS = ("posterior", "log_posterior", "mean", "score", "log_score")
MOST_JUMP = 1 - 1e-6  # of one step but the last
GOLDEN, PLASTIC = (math.sqrt(5) - 1) / 2, 1.324717957244746
STRIDES = {"golden": GOLDEN, "sqrt2": math.sqrt(2) - 1, "sqrt3": math.sqrt(3) - 1}


def load(path: str) -> dict:
    """A student.json, checked (sections 1 and 13).

    Raises:
        ValueError: no student, or one that this file cannot run; one line.
    """
    with open(path, encoding="utf-8") as file:
        student = json.load(file)
    if not isinstance(student, dict) or student.get("format") not in FORMATS:
        raise ValueError(f"{path}: field 'format' is not one of {FORMATS}")
    if student["process"] not in ("absorbing", "uniform"):
        raise ValueError(f"{path}: process {student['process']!r} is not implemented here, only absorbing and uniform")
    if student["kernel"] not in KERNELS:
        raise ValueError(f"{path}: kernel {student['kernel']!r} is not implemented here, only {KERNELS}")
    steps, grid = student["steps"], np.asarray(student["time_grid"], float)
    if grid.shape != (steps + 1,) or grid[0] != 1 or grid[-1] != 0 or not (np.diff(grid) < 0).all():
        raise ValueError(f"{path}: 'time_grid' does not fall from 1 to 0 in steps + 1 values")
    for field in ("coefficients", "temperatures"):
        if len(student[field]) != steps or not all(value > 0 for value in student[field]):
            raise ValueError(f"{path}: {field!r} needs {steps} positive values")
    shares, needed = student.get("lengths", []), student["sequence_length"] + 1
    if shares and student["process"] != "absorbing":
        raise ValueError(f"{path}: 'lengths' has a meaning for the absorbing process only")
    if shares and not (len(shares) == needed and min(shares) >= 0 and abs(sum(shares) - 1) < 1e-3):
        raise ValueError(f"{path}: 'lengths' needs {needed} shares (sequence_length + 1) that sum to one")
    return student


# Section 2: noise schedules. Times are Python floats.


def sigma_bar(noise: dict, t: float) -> float:
    """The integral of the noise rate from 0 to t."""
    name = noise["name"]
    if name == "loglinear":
        return -math.log1p(-(1 - noise["eps"]) * t)
    if name == "geometric":
        return noise["sigma_min"] ** (1 - t) * noise["sigma_max"] ** t
    if name == "cosine":
        return -math.log1p(-(1 - noise["eps"]) * math.sin(0.5 * math.pi * t))
    if name == "exponential":
        clock = noise["min_time"] + (1 - noise["min_time"]) * t
        return noise["time_base"] * (noise["time_exponential"] ** clock - 1) if t > 0 else 0.0
    raise ValueError(f"noise {name!r} is not known")


def sigma(noise: dict, t: float) -> float:
    """The noise rate."""
    name = noise["name"]
    if name == "loglinear":
        return (1 - noise["eps"]) / (1 - (1 - noise["eps"]) * t)
    if name == "geometric":
        return sigma_bar(noise, t) * math.log(noise["sigma_max"] / noise["sigma_min"])
    if name == "cosine":
        slope = (1 - noise["eps"]) * 0.5 * math.pi * math.cos(0.5 * math.pi * t)
        return slope / (1 - (1 - noise["eps"]) * math.sin(0.5 * math.pi * t))
    share, base, rate = 1 - noise["min_time"], noise["time_base"], noise["time_exponential"]
    return share * base * math.log(rate) * rate ** (noise["min_time"] + share * t)


# Section 3: from a network's output to the log-score.


def move_stay(d: float, vocab_size: int) -> tuple[float, float]:
    """Uniform noise over a stretch d: the probability of one given other token, and of the same token."""
    move = -math.expm1(-d) / vocab_size
    return move, 1 - (vocab_size - 1) * move


def log_score_of(student: dict, output: str, logits_BLS: torch.Tensor, x_BL: torch.Tensor, t: float) -> torch.Tensor:
    """The log of the concrete score (B, L, S); 0 at the current token under uniform noise."""
    noise_now, size = sigma_bar(student["noise"], t), student["vocab_size"]
    if student.get("lengths"):  # no mask can become a pad
        pad_S = torch.arange(size, device=logits_BLS.device) == size - 1
        logits_BLS = logits_BLS.masked_fill(pad_S, -math.inf)
    if output == "log_score":
        return logits_BLS
    if student["process"] == "absorbing":
        scale = math.log(math.expm1(noise_now))
        if output == "score":
            return logits_BLS - scale - math.log(size)
        return (logits_BLS if output == "log_posterior" else logits_BLS.log_softmax(-1)) - scale
    here_BLS = _here(x_BL, size)
    if output == "score":
        return logits_BLS.masked_fill(here_BLS, 0.0)
    probs_BLS = (logits_BLS if output == "log_posterior" else logits_BLS.log_softmax(-1)).exp()
    if output == "mean":
        alpha = math.exp(-noise_now)
        log_marginal_BLS = (alpha * probs_BLS + (1 - alpha) / size).log()
        return log_marginal_BLS - log_marginal_BLS.gather(-1, x_BL[..., None])
    move, stay = move_stay(noise_now, size)
    weight_BLS = torch.where(here_BLS, probs_BLS / stay, probs_BLS / move)
    score_BLS = move * weight_BLS.sum(-1, keepdim=True) + (stay - move) * weight_BLS
    return score_BLS.log().masked_fill(here_BLS, 0.0)


def _here(x_BL: torch.Tensor, size: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(x_BL, size).bool()


# Sections 5 and 6: one step in jump form, (probability of a jump (B, L), log-mass of the destinations (B, L, S)).


def nucleus(log_mass_BLS: torch.Tensor, top_p: float) -> torch.Tensor:
    """The log-mass without the tokens outside the smallest set that holds `top_p` of the probability."""
    probs_BLS = log_mass_BLS.softmax(-1)
    falling_BLS = probs_BLS.sort(-1, descending=True).values
    enough_BL1 = (falling_BLS.cumsum(-1) < top_p).sum(-1, keepdim=True).clamp(max=falling_BLS.shape[-1] - 1)
    return log_mass_BLS.masked_fill(probs_BLS < falling_BLS.gather(-1, enough_BL1), -math.inf)


def analytic(log_score_BLS: torch.Tensor, x_BL: torch.Tensor, d: float, size: int) -> torch.Tensor:
    """A(v) of section 5.2."""
    here_BLS, grow = _here(x_BL, size), math.expm1(d)
    move, stay = move_stay(d, size)
    score_BLS = log_score_BLS.exp().masked_fill(here_BLS, 1.0)
    kept_BLS = (1 + grow) * score_BLS - grow / size * score_BLS.sum(-1, keepdim=True)
    kept_BLS = kept_BLS.clamp(min=1e-9 * (1 + grow))
    return torch.where(here_BLS, stay * kept_BLS, move * kept_BLS)


def log_mass_of(student: dict, log_score_BLS: torch.Tensor, x_BL: torch.Tensor, t: float, u: float, phi: float):
    """The log-mass of a jump to every token; under uniform noise the current token's entry is -inf."""
    noise, size, kernel = student["noise"], student["vocab_size"], student["kernel"]
    absorbing, bar_t, bar_u = student["process"] == "absorbing", sigma_bar(noise, t), sigma_bar(noise, u)
    if kernel in ("euler", "tau_leaping", "binomial_leaping"):
        rate = (t - u) * sigma(noise, t) / (1 if absorbing else size)
        mass_BLS = log_score_BLS + math.log(rate)
    elif absorbing and kernel == "tweedie":
        mass_BLS = log_score_BLS + math.log(math.expm1(bar_t - bar_u))
    elif absorbing:
        masked_t, masked_u = -math.expm1(-bar_t), -math.expm1(-bar_u)
        factor = phi if student["coefficient"] == "score" else 1.0
        mass_BLS = log_score_BLS.log_softmax(-1) + math.log(factor * (masked_t - masked_u) / masked_t)
    elif kernel == "tweedie":
        mass_BLS = analytic(log_score_BLS, x_BL, bar_t - bar_u, size).log().log_softmax(-1)
    else:
        here_BLS = _here(x_BL, size)
        (move_t, stay_t), (move_u, stay_u) = move_stay(bar_t, size), move_stay(bar_u, size)
        move_d, stay_d = move_stay(bar_t - bar_u, size)
        clean_BLS = analytic(log_score_BLS, x_BL, bar_t, size)
        weight_BLS = torch.where(here_BLS, clean_BLS / stay_t, clean_BLS / move_t)
        back_BLS = move_u * weight_BLS.sum(-1, keepdim=True) + (stay_u - move_u) * weight_BLS
        mass_BLS = torch.where(here_BLS, back_BLS * stay_d, back_BLS * move_d).log().log_softmax(-1)
    if not absorbing:
        mass_BLS = mass_BLS.masked_fill(_here(x_BL, size), -math.inf)
    if kernel.endswith("leaping"):
        total_BL1 = mass_BLS.logsumexp(-1, keepdim=True).exp()
        shrink_BL1 = -total_BL1 if kernel == "tau_leaping" else (-torch.expm1(-total_BL1) / total_BL1).log()
        mass_BLS = mass_BLS + shrink_BL1
    return mass_BLS


def step_of(student: dict, log_score_BLS: torch.Tensor, x_BL: torch.Tensor, k: int):
    """Step k as (jump probability (B, L), destination log-mass (B, L, S)), temperature and nucleus applied."""
    grid, phi, cold = student["time_grid"], student["coefficients"][k], 1 / student["temperatures"][k]
    top_p, size, last = student.get("top_p", 1.0), student["vocab_size"], k == student["steps"] - 1
    absorbing, by_log = student["process"] == "absorbing", student["coefficient"] == "log_score"
    scaled_BLS = phi * log_score_BLS if by_log else log_score_BLS + math.log(phi)
    if not last:
        mass_BLS = log_mass_of(student, scaled_BLS, x_BL, grid[k], grid[k + 1], phi)
        jump_BL = mass_BLS.double().logsumexp(-1).exp().clamp(max=MOST_JUMP)
        return jump_BL, _sharpened(mass_BLS * cold, top_p)
    if absorbing:
        return torch.ones_like(x_BL, dtype=torch.float64), _sharpened(scaled_BLS * cold, top_p)
    clean_BLS = analytic(scaled_BLS, x_BL, sigma_bar(student["noise"], grid[k]), size).log()
    mass_BLS = _sharpened(clean_BLS * cold, top_p).log_softmax(-1).masked_fill(_here(x_BL, size), -math.inf)
    jump_BL = mass_BLS.double().logsumexp(-1).exp().clamp(max=MOST_JUMP)
    return jump_BL, _sharpened(mass_BLS, top_p)


def _sharpened(log_mass_BLS: torch.Tensor, top_p: float) -> torch.Tensor:
    return log_mass_BLS if top_p >= 1 else nucleus(log_mass_BLS, top_p)


# Sections 7 and 8: randomness.


class Noise:
    """The random numbers of `count` paths, float64; a subclass may bring its own."""

    def __init__(self, student: dict, count: int, generator: torch.Generator | None = None, device="cpu"):
        self.student, self.device = student, device
        self.shape, self.generator = (count, student["sequence_length"]), generator

    def uniform(self, *shape: int) -> torch.Tensor:
        """Uniforms in (0, 1)."""
        options = {"dtype": torch.float64, "generator": self.generator, "device": self.device}
        return torch.rand(shape, **options).clamp(2.0**-33, 1 - 2.0**-33)

    def integers(self, high: int, count: int) -> torch.Tensor:
        """Integers 0 ... high - 1, (count, 1)."""
        return torch.randint(high, (count, 1), generator=self.generator, device=self.device)

    def length(self) -> torch.Tensor:
        """Uniforms (B, 1) that pick the lengths; read only where the student has lengths and no token is given."""
        return self.uniform(self.shape[0], 1)

    def masks(self) -> torch.Tensor:
        """Masks (B, L)."""
        return torch.full(self.shape, self.student["vocab_size"], device=self.device)

    def prior(self) -> torch.Tensor:
        """Tokens (B, L) at time 1; of a student with lengths, masks up to the length and pads behind it."""
        size, shares = self.student["vocab_size"], self.student.get("lengths")
        if self.student["process"] != "absorbing":
            return torch.randint(size, self.shape, generator=self.generator, device=self.device)
        if not shares:
            return self.masks()
        length_B1 = draw(torch.tensor(shares, dtype=torch.float64, device=self.device).log(), self.length())
        return self.masks().masked_fill(torch.arange(self.shape[1], device=self.device) >= length_B1, size - 1)

    def thresholds(self) -> torch.Tensor:
        """Uniform thresholds (B, L); of low_discrepancy they are spread over the positions."""
        coupling, (count, length) = self.student["coupling"], self.shape
        if coupling["name"] != "low_discrepancy":
            return self.uniform(count, length)
        generator, shape = coupling.get("generator", "golden"), tuple(coupling.get("shape", ()))
        shift_B1 = self.uniform(count, 1)
        rows, columns = np.divmod(np.arange(length), shape[1]) if shape else (np.zeros(length, int), np.arange(length))
        if generator in STRIDES or generator == "r2":
            if generator == "r2":
                points_L = rows / PLASTIC + columns / PLASTIC**2
            else:
                points_L = np.arange(length) * STRIDES[generator]
            u_BL = (torch.from_numpy(points_L % 1).to(self.device)[None] + shift_B1) % 1
            return u_BL.clamp(2.0**-33, 1 - 2.0**-24)
        table = torch.from_numpy(rank_table(generator, length, shape, coupling.get("pattern", ()))).to(self.device)
        height, width = table.shape
        down, right = self.integers(height, count), self.integers(width, count)
        rows_BL = torch.from_numpy(rows).to(self.device)[None] + down
        columns_BL = torch.from_numpy(columns).to(self.device)[None] + right
        copy_BL = (columns_BL // width + rows_BL // height) * GOLDEN
        u_BL = 1 - (table[rows_BL % height, columns_BL % width] + (copy_BL + shift_B1) % 1) / (table.max() + 1)
        return u_BL.clamp(2.0**-33, 1 - 2.0**-24)

    def step(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Fresh uniforms (B, L) of step k, for the jump and for the token."""
        del k
        return self.uniform(*self.shape), self.uniform(*self.shape)


def rank_table(generator: str, length: int, shape: tuple[int, ...], pattern) -> np.ndarray:
    """The ranks (H, W) of section 8."""
    if generator == "pattern":
        return np.atleast_2d(np.asarray(pattern, np.int64))
    if generator == "van_der_corput":
        bits = max(1, math.ceil(math.log2(length)))
        numbers = np.arange(2**bits)
        return sum(((numbers >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))[None]
    if generator == "dither":
        bits = max(1, math.ceil(math.log2(max(shape))))
        rows, columns = np.indices((2**bits, 2**bits))
        rank = np.zeros_like(rows)
        for bit in range(bits):
            rank = rank * 4 + 2 * (((rows >> bit) ^ (columns >> bit)) & 1) + ((rows >> bit) & 1)
        return rank
    if generator == "halton":
        rank, found, index = np.full(shape, -1, np.int64), 0, 1
        while found < rank.size:
            cell = int(_radical_inverse(index, 2) * shape[0]), int(_radical_inverse(index, 3) * shape[1])
            if rank[cell] < 0:
                rank[cell], found = found, found + 1
            index += 1
        return rank
    raise ValueError(f"generator {generator!r} is not known")


def _radical_inverse(index: int, base: int) -> float:
    value, scale = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value, scale = value + digit * scale, scale / base
    return value


def draw(log_mass: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Tokens in proportion to exp(log_mass) (..., S), by the inverse of the cumulative distribution."""
    mass = (log_mass - log_mass.amax(-1, keepdim=True)).exp().double()
    cumulative = mass.cumsum(-1)
    target = uniform.double().clamp(max=1 - 2.0**-40)[..., None] * cumulative[..., -1:]
    return (cumulative <= target).sum(-1)


# Section 9: pair potentials.


def tables_of(student: dict, k: int) -> dict[int, np.ndarray]:
    """distance -> log-potential (S, S) of step k."""
    entries = student.get("potentials", student.get("neighbours")) or []
    return {entry["distance"]: table_of(entry) for entry in entries if entry["step"] == k}


def table_of(entry: dict) -> np.ndarray:
    """The table (S, S) of an entry, which may hold it as two factors."""
    if "left" in entry:
        return np.asarray(entry["left"], np.float32) @ np.asarray(entry["own"], np.float32)
    return np.asarray(entry["log_potential"], np.float32)


def draw_pairs(log_mass_BLS, jump_BL, uniform_BL, tables: dict[int, np.ndarray]) -> torch.Tensor:
    """Masking: from left to right, each jumping position given the nearest one to its left that jumps in this step."""
    tokens_BL = torch.zeros_like(jump_BL, dtype=torch.long)
    tables = {distance: torch.from_numpy(table).to(log_mass_BLS.device) for distance, table in tables.items()}
    for row in range(jump_BL.shape[0]):
        before = None
        for place in jump_BL[row].nonzero()[:, 0].tolist():
            mass_S = log_mass_BLS[row, place]
            if before is not None and place - before in tables:
                mass_S = mass_S + tables[place - before][tokens_BL[row, before]]
            tokens_BL[row, place] = draw(mass_S, uniform_BL[row, place])
            before = place
    return tokens_BL


def draw_chain(x_BL, jump_BL, log_mass_BLS, uniform_BL, table_SS: np.ndarray) -> torch.Tensor:
    """Uniform noise: every position from left to right, staying included, given the token just drawn to its left."""
    size = log_mass_BLS.shape[-1]
    psi_SS = torch.from_numpy(table_SS).to(log_mass_BLS.device)
    log_jump_BL1 = jump_BL.clamp(min=1e-30).log().float()[..., None]
    log_stay_BL1 = torch.log1p(-jump_BL).float()[..., None]
    log_p_BLS = torch.where(_here(x_BL, size), log_stay_BL1, log_jump_BL1 + log_mass_BLS.log_softmax(-1))
    mean_BLS = log_p_BLS[:, :-1].exp() @ psi_SS.exp()
    tokens = [draw(log_p_BLS[:, 0], uniform_BL[:, 0])]
    for place in range(1, x_BL.shape[1]):
        log_mass_BS = log_p_BLS[:, place] - mean_BLS[:, place - 1].log() + psi_SS[tokens[-1]]
        tokens.append(draw(log_mass_BS, uniform_BL[:, place]))
    return torch.stack(tokens, 1)


# Section 4: the loop.


@torch.no_grad()
def sample(
    student: dict,
    network: Callable[..., torch.Tensor],
    count: int,
    output: str = "posterior",
    time_input: str = "none",
    tokens_BL: torch.Tensor | None = None,
    fixed_BL: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    device: str = "cpu",
    noise: Noise | None = None,
) -> torch.Tensor:
    """Draws `count` sequences (count, L) of int64 tokens with one call of the network per step.

    A student with lengths draws the length of every sequence first, by the inverse of the cumulative shares, from one more uniform
    per sequence (`Noise.length`). The pad, token S - 1, follows the sequence up to L and is drawn nowhere else.

    Args:
        student: of `load`.
        network: `network(tokens)`, or with a time input `network(tokens, time)`: int64 (B, L), float32 (B,) to (B, L, S); columns
            past the S data tokens, such as the mask's, are dropped.
        output: what it returns, one of OUTPUTS (section 3.4): "posterior" logits (MDLM, RADD), "score" (SEDD), "mean" (Duo).
        time_input: "none", "sigma_bar" or "time".
        tokens_BL, fixed_BL: infilling (section 10): given tokens, and where they are given. Of a student with lengths they give
            the pads too: no length is drawn, and what is not given becomes no pad.
        noise: random numbers of your own, in place of the generator's.

    Raises:
        ValueError: an output or a time input that is not known.
    """
    if output not in OUTPUTS:
        raise ValueError(f"output={output!r}: choose one of {OUTPUTS}")
    if time_input not in ("none", "sigma_bar", "time"):
        raise ValueError(f"time_input={time_input!r}: choose one of ('none', 'sigma_bar', 'time')")
    noise = noise or Noise(student, count, generator, device)
    size, absorbing, coupling = student["vocab_size"], student["process"] == "absorbing", student["coupling"]["name"]
    given = (lambda x: x) if fixed_BL is None else (lambda x: torch.where(fixed_BL, tokens_BL, x))
    owned = absorbing and coupling != "iid"  # thresholds for the whole path
    threshold_BL = noise.thresholds() if owned else None
    token_uniform_BL = noise.uniform(*noise.shape) if coupling == "shared" else None
    survival_BL = torch.ones(noise.shape, dtype=torch.float64, device=device)
    x_BL = given(noise.masks() if student.get("lengths") and fixed_BL is not None else noise.prior())
    chained = not absorbing and bool(student.get("potentials", student.get("neighbours")))
    for k in range(student["steps"]):
        t = student["time_grid"][k]
        time = {"sigma_bar": sigma_bar(student["noise"], t), "time": t}.get(time_input)
        arguments = (x_BL,) if time is None else (x_BL, torch.full((count,), time, device=device))
        logits_BLS = network(*arguments)[..., :size].float()
        jump_BL, log_mass_BLS = step_of(student, log_score_of(student, output, logits_BLS, x_BL, t), x_BL, k)
        jump_BL = torch.where(x_BL == size, jump_BL, 0.0) if absorbing else jump_BL
        uniform_BL, draw_BL = noise.step(k)
        if owned:
            uniform_BL = (1 - threshold_BL / survival_BL.clamp(min=1e-300)).clamp(0, 1 - 2.0**-24)
        elif coupling == "low_discrepancy":
            uniform_BL = noise.thresholds()
        draw_BL = draw_BL if token_uniform_BL is None else token_uniform_BL
        jumps_BL, tables = uniform_BL < jump_BL, tables_of(student, k)
        if chained:
            table_SS = tables.get(1, np.zeros((size, size), np.float32))
            x_BL = given(draw_chain(x_BL, jump_BL, log_mass_BLS, draw_BL, table_SS))
            continue
        if tables:
            drawn_BL = draw_pairs(log_mass_BLS, jumps_BL, draw_BL, tables)
        else:
            drawn_BL = draw(log_mass_BLS, draw_BL)
        x_BL = given(torch.where(jumps_BL, drawn_BL, x_BL))
        survival_BL = survival_BL * (1 - jump_BL)
    return x_BL
