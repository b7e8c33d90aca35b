"""The entries of a study: what config.tasks and config.samplers say, (name, changes of the config, random stream)."""

from typing import Any, NamedTuple

import ml_collections

from lsd_jax.errors import InputError
from lsd_jax.samplers.kernel import AnyKernel, EventSampler
from lsd_jax.samplers.registry import SAMPLERS, get_sampler
from lsd_jax.samplers.schedule import FIXED_GRIDS


class Entry(NamedTuple):
    """A task or a sampler of a study: its name, (field, value) pairs that it changes, and the name of its random stream."""

    name: str
    changes: tuple[tuple[str, Any], ...]
    stream: str


def resolve(config: ml_collections.ConfigDict, entry: Entry, field: str = "samplers") -> ml_collections.ConfigDict:
    """The config with an entry's changes.

    Raises:
        ValueError: the entry changes a field that does not exist.
    """
    resolved = config.copy_and_resolve_references()
    for name, value in entry.changes:
        *parents, last = name.split(".")
        fields = resolved
        for parent in parents:
            fields = fields[parent] if parent in fields else {}
        if last not in fields:
            raise InputError(f"config.{field}: {entry.name!r} changes config.{name}, which does not exist")
        fields[last] = tuple(value) if isinstance(value, list) else value
    return resolved


def is_distilled(config: ml_collections.ConfigDict) -> bool:
    """Whether a config's sampler is learned, or else the plain sampler of its kernel on a fixed grid."""
    student = config.student
    plain = student.grid in FIXED_GRIDS and student.order == "fixed" and not config.distill.steps
    return not isinstance(get_sampler(student.kernel), EventSampler) and (not plain or student.potentials > 0)


def default_samplers(config: ml_collections.ConfigDict) -> list[Entry]:
    """What a plain run compares: our student, Euler and an analytic or ancestral sampler, untuned, at equal network evaluations.

    Euler at lower temperatures is the control, and Euler at config.evaluation.reference_steps the many-step reference.
    """
    plain = {
        "grid": "uniform",
        "order": "fixed",
        "coupling.name": "iid",
        "potentials": 0,
        "temperature": 1.0,
        "top_p": 1.0,
    }

    def entry(name: str, stream: str, **changes: Any) -> Entry:
        own = {"distill.steps": 0, **{f"student.{field}": value for field, value in (plain | changes).items()}}
        return Entry(name, tuple(own.items()), stream)

    steps, many = tuple(config.nfe or config.student.steps), config.evaluation.reference_steps
    more = "ancestral" if config.process.name == "gaussian" else "tweedie"
    tempered = [
        entry(f"Euler, T={t:g}", f"euler_T{t:g}", kernel="euler", temperature=t) for t in config.evaluation.temperatures
    ]
    return [
        Entry(config.report.ours, (), "student"),
        entry("Euler", "euler", kernel="euler", steps=(*steps, *((many,) if many and many not in steps else ()))),
        entry(more.capitalize(), more, kernel=more),
        *tempered,
    ]


def find_kernel(kernel: str) -> AnyKernel:
    """A kernel or event sampler by the name that config.student.kernel has.

    Raises:
        ValueError: unknown name.
    """
    if kernel not in SAMPLERS:
        raise InputError(f"kernel={kernel!r}: choose one of {sorted(SAMPLERS)}")
    return SAMPLERS[kernel]
