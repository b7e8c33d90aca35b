"""The verb `distill`: from a many-step model to few-step samplers, one for every number of steps."""

import dataclasses
import functools
import hashlib
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from lsd_jax import agreement, parallel
from lsd_jax.distill.check import check, checked_data
from lsd_jax.distill.optimize import optimize
from lsd_jax.distill.plan import make_plans
from lsd_jax.distill.potentials import absorbing, uniform
from lsd_jax.distill.problem import Plan
from lsd_jax.distill.settings import OptimizeSettings, StudentSettings, TeacherSettings
from lsd_jax.distill.student import init_student
from lsd_jax.distill.teacher import TeacherPaths, bridged_teacher, cached_teacher, sample_teacher
from lsd_jax.errors import InputError, check_kind, check_whole
from lsd_jax.files import checked_path
from lsd_jax.keys import RowStream, Stream, generator, named_key, sequence_keys
from lsd_jax.models.model import Diffusion, Identity
from lsd_jax.processes.process import Process
from lsd_jax.progress import Progress
from lsd_jax.samplers import file
from lsd_jax.samplers.coupling import IID
from lsd_jax.samplers.record import describe
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler, check_time

NO_OPTIMIZATION = OptimizeSettings()
_LARGE = 2**20  # logits per sequence, above which a teacher makes fewer paths


def distill(
    model: Diffusion,
    steps: Sequence[int] | int,
    *,
    length: int | None = None,
    data: np.ndarray | None = None,
    paths: int | None = None,
    seed: int = 0,
    student: StudentSettings | None = None,
    teacher: TeacherSettings | None = None,
    optimization: OptimizeSettings = NO_OPTIMIZATION,
    folder: str | pathlib.Path | None = None,
    teacher_folder: str | pathlib.Path | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> dict[int, Sampler]:
    """Distills one few-step sampler for every M in `steps`: `students = lsd.distill(model, steps=(4, 8, 16), length=1024)`.

    The network stays frozen. The order in which positions are revealed and the time grid are chosen by path-KL cost tables, for
    all M from one pass over the teacher's paths. With `optimization.steps` the step parameters are then learned by gradients.

    Args:
        model: the diffusion model.
        steps: M, the network evaluations per sequence of every sampler, each at least 1.
        length: tokens per sequence. It is needed where there is no data.
        data: sequences (n, L) of the model's data, integers. The teacher's paths then lead to them, which needs no sampling.
            Without data the teacher draws its own samples.
        paths: how many teacher paths (a multiple of the devices); a short form of `teacher.paths`.
        seed: of everything random.
        student: what a student starts from; by default `default_student(model.process)`.
        teacher: the many-step teacher; by default `default_teacher(model.process, length, data)`.
        optimization: the gradient descent on the step parameters; by default none.
        folder: keeps each student as folder/M8/student.json as soon as it is finished, with its checkpoints. A finished student is
            read and not made again, so that the same call goes on where it was stopped. None keeps nothing.
        teacher_folder: keeps the teacher's paths; by default folder/teacher.
        provenance: facts that the students' files record.

    Returns:
        M -> sampler, each `save`-able.

    Raises:
        ValueError, FileNotFoundError: a setting that does not fit, in one line that starts with its name, before any long work.
        SystemExit: stopped by SIGTERM or SIGINT after a checkpoint.
    """
    check_kind("model", model, Diffusion, "an lsd.Diffusion, for example lsd.load_model('text')")
    for name, value, kind in (
        ("student", student, StudentSettings),
        ("teacher", teacher, TeacherSettings),
        ("optimization", optimization, OptimizeSettings),
    ):
        check_kind(name, value, kind | None, f"lsd.{kind.__name__}(...)")
    steps = (steps,) if isinstance(steps, int) else tuple(steps)
    tokens = checked_data(model, data)
    length = tokens.shape[1] if length is None and tokens is not None else length
    length = model.process.longest if length is None else length
    if length is None:
        raise InputError("length=None: say how many tokens a sequence has, or give data")
    for name, values in (("length", (length,)), ("steps", steps)):
        for value in values:
            check_whole(name, value)
    if tokens is not None and tokens.shape[1] != length:
        raise InputError(f"data={tokens.shape}: its sequences have {tokens.shape[1]} tokens, not length={length}")
    student = student or default_student(model.process)
    teacher = teacher or default_teacher(model.process, length, tokens)
    teacher = teacher if paths is None else dataclasses.replace(teacher, paths=paths)
    check(model.process, length, steps, student, teacher, optimization, None if tokens is None else len(tokens))
    check_time(get_kernel(student.kernel), model.time_conditioned)
    folder = checked_path("folder", folder) if folder else None
    if teacher_folder or folder:
        teacher_folder = checked_path("teacher_folder", teacher_folder) if teacher_folder else folder / "teacher"
    if folder and folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"folder={str(folder)!r}: is a file; name a folder")
    kept = agreement.from_first(lambda: _finished(folder, steps) if folder else [])
    found = {record["steps"]: file.from_record(record) for record in kept}
    run = _Run(
        model, length, tokens, steps, seed, student, teacher, optimization, folder, teacher_folder, provenance or {}
    )
    for m, own in found.items():
        own.bound_to(model, length)
        kept = own.facts.get("provenance", {})
        changed = [name for name, value in run.source.items() if kept.get(name, value) != value]
        if _another(own.facts.get("backbone", {}), model.identity):
            changed.append("network")
        if changed:
            raise InputError(f"folder={str(folder)!r}: M={m} was distilled with another {', '.join(changed)}")
    if todo := [m for m in steps if m not in found]:
        found |= run(todo)
    else:
        logging.info("all students are distilled")
    return {m: found[m] for m in steps}


def _another(backbone: dict[str, Any], identity: Identity) -> bool:
    """Whether a student's network is known to be another one: by the hash of its weights, or by its name where it has none."""
    for field in ("sha256", "id"):
        kept, own = backbone.get(field, ""), getattr(identity, field)
        if kept and own:
            return kept != own
    return False


def _finished(folder: pathlib.Path, steps: Sequence[int]) -> list[dict[str, Any]]:
    """The records of the students that are in a folder."""
    paths = [student_path(folder, m) for m in steps]
    return [file.read(path) for path in paths if path.exists()]


def student_path(folder: pathlib.Path, steps: int) -> pathlib.Path:
    """Where the student of M steps lies below a folder of students."""
    return folder / f"M{steps}" / "student.json"


def default_student(process: Process) -> StudentSettings:
    """The settings that suit a process: orders are chosen where positions jump once; elsewhere there is only the grid."""
    if process.jumps_once:
        return StudentSettings()
    kernel = "ancestral" if process.ordered else "tweedie"
    return StudentSettings(kernel=kernel, order="fixed", coupling=IID, grid_points=64)


def default_teacher(process: Process, length: int, data: np.ndarray | None = None) -> TeacherSettings:
    """The teacher that suits a process: where positions jump once, L steps in a low-discrepancy order reveal one at a time."""
    steps = min(max(length, 64), 1024) if process.jumps_once else 256
    devices = parallel.data_mesh().size
    paths = 64 if process.vocab_size * length <= _LARGE else 16
    paths = paths if data is None else min(paths, len(data))
    return TeacherSettings("samples" if data is None else "data", steps, max(paths // devices, 1) * devices)


@dataclasses.dataclass(frozen=True)
class _Run:
    """One distillation, its settings checked."""

    model: Diffusion
    length: int
    data: np.ndarray | None
    steps: Sequence[int]
    seed: int
    student: StudentSettings
    teacher: TeacherSettings
    optimization: OptimizeSettings
    folder: pathlib.Path | None
    teacher_folder: pathlib.Path | None
    provenance: Mapping[str, Any]

    def __call__(self, todo: Sequence[int]) -> dict[int, Sampler]:
        began = time.monotonic()
        progress = Progress("distill: teacher, orders and grids, students", 2 + len(todo), every=0.0)
        paths = self.teacher_paths()
        progress(1)
        logging.info("teacher: %d paths of %d steps, %.1f s", *paths.states.shape[:2], time.monotonic() - began)
        plans = self.plans(paths, todo)
        progress(2)
        logging.info("orders and grids: %.1f s", time.monotonic() - began)
        found = {}
        for steps, plan in plans.items():
            path = student_path(self.folder, steps) if self.folder else None
            start = init_student(
                get_kernel(self.student.kernel),
                plan.coupling,
                self.student.coefficient,
                steps,
                plan.times,
                self.student.temperature,
                plan.log_potential,
            )
            own, gain = optimize(start, self.model, paths, self.optimization, path.parent if path else None)
            own = dataclasses.replace(own, top_p=self.student.top_p)
            metrics = {"seconds": round(time.monotonic() - began, 1), "optimize_gain": gain, **plan.metrics}
            record = own.sampler(self.length, self.model.process, **self.facts(metrics)).record()
            # What samples is what the file says, whether or not it is written: its numbers are rounded to a few digits.
            found[steps] = file.from_record(record)
            if path and jax.process_index() == 0:
                found[steps].save(path)
            agreement.barrier(f"student of {steps} steps")
            progress(2 + len(found))
        logging.info("distilled M=%s in %.1f s", tuple(todo), time.monotonic() - began)
        return found

    @property
    def source(self) -> dict[str, Any]:
        """The settings that a student's file says it came from."""
        return {
            "kernel": self.student.kernel,
            "objective": self.optimization.objective,
            "grid": self.student.grid,
            "order": self.student.order,
            "teacher_steps": self.teacher.steps,
            "teacher_paths": self.teacher.paths,
            "seed": self.seed,
        }

    def facts(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """What a student's file says of where it came from."""
        source = {**self.source, **self.provenance}
        return {"backbone": self.model.identity._asdict(), "provenance": source, "metrics": dict(metrics)}

    def teacher_paths(self) -> TeacherPaths:
        """The teacher's paths under the students' coupling, from the cache or made."""
        kernel, coupling = get_kernel(self.student.kernel).stand_in, self.student.coupling
        key = named_key(self.seed, Stream.TEACHER)
        if self.teacher.source == "data":
            rng = generator(self.seed, RowStream.TEACHER)
            rows = self.data[rng.choice(len(self.data), self.teacher.paths, replace=False)]
            draw = functools.partial(bridged_teacher, key, self.model.process, coupling, self.teacher.steps, rows)
        else:
            settings = self.teacher.steps, self.teacher.paths, self.length
            draw = functools.partial(sample_teacher, key, self.model, kernel, coupling, *settings)
        if self.teacher_folder is None and not self.teacher.cache:
            return draw()
        recipe = {
            "process": describe(self.model.process),
            "backbone": self.model.identity._asdict(),
            "kernel": self.student.kernel,
            "coupling": dataclasses.asdict(coupling),
            "teacher": {name: getattr(self.teacher, name) for name in ("source", "steps", "paths")},
            "data": "" if self.teacher.source == "samples" else hashlib.sha256(rows.tobytes()).hexdigest(),
            "length": self.length,
            "seed": self.seed,
        }
        return cached_teacher(self.teacher_folder or pathlib.Path(), recipe, draw, self.teacher.cache)

    def plans(self, paths: TeacherPaths, todo: Sequence[int]) -> dict[int, Plan]:
        """Orders and grids of every M, and pair potentials where they are asked for."""
        kernel = get_kernel(self.student.kernel).stand_in
        plan = functools.partial(make_plans, self.model, kernel, paths, self.student)
        if not self.student.potentials:  # a plan of M steps may come from that of fewer, whatever is finished already
            plans = plan(self.steps)
            return {m: plans[m] for m in todo}
        tokens, keys = self.potential_sequences(paths)
        if self.model.process.jumps_once:
            plans = plan(self.steps)
            return {m: absorbing.with_potentials(self.model, plans[m], tokens, keys) for m in todo}
        last = None
        if self.student.grid == "optimal":
            judged = paths.repeated(self.student.draws)
            last = uniform.denoising_cost(self.model, kernel, tokens, keys, judged)
        # The candidate times depend on the largest M of the whole call, whatever is finished already.
        plans = plan(self.steps, denoising_cost=last)
        return {m: uniform.with_potentials(self.model, kernel, plans[m], tokens, keys) for m in todo}

    def potential_sequences(self, paths: TeacherPaths) -> tuple[np.ndarray, jax.Array]:
        """Sequences (P, L) and keys that potentials are fitted on: data, or what the teacher drew."""
        key, count = named_key(self.seed, Stream.POTENTIALS), self.student.potentials
        if self.teacher.source == "samples":
            return paths.tokens[:count].astype(np.int32), sequence_keys(key, count)
        return potential_rows(self.data, self.seed, count), sequence_keys(key, count)


def potential_rows(data: np.ndarray, seed: int, count: int) -> np.ndarray:
    """The training sequences (count, L) that pair potentials are fitted on."""
    chosen = generator(seed, RowStream.POTENTIALS).choice(len(data), count, replace=False)
    return data[chosen].astype(np.int32)
