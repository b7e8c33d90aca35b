"""How well a few-step sampler explains given sequences: -log p(x) under the sampler itself, by importance-weighted paths.

A sampler draws a path first (in which step each position is revealed) and tokens along it, so that p(x) is a mean over paths.
The mean of -log p(x | path) over paths is the M-step ELBO, an upper bound on -log p(x). How much it lies above depends on the
sampler: little for a sweep with a few orders, nats for independent reveals. Bounds of different samplers therefore do not
compare. -log of the mean of p(x | path) over K paths does: it is unbiased in p, its mean falls with K to -log p(x) (Burda et al.
2016, arXiv 1509.00519), and it is exact where the K paths are all that there are. No temperature lowers either below the truth.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.errors import InputError
from lsd_jax.keys import PathStream, fold_each, sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.progress import Progress
from lsd_jax.samplers.bridge import bridge_state
from lsd_jax.samplers.coupling import IID, path_noise
from lsd_jax.samplers.kernel import check_kernel, transition_of
from lsd_jax.samplers.sampler import Sampler, bound_sampler

_ALIGNED = 1e-3  # share of a rank by which a step may end off the rank's end, and still reveal whole ranks


class PathCosts(NamedTuple):
    """-log p(x | path) of n sequences along K paths each.

    Attributes:
        nats_NK: (n, K), nats per sequence.
        exact: whether these are all paths, equally likely, so that the weighted mean is -log p(x) itself.
    """

    nats_NK: np.ndarray
    exact: bool

    @property
    def elbo(self) -> np.ndarray:
        """The M-step ELBO (n,): the mean over paths, an upper bound on -log p(x)."""
        return self.nats_NK.mean(1)

    def weighted(self, count: int = 0) -> np.ndarray:
        """The importance-weighted -log p(x) (n,) of all K paths; of `count`: the mean over the groups of so many."""
        count = count or self.nats_NK.shape[1]
        groups = self.nats_NK.shape[1] // count
        nats_NGK = self.nats_NK[:, : groups * count].reshape(-1, groups, count)
        return -_log_mean_exp(-nats_NGK).mean(1)

    @property
    def effective_paths(self) -> np.ndarray:
        """The effective sample size (n,) of the K paths, between 1 and K: near 1 the weighted mean is still far above. 0 where a
        sequence is impossible."""
        weights_NK = np.exp(np.nan_to_num(self.nats_NK.min(1, keepdims=True), posinf=0.0) - self.nats_NK)
        return weights_NK.sum(1) ** 2 / np.maximum((weights_NK**2).sum(1), 1e-300)


def _log_mean_exp(logs: np.ndarray) -> np.ndarray:
    """log of the mean of exp over the last axis; -inf where all are."""
    top = logs.max(-1, keepdims=True)
    top = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        return top[..., 0] + np.log(np.exp(logs - top).mean(-1))


def likelihood(
    model: Diffusion,
    sampler: Sampler,
    tokens: np.ndarray,
    *,
    paths: int = 16,
    key: jax.Array | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """-log p(x) under the few-step sampler, (n,) in nats, importance-weighted over `paths` reveal orders or noising paths; inf for
    a sequence of a length that the process never draws.

    It is unbiased in p, so that its mean is at or above -log p(x) and falls with more paths. It is exact where the kernel's order
    is a function of the state, and where the sampler has at most four times as many orders as `paths` (a learned pattern, or two).

    Args:
        model: the diffusion model.
        sampler: any sampler with a likelihood (docs/samplers.md).
        tokens: integers (n, L).
        paths: K per sequence. 1 gives the M-step ELBO's estimate, whose bound is not equally tight for all samplers.
        key: of the paths; by default that of seed 0.
        batch_size: paths per compiled call; rounded up to a multiple of the devices.

    Raises:
        ValueError: the sampler has no likelihood, or does not fit the model or the tokens.
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer) or not len(tokens):
        raise InputError(f"tokens={tokens.dtype} {tokens.shape}: must be integers of shape (n, L)")
    if tokens.min() < 0 or tokens.max() >= model.process.vocab_size:
        wrong = tokens.min() if tokens.min() < 0 else tokens.max()
        raise InputError(f"tokens={wrong}: the model's are 0 ... {model.process.vocab_size - 1}")
    if not isinstance(paths, int | np.integer) or paths < 1:
        raise InputError(f"paths={paths!r}: must be a whole number, 1 or more")
    bound = bound_sampler(model, sampler, tokens.shape[1])
    if not bound.has_likelihood(model.process):
        raise InputError(f"sampler={sampler.kernel.name!r}: has no likelihood (docs/samplers.md)")
    batch_size = min(batch_size, len(tokens) * paths)
    key = jax.random.key(0) if key is None else key
    nats = path_costs(model, bound, key, tokens, paths, batch_size, "likelihood").weighted()
    if wrong := int(np.isnan(nats).sum()):
        name = model.identity.id or model.identity.kind
        raise InputError(
            f"model={name!r}: its answers are not numbers; {wrong} of {len(nats)} sequences have no likelihood"
        )
    return nats


def path_costs(
    model: Diffusion,
    sampler: Sampler,
    key: jax.Array,
    tokens: np.ndarray,
    paths: int,
    batch_size: int,
    progress: str = "",
) -> PathCosts:
    """-log p(x | path) of given sequences (n, L) along `paths` paths each, or along all of them where they are few."""
    keys, rows = sequence_keys(key, len(tokens)), tokens.astype(np.int32)
    if sampler.kernel.nll is not None:
        return PathCosts(nats_along(model, sampler, (keys, rows), batch_size, progress=progress)[:, None], True)
    found = all_orders(model, sampler, 4 * paths) if paths > 1 else None
    if found is not None:
        thresholds = np.tile(found, (len(rows), 1))
        keys, rows = jnp.repeat(keys, len(found)), np.repeat(rows, len(found), 0)
        costs = nats_along(model, sampler, (keys, rows, thresholds), batch_size, progress=progress)
        return PathCosts(costs.reshape(len(tokens), -1), True)
    by_path = [keys, *(fold_each(keys, index) for index in range(1, paths))]
    keys = jnp.stack(by_path, 1).reshape(-1)
    arrays = keys, np.repeat(rows, paths, 0)
    costs = nats_along(model, sampler, arrays, batch_size, paths > 1, progress)
    return PathCosts(costs.reshape(len(tokens), paths), False)


def elbo_nats(
    model: Diffusion, sampler: Sampler, key: jax.Array, tokens: np.ndarray, batch_size: int, progress: str = ""
) -> np.ndarray:
    """The M-step ELBO (n,) of given sequences from one path each, nats; their exact -log p where the kernel has it."""
    return path_costs(model, sampler, key, tokens, 1, batch_size, progress).nats_NK[:, 0]


def nats_along(
    model: Diffusion,
    sampler: Sampler,
    arrays: Sequence[Any],
    batch_size: int,
    weighted: bool = False,
    progress: str = "",
) -> np.ndarray:
    """-log p(x | path), nats (n,), of one path per sequence.

    Args:
        arrays: keys (n,), tokens (n, L), and where positions jump once perhaps the thresholds (n, L) of their order.
        weighted: whether the values are to be averaged in p, where positions jump many times.
    """
    of_bridges = weighted and not model.process.jumps_once  # elsewhere ELBO and weights are one program
    run = functools.partial(_batch_nats, parallel.data_mesh(), of_bridges, model, sampler)
    shown = Progress(progress, len(arrays[0])) if progress and len(arrays[0]) > batch_size else None
    nats = parallel.in_batches(lambda *batch: run(batch), batch_size, *arrays, progress=shown)
    return nats.astype(np.float64)


@functools.partial(jax.jit, static_argnames=("mesh", "of_bridges"))
def _batch_nats(mesh, of_bridges, model, sampler, batch):
    def local(replicated, batch):
        (model, sampler), (key_B, x0_BL, *threshold_BL) = replicated, batch
        if sampler.kernel.nll is not None:
            return sampler.kernel.nll(model, sampler.kernel, sampler.schedule, x0_BL)
        if of_bridges:
            return bridge_path_nll(key_B, model, sampler, x0_BL)
        return m_step_nll(key_B, model, sampler, x0_BL, *threshold_BL)

    return parallel.map_over_data(local, mesh)((model, sampler), batch)


def all_orders(model: Diffusion, sampler: Sampler, most: int) -> np.ndarray | None:
    """Thresholds (K, L) of all K equally likely reveal orders of a sampler bound to a length; None where they are more than `most`.

    A table of ranks has as many orders as cyclic shifts, if every step reveals whole ranks.
    """
    coupling, length = sampler.coupling, sampler.length
    if not model.process.jumps_once or not 0 < coupling.shifts(length) <= most:
        return None
    # The coupling has no say in it, and all orders share one compilation.
    ends = _survival(model, dataclasses.replace(sampler, coupling=IID))
    if ends is None:
        return None
    off = ends * coupling.ranks(length)
    return coupling.all_thresholds(length) if (np.abs(off - np.round(off)) < _ALIGNED).all() else None


@jax.jit
def _log_stays(model: Diffusion, sampler: Sampler, x_BL: jax.Array) -> jax.Array:
    stay = lambda step: transition_of(sampler.kernel, model, x_BL, step, last=False).log_stay_BL
    return jax.lax.map(stay, sampler.schedule.inner)


def _survival(model: Diffusion, sampler: Sampler) -> np.ndarray | None:
    """The share of positions (M - 1,) still masked after each step but the last; None where it depends on the state."""
    if sampler.schedule.steps == 1:
        return np.zeros(0)
    masked_L = np.full(sampler.length, model.process.mask)
    half_L = np.where(np.arange(sampler.length) % 2, masked_L, 0)
    x_BL = jnp.asarray(np.stack([masked_L, half_L]), jnp.int32)
    log_stay_KB = np.asarray(_log_stays(model, sampler, x_BL), np.float64)[:, np.asarray(x_BL) == model.process.mask]
    survival_KB = np.exp(np.cumsum(log_stay_KB, 0))
    return survival_KB[:, 0] if np.ptp(survival_KB, 1).max() < 1e-5 else None


def m_step_nll(
    key_B: jax.Array, model: Diffusion, sampler: Sampler, x0_BL: jax.Array, threshold_BL: jax.Array | None = None
) -> jax.Array:
    """An unbiased estimate (B,), nats per sequence, of the sampler's M-step ELBO at x0.

    The sampler runs as it would, but every position that jumps is given x0's token and pays its -log probability. With
    that forced path as the variational distribution the probabilities of jumping cancel, whatever the score, the coefficients
    and the coupling: the mean is at or above -log p(x0) of the few-step sampler, and nothing can lower it below the truth.

    Where positions jump many times it is the same bound in D3PM's form: at every step the divergence of the bridge's step from
    the sampler's, summed over outcomes, at a fresh bridge state. It is that of independent draws.

    Args:
        threshold_BL: of the reveal order, instead of those that the keys give.

    Raises:
        ValueError: such a process whose draws are not independent.
    """
    check_kernel(sampler.kernel, model.process)
    if not model.process.jumps_once:
        if sampler.coupling.name != "iid":
            name = model.process.name
            raise InputError(f"coupling.name={sampler.coupling.name!r}: the ELBO of the {name} process needs 'iid'")
        return _bridge_nll(key_B, model, sampler, x0_BL)
    noise = path_noise(key_B, model.process, sampler.coupling, x0_BL.shape[1])
    if threshold_BL is not None:
        noise = dataclasses.replace(noise, threshold_BL=threshold_BL)
    schedule = sampler.schedule

    def force(carry, index, step, last):
        x_BL, log_survival_BL, nll_B = carry
        transition = transition_of(sampler.kernel, model, x_BL, step, last)
        jump_BL = transition.jumps(noise.step(index, log_survival_BL)[0])
        nll_B = nll_B - jnp.where(jump_BL, transition.destination_log_prob(x0_BL, jump_BL), 0.0).sum(-1)
        return jnp.where(jump_BL, x0_BL, x_BL), log_survival_BL + transition.log_stay_BL, nll_B

    x_BL = model.process.start(x0_BL)
    carry, last = (x_BL, jnp.zeros(x0_BL.shape), -model.process.prior_log_prob(x_BL)), schedule.steps - 1
    body = lambda carry, inputs: (force(carry, *inputs, last=False), None)
    carry, _ = jax.lax.scan(body, carry, (jnp.arange(last), schedule.inner))
    return force(carry, last, schedule.last, last=True)[2]


def _bridge_nll(key_B: jax.Array, model: Diffusion, sampler: Sampler, x0_BL: jax.Array) -> jax.Array:
    def cost(index, step, last):
        x_BL = bridge_state(fold_each(key_B, index), model.process, IID, x0_BL, step.t)
        own = transition_of(sampler.kernel, model, x_BL, step, last)
        end = jnp.zeros(()) if last else step.u
        return own.kl_from(model.process.bridge(x_BL, x0_BL, step.t, end)).sum(-1)

    schedule, last = sampler.schedule, sampler.schedule.steps - 1
    body = lambda nll_B, inputs: (nll_B + cost(*inputs, last=False), None)
    nll_B, _ = jax.lax.scan(body, model.process.prior_kl(x0_BL), (jnp.arange(last), schedule.inner))
    return nll_B + cost(last, schedule.last, last=True)


def bridge_path_nll(key_B: jax.Array, model: Diffusion, sampler: Sampler, x0_BL: jax.Array) -> jax.Array:
    """-log of an unbiased estimate of p(x0) (B,), nats, where positions jump many times: one whole path of the bridge.

    The path's probability under the sampler is divided by that under q(path | x0). The mean is the M-step ELBO that `m_step_nll`
    estimates with less noise, but only these weights may be averaged in p.
    """
    process, schedule, length = model.process, sampler.schedule, x0_BL.shape[1]
    noise = path_noise(key_B, process, IID, length)
    start = jax.vmap(lambda key: process.path_uniforms(jax.random.fold_in(key, int(PathStream.PRIOR)), length))(key_B)
    one, zero = jnp.ones(()), jnp.zeros(())
    x_BL = process.noised(start, x0_BL, one)
    nll_B = process.forward_log_prob(x_BL, x0_BL, one, zero).sum(-1) - process.prior_log_prob(x_BL)

    def walk(carry, inputs):
        (x_BL, nll_B), (index, step) = carry, inputs
        bridge = process.bridge(x_BL, x0_BL, step.t, step.u)
        own = transition_of(sampler.kernel, model, x_BL, step, last=False)
        next_BL = bridge.sample(*noise.step(index, zero))
        return (next_BL, nll_B + (bridge.log_prob(next_BL) - own.log_prob(next_BL)).sum(-1)), None

    (x_BL, nll_B), _ = jax.lax.scan(walk, (x_BL, nll_B), (jnp.arange(schedule.steps - 1), schedule.inner))
    return nll_B - transition_of(sampler.kernel, model, x_BL, schedule.last, last=True).log_prob(x0_BL).sum(-1)
