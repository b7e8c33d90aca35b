"""The dial between diversity and precision: (1 - precision) forward path KL + precision reverse path KL.

precision 0 is as diverse as the teacher, 1 as precise as the sampler's few numbers allow.
"""

import jax

from lsd_jax.distill.objectives import path_kl, reverse_path_kl


def prepare(student, process, model, paths, settings) -> tuple:
    """The parts of both."""
    parts = path_kl, reverse_path_kl
    return tuple(part.prepare(student, process, model, paths, settings) for part in parts)


def loss(student, process, model, params, batch, step, settings) -> tuple[jax.Array, dict]:
    """The weighted sum, nats a sequence."""
    forward, _ = path_kl.loss(student, process, model, params, batch[0], step, settings)
    reverse, _ = reverse_path_kl.loss(student, process, model, params, batch[1], step, settings)
    value = (1 - settings.precision) * forward + settings.precision * reverse
    return value, {"path_nll": forward, "reverse_kl": reverse}
