"""Every mistake in the settings of a distillation that can be told before long work."""

import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from lsd_jax import parallel
from lsd_jax.distill.objectives.registry import check_objective
from lsd_jax.distill.optimize import check_sizes
from lsd_jax.distill.plan import GRIDS, ORDERS, check_halving
from lsd_jax.distill.potentials import absorbing
from lsd_jax.distill.settings import OptimizeSettings, StudentSettings, TeacherSettings
from lsd_jax.distill.student import init_student
from lsd_jax.errors import InputError, check_kind, check_whole
from lsd_jax.files import checked_path
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Kernel, check_kernel
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import check_coupling, check_sharpness
from lsd_jax.samplers.schedule import FIXED_GRIDS

_SOURCES = ("samples", "data")


def check(
    process: Process,
    length: int,
    steps: Sequence[int],
    student: StudentSettings,
    teacher: TeacherSettings,
    optimization: OptimizeSettings,
    rows: int | None,
) -> None:
    """Raises ValueError for every mistake that can be told before long work.

    Args:
        process: the model's.
        length: tokens per sequence.
        steps: the numbers of steps.
        student, teacher, optimization: the settings.
        rows: how many sequences of data there are; None for none.
    """
    check_teacher(teacher, rows)
    check_student(process, length, student)
    check_steps(steps, student, teacher)
    check_objective(optimization, process, get_kernel(student.kernel), student.coupling)
    check_sizes(optimization, teacher.paths, parallel.data_mesh().size)
    check_potentials(process, student, teacher, optimization, rows)


def check_teacher(teacher: TeacherSettings, rows: int | None) -> None:
    """Raises ValueError or FileNotFoundError where a teacher cannot be made; `rows` sequences of data, None for none."""
    devices = parallel.data_mesh().size
    if teacher.source not in _SOURCES:
        raise InputError(f"source={teacher.source!r}: choose one of {_SOURCES}")
    if teacher.cache:
        check_archive(checked_path("cache", teacher.cache), teacher.cache)
    check_whole("steps", teacher.steps)
    check_whole("paths", teacher.paths)
    if teacher.paths % devices:
        raise InputError(f"paths={teacher.paths}: is not divisible by {devices} devices")
    if teacher.source == "data" and rows is None:
        raise InputError("source='data': needs sequences to lead to")
    if teacher.source == "data" and teacher.paths > rows:
        raise InputError(f"paths={teacher.paths}: is more than the {rows} sequences of data")


def check_archive(file: pathlib.Path, given: str) -> None:
    """Raises FileNotFoundError or ValueError where a file of arrays is not there or is damaged."""
    if not file.is_file():
        raise FileNotFoundError(f"cache={given!r}: {'is not a file' if file.exists() else 'no such file'}")
    with file.open("rb") as stream:
        whole = zipfile.is_zipfile(stream)
    if not whole:
        raise InputError(f"cache={given!r}: is no .npz of teacher paths, or is damaged")


def check_student(process: Process, length: int, student: StudentSettings) -> None:
    """Raises ValueError where a student's settings do not fit the process, the length or each other."""
    kernel, coupling = get_kernel(student.kernel), student.coupling
    check_kind("coupling", coupling, Coupling, "an lsd.Coupling")
    check_kernel(kernel, process)
    coupling.keeps_thresholds(process)
    coupling.check_length(length)
    process.check_length(length)
    for field, choices in (("grid", GRIDS), ("order", ORDERS)):
        if getattr(student, field) not in choices:
            raise InputError(f"{field}={getattr(student, field)!r}: choose one of {choices}")
    for field, refused, plain in (("order", ("auto", "learned"), "'fixed'"), ("grid", ("profile",), "another")):
        if not process.jumps_once and getattr(student, field) in refused:
            raise InputError(
                f"{field}={getattr(student, field)!r}: is one of an order of reveals, which only the absorbing process has; "
                f"choose {plain}"
            )
    for field, least in (("draws", 1), ("grid_points", 2), ("order_trials", 0), ("potentials", 0)):
        check_whole(field, getattr(student, field), least)
    check_sharpness(student.temperature, student.top_p)
    init_student(kernel, coupling, student.coefficient, 1, None, student.temperature)
    check_coupling(kernel, coupling)
    for field, plain in (("order", "fixed"), ("potentials", 0)):
        if not isinstance(kernel, Kernel) and getattr(student, field) != plain:
            raise InputError(
                f"{field}={getattr(student, field)!r}: kernel {kernel.name!r} draws in stages of its own; choose {plain!r}"
            )


def check_steps(steps: Sequence[int], student: StudentSettings, teacher: TeacherSettings) -> None:
    """Raises ValueError where a number of steps has no student."""
    if not steps:
        raise InputError("steps=(): is empty; name at least one number of steps")
    if len(set(steps)) < len(steps):
        raise InputError(f"steps={tuple(steps)}: each number of steps once")
    check_halving(student.grid, steps)
    for m in steps:
        if m < 1:
            raise InputError(f"steps={m}: at least one step is needed")
        if m > teacher.steps:
            raise InputError(
                f"steps={m}: is more than the teacher's {teacher.steps} steps; take fewer, or a teacher of more"
            )
        if m > student.grid_points and not (
            student.grid == "jys" or (student.grid in FIXED_GRIDS and student.order == "fixed")
        ):
            raise InputError(
                f"steps={m}: is more than the {student.grid_points} candidate times; take fewer, or more grid_points"
            )


def check_potentials(
    process: Process,
    student: StudentSettings,
    teacher: TeacherSettings,
    optimization: OptimizeSettings,
    rows: int | None,
) -> None:
    """Raises ValueError where pair potentials between the tokens of a step cannot be fitted or used."""
    count = student.potentials
    if not count:
        return
    if count < 4:
        raise InputError(f"potentials={count}: 0 for none, or at least 4 sequences to fit on")
    if process.ordered:
        raise InputError(f"potentials={count}: need the absorbing or the uniform process, not {process.name!r}")
    if not process.jumps_once and student.coupling.name != "iid":
        raise InputError(
            f"potentials={count}: under uniform noise need coupling.name='iid', not {student.coupling.name!r}"
        )
    if optimization.steps and optimization.objective != "path_kl":
        raise InputError(f"potentials={count}: go with objective 'path_kl', or without an optimization")
    if not process.jumps_once and process.vocab_size > absorbing.MAX_TABLE:
        raise InputError(
            f"potentials={count}: under uniform noise need a table of {process.vocab_size} tokens squared; at most "
            f"{absorbing.MAX_TABLE} tokens"
        )
    available, where = (teacher.paths, "teacher paths") if teacher.source == "samples" else (rows, "training sequences")
    if count > available:
        raise InputError(f"potentials={count}: is more than the {available} {where}")


def checked_data(model: Diffusion, data: np.ndarray | None) -> np.ndarray | None:
    """The data as an array; raises ValueError where it is no sequences of the model's tokens."""
    if data is None:
        return None
    try:
        tokens = np.asarray(data)
    except ValueError:  # rows of several lengths
        raise InputError("data=...: its sequences have several lengths; must be integers of shape (n, L)") from None
    if tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer) or not tokens.size:
        raise InputError(f"data={tokens.dtype} {tokens.shape}: must be integers of shape (n, L)")
    if tokens.min() < 0 or tokens.max() >= model.process.vocab_size:
        wrong = int(tokens.min()) if tokens.min() < 0 else int(tokens.max())
        raise InputError(f"data={wrong}: the model's tokens are 0 ... {model.process.vocab_size - 1}")
    if model.process.longest is not None:
        model.process.check_length(tokens.shape[1])
        impossible = np.isneginf(model.process.prior_log_prob(model.process.start(tokens)))
        if impossible.any():
            row = int(np.flatnonzero(impossible)[0])
            raise InputError(
                f"data=...: row {row} has a pad (token {model.process.vocab_size - 1}) before its end, or a length that the process never "
                "draws"
            )
    return tokens
