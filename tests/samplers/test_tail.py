"""Rare jumps: a float32 teacher of 1,024 steps against a float64 one, and a naive float32 draw that must fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import Schedule, neutral
from lsd_jax.samplers.simulate import simulate

S, L, STEPS, MIX = 16_384, 8, 1024, 0.3
# Here running takes longer than compiling.
WELL = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}


def log_posterior(x_BL, t):
    """A token follows its left neighbour by one with probability 1 - MIX, where that one is known."""
    left_BL = jnp.pad(x_BL[:, :-1], ((0, 0), (1, 0)), constant_values=S)
    follows = (jnp.arange(S)[None, None] == (left_BL[..., None] + 1) % S) & (left_BL < S)[..., None]
    weight = jnp.where(left_BL < S, MIX, 1.0)[..., None]
    return jnp.log(weight / S + (1 - MIX) * follows)


MODEL = Diffusion.from_function(
    log_posterior, make_process("absorbing", S, make_noise("loglinear")), "log_posterior", time_conditioned=False
)


def in_float32(batch, steps):
    """States (steps + 1, B, L) at the first times of the 1,024-step grid."""
    times = np.concatenate([np.linspace(1, 0, STEPS + 1)[: steps + 1], [0.0]])
    schedule = Schedule(jnp.asarray(times, jnp.float32), neutral(steps + 1))
    teacher = Sampler(schedule, get_kernel("tweedie"), length=L)
    run = jax.jit(lambda key: simulate(key, MODEL, teacher, batch, keep_states=True).states, compiler_options=WELL)
    return np.asarray(run(jax.random.key(0)))[: steps + 1]


def in_float64(batch, steps):
    """The same sampler in numpy."""
    rng, states = np.random.default_rng(0), [np.full((batch, L), S)]
    for k in range(steps):
        x = states[-1].copy()
        left = np.pad(x[:, :-1], ((0, 0), (1, 0)), constant_values=S)
        jump = (x == S) & (rng.random(x.shape) < 1 / (STEPS - k))
        follow = (left < S) & (rng.random(x.shape) > MIX)
        drawn = rng.integers(0, S, x.shape)
        states.append(np.where(jump, np.where(follow, (left + 1) % S, drawn), x))
    return np.stack(states)


def in_naive_float32(batch, steps):
    """One Gumbel-max over "stay" and all tokens."""

    def step(x_BL, k):
        p = 1 / (STEPS - k)
        log_probs = jnp.concatenate(
            [log_posterior(x_BL, None) + jnp.log(p), jnp.full((batch, L, 1), jnp.log1p(-p))], -1
        )
        drawn = jax.random.categorical(jax.random.fold_in(jax.random.key(0), k), log_probs)
        x_BL = jnp.where(x_BL == S, drawn, x_BL)
        return x_BL, x_BL

    start = jnp.full((batch, L), S)
    states = jax.jit(lambda: jax.lax.scan(step, start, jnp.arange(steps))[1], compiler_options=WELL)()
    return np.concatenate([np.asarray(start)[None], np.asarray(states)])


def reveals(states, windows):
    """Shares of the positions revealed in each time window, and their squared standard errors."""
    known = (states < S).reshape(len(states), -1).mean(1)
    shares = np.diff(known[np.linspace(0, len(states) - 1, windows + 1).astype(int)])
    return shares, shares * (1 - shares) / states[-1].size


def tokens(states):
    """(values, squared standard errors) of finished sequences: the share of tokens that do not follow, and the entropy of a
    token's distance from its left neighbour, in 16 equal classes and that of one.
    """
    gap = ((states[-1][:, 1:] - states[-1][:, :-1]) % S).ravel()
    wrong = (gap != 1).mean()
    classes = np.bincount(np.where(gap == 1, 16, gap * 16 // S), minlength=17)
    probs = classes[classes > 0] / gap.size
    entropy = -(probs * np.log(probs)).sum()
    spread = (probs * np.log(probs) ** 2).sum() - entropy**2
    unbiased = entropy + (len(probs) - 1) / (2 * gap.size)  # Miller and Madow
    return np.array([wrong, unbiased]), np.array([wrong * (1 - wrong), spread]) / gap.size


def distance(found, reference):
    """The largest distance of statistics from the reference's, in standard errors."""
    (value, variance), (wanted, own) = found, reference
    return (np.abs(value - wanted) / np.sqrt(variance + own)).max()


@pytest.mark.slow
def test_the_first_steps_of_a_teacher():
    steps = 100
    reference = reveals(in_float64(4000, steps), 1)
    assert distance(reveals(in_float32(32, steps), 1), reference) < 3.5
    assert distance(reveals(in_naive_float32(32, steps), 1), reference) > 3.5  # the tail of its Gumbels is cut off


@pytest.mark.slow
@pytest.mark.timeout(900)  # five minutes beside other work
def test_a_whole_teacher():
    reference, found, naive = in_float64(4000, STEPS), in_float32(64, STEPS), in_naive_float32(64, STEPS)
    assert distance(reveals(found, 4), reveals(reference, 4)) < 4
    assert distance(tokens(found), tokens(reference)) < 4
    assert distance(reveals(naive, 4), reveals(reference, 4)) > 4
