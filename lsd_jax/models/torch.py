"""A PyTorch network as a diffusion model, through a host callback: no port of the network is needed."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from lsd_jax.errors import InputError
from lsd_jax.models.model import OUTPUTS, TIME_INPUTS, UNNAMED, Diffusion, Identity, network_time
from lsd_jax.processes.process import Process
from lsd_jax.processes.soft import is_soft

try:
    from jax.experimental.buffer_callback import buffer_callback
except ImportError:  # of an older JAX: arrays go through the host
    buffer_callback = None

_PROBE = 8  # tokens per sequence that a network is tried with
_INSTALL = "pip install torch"


def from_torch(
    module: Callable[..., Any],
    process: Process,
    output: str = "posterior",
    time_input: str = "none",
    identity: Identity = UNNAMED,
    time_conditioned: bool | None = None,
) -> Diffusion:
    """A model from a PyTorch module or any callable that maps torch tensors to a torch tensor.

    The network stays in PyTorch, on its own device, and is called from the sampler for every evaluation. Where JAX computes on the
    same device, tokens and answers are shared by DLPack; else they go through the host. Gradients do not pass through it: distillation by cost tables needs none, and objectives that do are refused. It is called once here, with two sequences of 8
    masks or zeros, to see whether it returns what is said of it; a network that takes no such sequences is checked when it is used.

    Args:
        module: `module(tokens)` or, with a time input, `module(tokens, time)`. Tokens are an int64 tensor (B, L), time is a
            float32 tensor (B,). It returns a tensor (B, L, S) over the S data tokens; further columns, such as the mask's, are
            dropped.
        process: the noising process that the network was trained with.
        output: what it returns, as in `Diffusion.from_flax`.
        time_input: "none", "sigma_bar" or "time".
        identity: what names the network in a saved sampler.
        time_conditioned: whether the network reads the time; by default whether it has a time input.

    Raises:
        ValueError: PyTorch is not installed, an unknown output or time input, or a network that returns something else.
    """
    if output not in OUTPUTS:
        raise InputError(f"output={output!r}: choose one of {OUTPUTS}")
    if time_input not in TIME_INPUTS:
        raise InputError(f"time_input={time_input!r}: choose one of {TIME_INPUTS}")
    try:
        import torch
    except ImportError:
        raise InputError(f"module=...: a PyTorch network needs PyTorch; {_INSTALL}") from None
    device = next((parameter.device for parameter in getattr(module, "parameters", list)()), torch.device("cpu"))

    def logits_of(tokens_BL: Any, time_B: Any) -> Any:
        with torch.no_grad():
            logits = module(tokens_BL) if time_input == "none" else module(tokens_BL, time_B)
        tokens = tuple(tokens_BL.shape)
        if not (hasattr(logits, "ndim") and hasattr(logits, "float")):
            raise InputError(
                f"module=...: returns {type(logits).__name__}, not a tensor; wrap it, for example `.logits`"
            )
        if logits.ndim != 3 or tuple(logits.shape[:2]) != tokens or logits.shape[2] < process.vocab_size:
            needed = (*tokens, process.vocab_size)
            raise InputError(f"module=...: returns {tuple(logits.shape)} for tokens {tokens}; needed is {needed}")
        return logits[..., : process.vocab_size]

    def evaluate(x_BL: np.ndarray, time_B: np.ndarray) -> np.ndarray:
        tokens, time = torch.from_numpy(np.asarray(x_BL, np.int64)), torch.from_numpy(np.array(time_B))
        return logits_of(tokens.to(device), time.to(device)).float().cpu().numpy()

    def evaluate_in_place(context: Any, answer_BLS: Any, x_BL: Any, time_B: Any) -> None:
        # JAX's work before and after is queued on its own stream of the GPU: PyTorch's has to stand between.
        queued = device.type == "cuda"
        with torch.cuda.stream(torch.cuda.ExternalStream(context.stream)) if queued else contextlib.nullcontext():
            tokens, time = torch.from_dlpack(x_BL).to(torch.int64), torch.from_dlpack(time_B).clone()
            torch.from_dlpack(answer_BLS).copy_(logits_of(tokens, time))

    def function(x_BL: jax.Array, t: jax.Array) -> jax.Array:
        if is_soft(x_BL):
            raise InputError("module=...: a PyTorch network takes no soft tokens; choose alignment.gradient='detached'")
        time = jnp.zeros(()) if time_input == "none" else network_time(process, time_input, t)
        shape = jax.ShapeDtypeStruct((*x_BL.shape, process.vocab_size), jnp.float32)
        arguments = x_BL, jnp.broadcast_to(time, x_BL.shape[:1])
        if buffer_callback is not None and _in_one_memory(device):
            return buffer_callback(evaluate_in_place, shape, vmap_method="sequential")(*arguments)
        return jax.pure_callback(evaluate, shape, *arguments, vmap_method="sequential")

    _check_output(evaluate, process, output)
    if time_conditioned is None:
        time_conditioned = time_input != "none"
    return Diffusion.from_function(function, process, output, identity, time_conditioned)


def _in_one_memory(device: Any) -> bool:
    """Whether JAX's arrays lie where the network computes, so that DLPack shares them without a copy."""
    kinds = {"cpu": ("cpu",), "cuda": ("gpu", "cuda", "rocm")}
    return jax.default_backend() in kinds.get(getattr(device, "type", ""), ())


def _check_output(evaluate: Callable[[np.ndarray, np.ndarray], np.ndarray], process: Process, output: str) -> None:
    """Raises ValueError where the network's answer to a few masks, or zeros, is not what was said."""
    x_BL = np.full((2, _PROBE), process.num_states - 1 if process.jumps_once else 0)
    try:
        found_BLS = evaluate(x_BL, np.full(2, 0.5, np.float32))
    except InputError:
        raise
    except Exception as error:  # the network's own: perhaps it takes one length only, or wants more arguments
        logging.info(
            "module=...: not checked: two sequences of %d tokens raise %s: %s", _PROBE, type(error).__name__, error
        )
        return
    if not np.isfinite(found_BLS).any():
        raise InputError("module=...: returns no finite number for masked tokens")
    total = float(np.exp(found_BLS.astype(np.float64)).sum(-1).mean())
    if output == "log_posterior" and not abs(total - 1) < 1e-2:
        raise InputError(
            f"output='log_posterior': probabilities sum to {total:.3g} instead of 1; logits are output='posterior'"
        )
