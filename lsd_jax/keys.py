"""Every random stream by name. The numbers stay as they are: they decide what a seed gives.

A stream of JAX keys and one of numpy generators may have the same number: they are different generators.
"""

import enum
import functools

import jax
import jax.numpy as jnp
import numpy as np


class Stream(enum.IntEnum):
    """Streams of a run's seed, `named_key(seed, stream)`."""

    TEACHER = 1  # the teacher's paths
    CELL = 2  # samples and likelihoods of a study's cells, each folded with the cell's name
    SAMPLE = 5  # --stage=sample
    POTENTIALS = 8  # the bridges that pair potentials are fitted on
    VERIFY = 9  # --stage=verify


class RowStream(enum.IntEnum):
    """Streams of host-side choices among sequences, `generator(seed, stream)`."""

    TEACHER = 1  # the training sequences that a teacher's paths lead to
    REAL = 7  # real sequences that stand beside samples
    POTENTIALS = 8  # the training sequences that pair potentials are fitted on
    FLOOR = 11  # repeated draws of real data
    DEGENERATE = 12  # degenerate baselines
    LENGTHS = 13  # the order of the lengths of molecules that a property is asked of


class PathStream(enum.IntEnum):
    """Numbers folded into a sequence's own key; the steps of a path take 0, 1, 2 ..."""

    PRIOR = 2**31 - 1  # the tokens at time 1
    LAST = 2**31 - 2  # the denoising call of event samplers, and the perturbation of a relaxed prior
    REFILL = 2**20  # what the reverse path KL masks again, plus the step
    HELD_OUT = 2**30  # the optimizer's step number under which unseen paths are judged


class StepStream(enum.IntEnum):
    """Numbers folded into a sequence's key of one step, beside its first draw; stages of a step take the same numbers."""

    SHIFT = 1  # a low-discrepancy shift of the step's own
    RELAXED = 2  # the Gumbels and jumps of a differentiable path


def named_key(seed: int, stream: Stream) -> jax.Array:
    """The key of a stream of a run's seed."""
    return jax.random.fold_in(jax.random.key(seed), int(stream))


def generator(seed: int, stream: RowStream) -> np.random.Generator:
    """The numpy generator of a stream of a run's seed."""
    return np.random.default_rng([seed, int(stream)])


@functools.partial(jax.jit, static_argnames="batch")
def sequence_keys(key: jax.Array, batch: int) -> jax.Array:
    """One key per sequence, (B,), so that a sequence's draws do not depend on the batch that it is in."""
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(batch))


@jax.jit
def fold_each(key_B: jax.Array, number: int | jax.Array) -> jax.Array:
    """Every sequence's key (B,) folded with one number."""
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(key_B)


def cell_key(seed: int, name: str) -> jax.Array:
    """The key of a study's cell, from the cell's name."""
    digest = sum(ord(letter) * 257**index for index, letter in enumerate(name)) % 2**31
    return jax.random.fold_in(named_key(seed, Stream.CELL), digest)
