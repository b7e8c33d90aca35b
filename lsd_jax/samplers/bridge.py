"""Bridges: the noising process between known data and time t, along the paths that a sampler takes.

A many-step teacher that ends in x_0 got there along such a path. Objectives, cost tables and likelihoods score a sampler's step
against the bridge's own (`process.bridge`), so that they need the teacher's final tokens only, at any times.
"""

import jax

from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import Coupling, path_noise


def reveal_thresholds(key_B: jax.Array, process: Process, coupling: Coupling, length: int) -> jax.Array:
    """The thresholds (B, L) that a path with these keys reveals by: a position is masked while m(t) / m(1) is above."""
    noise = path_noise(key_B, process, coupling, length)
    if noise.threshold_BL is not None:
        return noise.threshold_BL
    return jax.vmap(lambda key: process.path_uniforms(key, length))(noise.key_B)


def bridge_state(key_B: jax.Array, process: Process, coupling: Coupling, x0_BL: jax.Array, t: jax.Array) -> jax.Array:
    """x_t (B, L) given x_0, t scalar; equal keys give the states of one path at different times.

    Where a position jumps once it is the path of a sampler that reads the same keys. Elsewhere the states of different times
    share their uniforms; each has the right distribution, but together they are no path.
    """
    length = x0_BL.shape[1]
    if process.jumps_once:
        return process.noised(reveal_thresholds(key_B, process, coupling, length), x0_BL, t)
    return process.noised(jax.vmap(lambda key: process.path_uniforms(key, length))(key_B), x0_BL, t)
