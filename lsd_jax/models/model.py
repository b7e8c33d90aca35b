"""A diffusion model: noising process, network function and parameters. What a user brings, and all that a sampler sees."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from lsd_jax import parallel, shards
from lsd_jax.errors import InputError
from lsd_jax.processes.process import Process
from lsd_jax.processes.soft import is_soft

LogScoreFn = Callable[[Any, jax.Array, jax.Array], jax.Array]  # parameters, tokens (B, L), scalar time -> (B, L, S)
OUTPUTS = ("posterior", "log_posterior", "mean", "score", "log_score")
TIME_INPUTS = ("sigma_bar", "time", "none")


class Identity(NamedTuple):
    """What names a network in a saved sampler: its kind, where it came from, and the SHA-256 of its weights' file."""

    kind: str = "custom"
    id: str = ""
    sha256: str = ""


UNNAMED = Identity()


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params"],
    meta_fields=["process", "apply", "time_conditioned"],
    drop_fields=["identity", ("identity",)],  # twice, since jax before 0.10 unpacks the names
)
@dataclasses.dataclass(frozen=True)
class Diffusion:
    """A pretrained discrete diffusion model, frozen; a registered pytree, so that it passes through `jax.jit`.

    Attributes:
        process: the noising process (static).
        apply: (params, tokens (B, L), scalar time) -> log-score (B, L, S) (static; equal functions share compilations).
        params: the network's parameters; () for a function without any.
        time_conditioned: whether the network reads the time.
        identity: what names it in a saved sampler; not part of the pytree.
    """

    process: Process
    apply: LogScoreFn
    params: Any = ()
    time_conditioned: bool = False
    identity: Identity = UNNAMED

    def log_score(self, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """The log-score (B, L, S) at tokens and a scalar time."""
        return self.apply(self.params, x_BL, t)

    def log_scores(self, x_BL: jax.Array, t_B: jax.Array) -> jax.Array:
        """The log-scores (B, L, S) where every sequence is at a time of its own."""
        return jax.vmap(lambda x_L, t: self.log_score(x_L[None], t)[0])(x_BL, t_B)

    def frozen(self, log_score_BLS: jax.Array) -> "Diffusion":
        """The model with its answer fixed: a step then costs no network evaluation."""
        return dataclasses.replace(self, apply=lambda params, x_BL, t: log_score_BLS, params=())

    def any(self, flags: jax.Array) -> jax.Array:
        """Whether a flag is set, (). What depends on it may evaluate the network: devices that share its parameters agree."""
        return shards.any_together(self.params, flags)

    def masked(self) -> "Diffusion":
        """The model with zeros where the process never reads its log-score, so that gradients stay finite."""
        process, apply = self.process, self.apply
        return dataclasses.replace(self, apply=lambda params, x, t: process.masked(x, apply(params, x, t)))

    @classmethod
    def from_flax(
        cls,
        module: Any,
        params: Any,
        process: Process,
        output: str = "posterior",
        time_input: str | None = None,
        identity: Identity = UNNAMED,
        time_conditioned: bool | None = None,
    ) -> "Diffusion":
        """A model from a flax module (linen), or any object with `apply(params, tokens, time)`.

        Args:
            module: `module.apply(params, tokens (B, L) int32, time)` gives logits (B, L, S) over the S data tokens; time is a
                scalar.
            params: what `apply` takes first, usually {"params": ...}.
            process: the noising process that the network was trained with.
            output: what the logits are. "posterior": unnormalized log p(x_0 | x_t) (RADD, MDLM, LLaDA). "log_posterior": the same,
                normalized, taken as it is. "mean": log p(x_0 | x_t at the other positions) (Duo, UDLM). "score": SEDD's output
                before its scaling. "log_score": the logarithm of the concrete score itself.
            time_input: what the network reads as the time t: "sigma_bar", "time", or "none" (the module takes tokens alone).
                None reads the module's attribute `reads`, and is "sigma_bar" where it has none.
            identity: what names the network in a saved sampler.
            time_conditioned: whether what it says of the data depends on the time. None reads `module.config.time_conditioned`, and
                is whether there is a time input where it has none.

        Raises:
            ValueError: unknown output or time input, or an output that the process has no reading of.
        """
        of_flax = hasattr(module, "init") and hasattr(module, "scope")
        if of_flax and not (isinstance(params, Mapping) and "params" in params):
            raise InputError('params=...: must be what module.init returns, {"params": ...}')
        time_input = time_input or getattr(module, "reads", "sigma_bar")
        _check_choice("output", output, OUTPUTS)
        _check_choice("time_input", time_input, TIME_INPUTS)
        if time_conditioned is None:
            time_conditioned = getattr(getattr(module, "config", None), "time_conditioned", time_input != "none")
        score = NetworkScore(process, module, output, time_input)
        return cls(process, score, parallel.placed(params), bool(time_conditioned), identity)

    @classmethod
    def from_function(
        cls,
        function: Callable[[jax.Array, jax.Array], jax.Array],
        process: Process,
        output: str = "posterior",
        identity: Identity = UNNAMED,
        time_conditioned: bool = True,
    ) -> "Diffusion":
        """A model from any JAX function of (tokens (B, L) int32, scalar time t in [0, 1]) -> (B, L, S).

        Args:
            function: it closes over its parameters. Programs are compiled once per function object.
            process: the noising process.
            output: as in `from_flax`.
            identity: what names the function in a saved sampler.
            time_conditioned: whether what it says of the data depends on t.

        Raises:
            ValueError: unknown output, or an output that the process has no reading of.
        """
        _check_choice("output", output, OUTPUTS)
        try:
            inspect.signature(function).bind(None, None)
        except TypeError:  # also of what cannot be called
            raise InputError("function=...: must be a function of (tokens, t)") from None
        except ValueError:  # a signature that Python does not know
            pass
        return cls(process, FunctionScore(process, function, output), (), time_conditioned, identity)


@dataclasses.dataclass(frozen=True)
class NetworkScore:
    """The log-score function of a flax module; compared by value, so that a network loaded twice is compiled once."""

    process: Process
    module: Any
    output: str
    time_input: str

    def __post_init__(self):
        _check_reading(self.process, self.output)

    def __call__(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        return as_log_score(self.process, self._logits(params, x_BL, t), x_BL, t, self.output)

    def log_posterior(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """log p(x_0 | x_t), (B, L, S), normalized."""
        return as_log_posterior(self.process, self._logits(params, x_BL, t), x_BL, t, self.output)

    def _logits(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        if self.time_input == "none":
            return shards.applied(self.module, params, x_BL)
        return shards.applied(self.module, params, x_BL, network_time(self.process, self.time_input, t))


@dataclasses.dataclass(frozen=True)
class FunctionScore:
    """The log-score function of a JAX function without parameters."""

    process: Process
    function: Callable[[jax.Array, jax.Array], jax.Array]
    output: str

    def __post_init__(self):
        _check_reading(self.process, self.output)

    def __call__(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        del params
        return as_log_score(self.process, self._answer(x_BL, t), x_BL, t, self.output)

    def log_posterior(self, params: Any, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        """log p(x_0 | x_t), (B, L, S), normalized."""
        del params
        return as_log_posterior(self.process, self._answer(x_BL, t), x_BL, t, self.output)

    def _answer(self, x_BL: jax.Array, t: jax.Array) -> jax.Array:
        output_BLS = self.function(x_BL, t)
        if not hasattr(output_BLS, "shape"):
            raise InputError(f"function=...: returns {type(output_BLS).__name__}; it must return an array (B, L, S)")
        # A barrier: where the compiler sees equal columns, it takes their difference for 0, NaN or not.
        return jax.lax.optimization_barrier(output_BLS)


def network_time(process: Process, time_input: str, t: jax.Array) -> jax.Array:
    """What a network reads as the time t: the noise schedule's clock ("time", tauLDR's networks), or sigma_bar(t)."""
    return process.noise.clock(t) if time_input == "time" else process.noise.sigma_bar(t)


def as_log_score(process: Process, output_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, output: str) -> jax.Array:
    """The log-score (B, L, S) from a network's output, read as `output` says (see `Diffusion.from_flax`).

    Raises:
        ValueError: the output is of another shape. A column too many, often the mask's, would be drawn as if it were data.
    """
    output_BLS = _checked(process, output_BLS, x_BL)
    if output == "log_score":
        return output_BLS
    if output == "log_posterior":
        return process.log_score(output_BLS, x_BL, t)
    if output == "score":
        return process.log_score_of_sedd(output_BLS, x_BL, process.noise.sigma_bar(t))
    convert = process.log_score if output == "posterior" else process.log_score_of_mean
    return convert(jax.nn.log_softmax(output_BLS), x_BL, t)


def as_log_posterior(process: Process, output_BLS: jax.Array, x_BL: jax.Array, t: jax.Array, output: str) -> jax.Array:
    """log p(x_0 | x_t), (B, L, S), normalized, from a network's output; not by way of the score, where rounding loses the tail.

    Raises:
        ValueError: as `as_log_score`.
    """
    if output in ("score", "log_score"):
        return jax.nn.log_softmax(process.log_clean(as_log_score(process, output_BLS, x_BL, t, output), x_BL, t))
    log_probs_BLS = jax.nn.log_softmax(_checked(process, output_BLS, x_BL))
    if output == "mean":  # it says nothing of what stands at the position itself
        log_probs_BLS = jax.nn.log_softmax(log_probs_BLS + process.log_likelihood(x_BL, t))
    return log_probs_BLS


def _checked(process: Process, output_BLS: jax.Array, x_BL: jax.Array) -> jax.Array:
    needed = (*(x_BL.shape[:-1] if is_soft(x_BL) else x_BL.shape), process.vocab_size)
    if output_BLS.shape != needed:
        raise InputError(
            f"output={tuple(output_BLS.shape)}: the network must give (B, L, S) = {needed}, one column for every data token"
        )
    return process.possible(output_BLS)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name}={value!r}: choose one of {choices}")


def _check_reading(process: Process, output: str) -> None:
    if output in ("mean", "score") and process.ordered:
        raise InputError(f"output={output!r}: has no meaning for the {process.name} process; it reads 'posterior'")
