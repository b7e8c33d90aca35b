"""The sampler: kernel, schedule and coupling. What is learned, saved, loaded and run."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError, check_real, check_whole
from lsd_jax.files import checked_path
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.kernel import AnyKernel, EventSampler, Kernel, StagedKernel, check_kernel
from lsd_jax.samplers.record import differences, to_record, write
from lsd_jax.samplers.registry import get_sampler
from lsd_jax.samplers.schedule import Schedule, fixed_grid, uniform_schedule


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["schedule"],
    meta_fields=["kernel", "coupling", "length", "process"],
    drop_fields=["facts", ("facts",)],  # twice, since jax before 0.10 unpacks the names
)
@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class Sampler:
    """Everything except the model that is needed to draw a sample; a registered pytree whose only data is the schedule.

    An event sampler reads the schedule's steps as its budget and the parameters of its first step.

    Attributes:
        schedule: the times and step parameters.
        kernel: what a step does (static).
        coupling: where its randomness comes from (static).
        length: tokens per sequence it was distilled for; None where any will do (static).
        process: the noising process it was distilled for; None where any will do that the kernel is defined for (static).
        facts: what its file says of it: "backbone", "provenance", "metrics"; not part of the pytree.
    """

    schedule: Schedule
    kernel: AnyKernel
    coupling: Coupling = IID
    length: int | None = None
    process: Process | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def nfe(self) -> int:
        """Network evaluations (NFE) per sequence, including the final denoising call; an event sampler's budget."""
        return nfe_of(self.kernel, self.schedule.steps)

    def has_likelihood(self, process: Process) -> bool:
        """Whether the M-step ELBO, or the likelihood itself, is defined for it, and finite."""
        if not (isinstance(self.kernel, Kernel) or self.kernel.nll):
            return False
        if self.schedule.params.top_p < 1:  # what lies outside the nucleus is impossible
            return False
        # Draws that share a shift have no tractable likelihood where positions jump many times.
        return process.jumps_once or self.coupling.name == "iid"

    def bound_to(self, model: Diffusion, length: int | None = None) -> "Sampler":
        """The sampler for a model and a length, checked.

        Raises:
            ValueError: another process or length than it was distilled for, no length at all, or a kernel or coupling that is
                not defined here.
        """
        if self.process is not None and (differing := differences(self.process, model.process)):
            told = "; ".join(f"{field}={value}, the model's is {of_model}" for field, value, of_model in differing)
            raise InputError(f"process={model.process.name!r}: the sampler was distilled for {told}")
        if self.length is not None and length not in (None, self.length):
            raise InputError(f"length={length}: the sampler was distilled for {self.length} tokens per sequence")
        length = self.length if length is None else length
        length = model.process.longest if length is None else length
        if length is None:
            raise InputError("length=None: the sampler was made by name; say how many tokens a sequence has")
        check_kernel(self.kernel, model.process)
        check_time(self.kernel, model.time_conditioned)
        check_coupling(self.kernel, self.coupling)
        self.coupling.keeps_thresholds(model.process)
        self.coupling.check_length(length)
        model.process.check_length(length)
        return dataclasses.replace(self, length=length, process=model.process)

    def at_threshold(self, threshold: float) -> "Sampler":
        """The adaptive sampler with another threshold; programs that were compiled for this one serve it too.

        Raises:
            ValueError: the sampler has none, or the value is out of range.
        """
        check_threshold(self.kernel, threshold)
        steps = jnp.full(self.schedule.steps, threshold, jnp.float32)
        params = dataclasses.replace(self.schedule.params, threshold=steps)
        return dataclasses.replace(self, schedule=dataclasses.replace(self.schedule, params=params))

    def record(self) -> dict[str, Any]:
        """What its file holds (docs/student_format.md).

        Raises:
            ValueError: no process or length is known, or it is an event sampler.
        """
        if self.process is None or self.length is None or isinstance(self.kernel, EventSampler):
            raise InputError(
                f"sampler={self.kernel.name!r}: only a distilled sampler, or one bound to a model, has a file"
            )
        return {**to_record(self.process, self.kernel, self.coupling, self.schedule, self.length), **self.facts}

    def save(self, path: str | pathlib.Path) -> None:
        """Writes the sampler as a readable file, whole or not at all; `load_sampler` reads it.

        Raises:
            ValueError: as `record`.
        """
        write(checked_path("path", path), self.record())


def sampler(
    name: str,
    steps: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    grid: str = "uniform",
    coupling: Coupling = IID,
    threshold: float | None = None,
) -> Sampler:
    """Any registered sampler by name, untuned: `lsd.sampler("euler", steps=8, temperature=0.9)`.

    Args:
        name: a kernel or event sampler of docs/samplers.md.
        steps: equal steps, the last of which is the denoising one; an event sampler's budget of network evaluations.
        temperature: of the token drawn; 0 takes the likeliest.
        top_p: tokens are drawn from the smallest set with this share of the probability, in (0, 1].
        grid: "uniform", "cosine", or another fixed grid of docs/samplers.md.
        coupling: where the randomness comes from.
        threshold: of an adaptive event sampler (docs/samplers.md); None is the published one. `fit_threshold` finds it for a
            number of network evaluations.

    Raises:
        ValueError: unknown name or grid, or a value out of range.
    """
    kernel = get_sampler(name)
    check_whole("steps", steps)
    if not isinstance(coupling, Coupling):
        raise InputError(f"coupling={coupling!r}: must be an lsd.Coupling")
    check_sharpness(temperature, top_p)
    check_coupling(kernel, coupling)
    schedule = uniform_schedule(steps, temperature, top_p)
    if grid != "uniform":
        schedule = dataclasses.replace(schedule, time_grid=jnp.asarray(fixed_grid(grid, steps), jnp.float32))
    made = Sampler(schedule, kernel, coupling)
    return made if threshold is None else made.at_threshold(threshold)


def bound_sampler(model: Diffusion, sampler: Sampler, length: int | None) -> Sampler:
    """A user's sampler for a user's model and length, checked.

    Raises:
        ValueError: something else in the place of one, or as `Sampler.bound_to`.
    """
    if not isinstance(model, Diffusion):
        raise InputError(f"model={type(model).__name__}: must be a Diffusion; the model goes before the sampler")
    if not isinstance(sampler, Sampler):
        raise InputError(
            f"sampler={type(sampler).__name__}: must be a Sampler: one of distill's, such as students[8], "
            "lsd.load_sampler(path) or lsd.sampler(name, steps)"
        )
    if length is not None and (not isinstance(length, int | np.integer) or length < 1):
        raise InputError(f"length={length!r}: must be a whole number, 1 or more")
    return sampler.bound_to(model, length)


def nfe_of(kernel: AnyKernel, steps: int) -> int:
    """Network evaluations (NFE) per sequence of `steps` steps, including the final denoising call."""
    return steps if isinstance(kernel, EventSampler) else kernel.nfe * (steps - 1) + 1


def steps_within(kernel: AnyKernel, budget: int) -> int:
    """How many steps of a kernel a budget of network evaluations pays for; the last step makes one evaluation."""
    return budget if isinstance(kernel, EventSampler) else (budget - 1) // kernel.nfe + 1


def check_sharpness(temperature: float, top_p: float) -> None:
    """Raises ValueError where a temperature or a nucleus is out of range."""
    check_real("temperature", temperature)
    check_real("top_p", top_p)
    if not 0 <= temperature < np.inf:
        raise InputError(f"temperature={temperature}: must be 0 (the likeliest token) or more")
    if not 0 < top_p <= 1:
        raise InputError(f"top_p={top_p}: must be above 0 and at most 1")


def check_threshold(kernel: AnyKernel, threshold: float) -> None:
    """Raises ValueError where a kernel has no threshold, or not such a one."""
    check_real("threshold", threshold)
    if kernel.threshold is None:
        raise InputError(f"threshold={threshold}: {kernel.name!r} has none; leave it out")
    least, most = sorted((kernel.threshold.loosest, kernel.threshold.strictest))
    if not least <= threshold <= most:
        allowed = f"{least:g} or more" if most == np.inf else f"from {least:g} to {most:g}"
        raise InputError(f"threshold={threshold}: must be {allowed} for {kernel.name!r}")


def check_coupling(kernel: AnyKernel, coupling: Coupling) -> None:
    """Raises ValueError where the kernel draws in stages, which only independent noise serves."""
    if isinstance(kernel, StagedKernel) and coupling.name != "iid":
        raise InputError(
            f"coupling.name={coupling.name!r}: must be 'iid' for kernel {kernel.name!r}, which draws in stages of its own"
        )


def check_time(kernel: AnyKernel, time_conditioned: bool) -> None:
    """Raises ValueError where a kernel would reuse the scores of a network that reads the time."""
    if kernel.reuses_scores and time_conditioned:
        raise InputError(
            f"kernel={kernel.name!r}: reuses scores of earlier times; it needs a network without a time input (time_conditioned=False)"
        )
