"""A PyTorch network as a diffusion model, through a host callback: no port of the network is needed."""

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

_PROBE = 8  # tokens per sequence that a network is tried with
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
    it: distillation by cost tables needs none, and objectives that do are refused. It is called once here, with two sequences of 8
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

    def evaluate(x_BL: np.ndarray, time_B: np.ndarray) -> np.ndarray:
        tokens = torch.from_numpy(np.asarray(x_BL, np.int64)).to(device)
        arguments = (tokens,) if time_input == "none" else (tokens, torch.from_numpy(np.array(time_B)).to(device))
        with torch.no_grad():
            logits = module(*arguments)
        shape = (*x_BL.shape, process.vocab_size)
        if not (hasattr(logits, "ndim") and hasattr(logits, "float")):
            raise InputError(
                f"module=...: returns {type(logits).__name__}, not a tensor; wrap it, for example `.logits`"
            )
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

    _check_output(evaluate, process, output)
    if time_conditioned is None:
        time_conditioned = time_input != "none"
    return Diffusion.from_function(function, process, output, identity, time_conditioned)


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
