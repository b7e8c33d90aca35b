"""Runs a sampler: one `jax.lax.scan` over the steps, then the denoising step; on all devices, in batches."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.errors import InputError, check_whole
from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.draws import as_uniform
from lsd_jax.processes.process import token_dtype
from lsd_jax.processes.transition import Transition
from lsd_jax.progress import Progress
from lsd_jax.samplers.coupling import PathNoise, path_noise
from lsd_jax.samplers.kernel import Condition, EventSampler, Kernel, Sample, check_kernel, prior_tokens, transition_of
from lsd_jax.samplers.sampler import Sampler, bound_sampler, check_coupling


def simulate(
    key: jax.Array,
    model: Diffusion,
    sampler: Sampler,
    batch: int,
    keep_states: bool = False,
    start_BL: jax.Array | None = None,
    condition: Condition | None = None,
) -> Sample:
    """Draws `batch` sequences of `sampler.length` tokens, inside one program; `sample` is the verb for users.

    Args:
        key: a single key, or one key per sequence (B,); a sequence depends on its own key only.
        model: the diffusion model.
        sampler: a kernel's sampler (event samplers have a `draw` of their own) with a length.
        batch: B.
        keep_states: also return the states at every grid point.
        start_BL: states to start from instead of the prior's.
        condition: tokens that are given.

    Raises:
        ValueError: the kernel or the coupling is not defined for the process, or the coupling not for the kernel.
    """
    process, kernel, schedule, length = model.process, sampler.kernel, sampler.schedule, sampler.length
    check_kernel(kernel, process)
    check_coupling(kernel, sampler.coupling)
    key_B = key if key.ndim else sequence_keys(key, batch)
    noise = path_noise(key_B, process, sampler.coupling, length)
    given = (lambda x_BL: x_BL) if condition is None else condition.apply
    x_BL = prior_tokens(key_B, process, length, condition) if start_BL is None else given(start_BL)

    def move(carry, index, step, last):
        x_BL, log_survival_BL, state = carry
        if isinstance(kernel, Kernel):
            transition = transition_of(kernel, model, x_BL, step, last)
            x_BL = given(transition.sample(*noise.step(index, log_survival_BL)))
            return x_BL, log_survival_BL + transition.log_stay_BL, state
        draw = _StageDraw(noise, index, given)
        x_BL, state = (kernel.finish if last else kernel.step)(draw, state, model, x_BL, step)
        return x_BL, log_survival_BL, state

    def body(carry, inputs):
        carry = move(carry, *inputs, last=False)
        return carry, carry[0] if keep_states else None

    last = schedule.steps - 1
    state = () if isinstance(kernel, Kernel) else kernel.init(process, x_BL)
    carry = (x_BL, jnp.zeros((batch, length)), state)
    carry, states = jax.lax.scan(body, carry, (jnp.arange(last), schedule.inner))
    tokens_BL, _, state = move(carry, last, schedule.last, last=True)
    if keep_states:
        states = jnp.concatenate([x_BL[None], states, tokens_BL[None]])
    counted = not isinstance(kernel, Kernel) and kernel.calls
    calls_B = kernel.calls(state) if counted else jnp.full(batch, sampler.nfe, jnp.int32)
    return Sample(tokens_BL, sampler.nfe, states, calls_B)


class _StageDraw(NamedTuple):
    """`kernel.Draw` of one step."""

    noise: PathNoise
    index: jax.Array
    given: Callable[[jax.Array], jax.Array]

    def __call__(self, transition: Transition, stage: int = 0) -> jax.Array:
        jump_BL, token_BL = self.noise.stage(self.index, stage)
        return self.given(transition.sample(as_uniform(jump_BL), token_BL))

    def uniform(self, stage: int) -> jax.Array:
        return as_uniform(self.noise.stage(self.index, stage))


def sample(
    model: Diffusion,
    sampler: Sampler,
    key: jax.Array,
    count: int,
    *,
    length: int | None = None,
    condition: Condition | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Draws sequences with a few network evaluations each: `lsd.sample(model, sampler, jax.random.key(0), count=8)`.

    Args:
        model: the diffusion model.
        sampler: a distilled one, a loaded one, or one by name (`lsd.sampler`).
        key: a PRNG key; sequence i depends on the key and on i alone, whatever the batch size and the devices.
        count: how many sequences.
        length: tokens per sequence; a distilled sampler knows it.
        condition: tokens (count, L) that are given, for infilling.
        batch_size: sequences per compiled call; rounded up to a multiple of the devices.

    Returns:
        Tokens (count, L), uint8 where they fit, else int32.

    Raises:
        ValueError: the sampler does not fit the model, the length or the condition.
    """
    for name, value in (("count", count), ("batch_size", batch_size)):
        check_whole(name, value)
    if not (isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        raise InputError(
            f"key={type(key).__name__} {getattr(key, 'shape', '')}: must be one PRNG key, for example jax.random.key(0)"
        )
    batch_size = min(batch_size, count)
    bound = bound_sampler(model, sampler, length)
    if condition is not None:
        condition = _checked_condition(condition, (count, bound.length), model.process.vocab_size)
    return draw_and_count(model, bound, sequence_keys(key, count), batch_size, condition, "sample")[0]


def _checked_condition(condition: Condition, shape: tuple[int, int], vocab_size: int) -> Condition:
    """The condition as arrays; raises ValueError where given tokens are of another kind or shape, or outside the vocabulary."""
    if not isinstance(condition, Condition):
        raise InputError(f"condition={type(condition).__name__}: must be lsd.Condition(tokens_BL, fixed_BL)")
    tokens, fixed = np.asarray(condition.tokens_BL), np.asarray(condition.fixed_BL)
    for name, array, kind in (("tokens_BL", tokens, np.integer), ("fixed_BL", fixed, np.bool_)):
        if array.shape != shape or not np.issubdtype(array.dtype, kind):
            kinds = "booleans" if kind is np.bool_ else "integers"
            raise InputError(f"condition.{name}={array.dtype} {array.shape}: must be {kinds} of shape {shape}")
    given = tokens[fixed]
    if wrong := given[(given < 0) | (given >= vocab_size)].tolist():
        raise InputError(f"condition.tokens_BL={wrong[0]}: the model's tokens are 0 ... {vocab_size - 1}")
    return Condition(tokens.astype(np.int32), fixed)


@functools.partial(jax.jit, static_argnames="mesh")
def _draw(mesh, model, sampler, batch):
    def local(replicated, batch):
        (model, sampler), (key_B, condition) = replicated, batch
        if isinstance(sampler.kernel, EventSampler):
            params = sampler.schedule.step(0).params
            drawn = sampler.kernel.draw(key_B, model, sampler.length, sampler.schedule.steps, params, condition)
        else:
            drawn = simulate(key_B, model, sampler, len(key_B), condition=condition)
        return drawn.tokens, drawn.calls_B

    return parallel.map_over_data(local, mesh)((model, sampler), batch)


def draw_and_count(
    model: Diffusion,
    sampler: Sampler,
    key_B: jax.Array,
    batch_size: int,
    condition: Condition | None = None,
    progress: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (n, L) and the network evaluations really made for each (n,), from one key per sequence.

    Args:
        model: the diffusion model.
        sampler: with a length.
        key_B: the sequences' keys (n,).
        batch_size: sequences per compiled call; rounded up to a multiple of the devices.
        condition: given tokens (n, L), or None.
        progress: a name under which progress is shown; empty for none.
    """
    mesh = parallel.data_mesh()
    rows = () if condition is None else condition

    def draw(keys, *rows):
        return _draw(mesh, model, sampler, (keys, Condition(*rows) if rows else None))

    shown = Progress(progress, len(key_B)) if progress and len(key_B) > batch_size else None
    tokens, calls = parallel.in_batches(draw, batch_size, key_B, *rows, progress=shown)
    wrong = (tokens < 0) | (tokens >= model.process.vocab_size)
    if wrong.any():  # a probability that is not a number reveals nothing, or -1
        raise InputError(
            f"model={model.identity.id or model.identity.kind!r}: its answers are not numbers; {wrong.any(1).sum()} of {len(tokens)} "
            f"sequences by {sampler.kernel.name!r} have no token at some positions"
        )
    return tokens.astype(token_dtype(model.process.num_states)), calls
