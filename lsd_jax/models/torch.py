"""A PyTorch network as a diffusion model, through a host callback: no port of the network is needed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.models.model import TIME_INPUTS, UNNAMED, Diffusion, Identity, network_time
from lsd_jax.processes.process import Process
from lsd_jax.processes.soft import is_soft

_INSTALL = "pip install 'lsd_jax[torch]'"


def from_torch(
    module: Callable[..., Any],
    process: Process,
    output: str = "posterior",
    time_input: str = "none",
    identity: Identity = UNNAMED,
    time_conditioned: bool | None = None,
) -> Diffusion:
    """A model from a PyTorch module or any callable that maps torch tensors to a torch tensor.

    The network stays in PyTorch, on its own device, and is called from the sampler for every evaluation. Gradients do not pass through
    it: distillation by cost tables needs none, and objectives that do are refused.

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
        ValueError: PyTorch is not installed, or an unknown output or time input.
    """
    if time_input not in TIME_INPUTS:
        raise InputError(f"time_input={time_input!r}: choose one of {TIME_INPUTS}")
    try:
        import torch
    except ImportError:
        raise InputError(f"module=...: a PyTorch network needs PyTorch; {_INSTALL}") from None
    device = next((parameter.device for parameter in getattr(module, "parameters", list)()), torch.device("cpu"))

    def evaluate(x_BL: np.ndarray, time_B: np.ndarray) -> np.ndarray:
        tokens = torch.from_numpy(np.asarray(x_BL, np.int64)).to(device)
        arguments = (tokens,) if time_input == "none" else (tokens, torch.from_numpy(np.array(time_B)).to(device))
        with torch.no_grad():
            logits = module(*arguments)
        shape = (*x_BL.shape, process.vocab_size)
        if logits.ndim != 3 or logits.shape[:2] != x_BL.shape or logits.shape[2] < process.vocab_size:
            raise InputError(f"module=...: returns {tuple(logits.shape)} for tokens {x_BL.shape}; needed is {shape}")
        return logits[..., : process.vocab_size].float().cpu().numpy()

    def function(x_BL: jax.Array, t: jax.Array) -> jax.Array:
        if is_soft(x_BL):
            raise InputError("module=...: a PyTorch network takes no soft tokens; choose alignment.gradient='detached'")
        time = jnp.zeros(()) if time_input == "none" else network_time(process, time_input, t)
        shape = jax.ShapeDtypeStruct((*x_BL.shape, process.vocab_size), jnp.float32)
        return jax.pure_callback(
            evaluate, shape, x_BL, jnp.broadcast_to(time, x_BL.shape[:1]), vmap_method="sequential"
        )

    if time_conditioned is None:
        time_conditioned = time_input != "none"
    return Diffusion.from_function(function, process, output, identity, time_conditioned)
