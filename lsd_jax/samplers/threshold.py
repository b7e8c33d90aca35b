"""The threshold of an adaptive sampler for a mean number of network evaluations."""

import jax
import numpy as np
from absl import logging

from lsd_jax.errors import InputError, check_real, check_whole
from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.progress import Progress
from lsd_jax.samplers.registry import EVENT_SAMPLERS
from lsd_jax.samplers.sampler import Sampler, bound_sampler
from lsd_jax.samplers.simulate import draw_and_count

_ROUNDS = 24
_CLOSE = 0.02  # relative: a mean so near to the wanted one ends the search
_FAR = 0.1  # relative: further off than this is told


def fit_threshold(
    model: Diffusion,
    sampler: Sampler,
    mean_nfe: float,
    key: jax.Array | None = None,
    *,
    length: int | None = None,
    count: int = 64,
    batch_size: int = 64,
) -> Sampler:
    """The adaptive sampler with the threshold at which its samples take `mean_nfe` network evaluations on average.

    A bisection over the threshold, every round with the same random numbers and the same compiled program. No data is read: the
    sampler's own samples decide what it costs. A warning says where no threshold comes near.

    Args:
        model: the diffusion model.
        sampler: an adaptive one; its steps are the most evaluations that a sequence may take.
        mean_nfe: from 1 to the sampler's steps.
        key: of the samples; by default that of seed 0.
        length: tokens per sequence.
        count: samples per round.
        batch_size: sequences per compiled call; rounded up to a multiple of the devices.

    Raises:
        ValueError: a sampler without a threshold, a mean out of reach, or as `sample`.
    """
    for name, value in (("count", count), ("batch_size", batch_size)):
        check_whole(name, value)
    check_real("mean_nfe", mean_nfe)
    bound = bound_sampler(model, sampler, length)
    if bound.kernel.threshold is None:
        adaptive = [name for name, kernel in EVENT_SAMPLERS.items() if kernel.threshold]
        raise InputError(f"sampler={bound.kernel.name!r}: has no threshold; choose one of {adaptive}")
    if not 1 <= mean_nfe <= bound.nfe:
        raise InputError(f"mean_nfe={mean_nfe}: must be from 1 to the sampler's steps, {bound.nfe}")
    batch_size = min(batch_size, count)
    keys = sequence_keys(jax.random.key(0) if key is None else key, count)
    # All entropies of a sequence sum to less than this, so that an endless range has an end.
    loose = min(bound.kernel.threshold.loosest, bound.length * np.log(model.process.vocab_size))
    strict, found, progress = bound.kernel.threshold.strictest, [], Progress("fit the threshold, rounds", _ROUNDS)
    for index in range(_ROUNDS):
        threshold = (loose + strict) / 2
        calls = draw_and_count(model, bound.at_threshold(threshold), keys, batch_size)[1]
        found.append((abs(calls.mean() - mean_nfe), threshold, calls.mean(), np.percentile(calls, 95)))
        if found[-1][0] <= _CLOSE * mean_nfe:
            break
        loose, strict = (threshold, strict) if calls.mean() < mean_nfe else (loose, threshold)
        progress(index, threshold=threshold, mean_nfe=calls.mean())
    off, threshold, mean, percentile = min(found)
    progress(_ROUNDS, threshold=threshold, mean_nfe=mean, nfe_95=percentile)
    if off > _FAR * mean_nfe:
        logging.warning("mean_nfe=%g: is out of reach of %r; the nearest is %.4g", mean_nfe, bound.kernel.name, mean)
    return bound.at_threshold(threshold)
