"""Optimizes a student's parameters by gradient descent on an objective; one code path for any number of devices."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from lsd_jax import checkpoints, parallel
from lsd_jax.distill.objectives.registry import get_objective
from lsd_jax.distill.settings import OptimizeSettings
from lsd_jax.distill.student import Student
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.errors import InputError
from lsd_jax.keys import PathStream
from lsd_jax.models.model import Diffusion
from lsd_jax.progress import MetricWriter, Progress

if TYPE_CHECKING:
    import optax

_CHUNK = 10  # gradient steps per compiled call: the loop stays on the device, the log stays alive


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class DistillState:
    """What a gradient step changes."""

    step: jax.Array
    student: Student
    optimizer: Any


def check_sizes(settings: OptimizeSettings, paths: int, devices: int) -> None:
    """Raises ValueError where the devices or the paths do not divide the sizes of an optimization."""
    if settings.steps == 0:
        return
    count = _count(settings, paths)
    fitted = count * 3 // 4
    if paths % 4:
        raise InputError(f"paths={paths}: must be a multiple of 4: a quarter of the paths judges the optimization")
    if count % (4 * devices) or settings.batch_size % devices or fitted % settings.batch_size:
        raise InputError(
            f"batch_size={settings.batch_size}: must be a multiple of {devices} devices and divide three quarters of the "
            f"paths (times draws), {count}, themselves a multiple of four times the devices"
        )
    if settings.steps % _CHUNK:
        raise InputError(f"steps={settings.steps}: must be a multiple of {_CHUNK}")


def _count(settings: OptimizeSettings, paths: int) -> int:
    return paths * (settings.draws if get_objective(settings.objective).draws else 1)


def _optimizer(settings: OptimizeSettings) -> "optax.GradientTransformation":
    import optax  # where it is used: it takes a quarter of a second to import

    return optax.adam(optax.cosine_decay_schedule(settings.learning_rate, settings.steps))


def _loss_of(settings: OptimizeSettings) -> Callable[..., Any]:
    def loss(student: Student, model_and_step: tuple[Diffusion, jax.Array], batch: Any):
        return get_objective(settings.objective).loss(student, model_and_step[0], batch, model_and_step[1], settings)

    return loss


@functools.partial(jax.jit, static_argnames=("settings", "mesh"), donate_argnums=0)
def _chunk(state: DistillState, frozen: Diffusion, data: Any, settings: OptimizeSettings, mesh: jax.sharding.Mesh):
    """A few gradient steps; one program for all seeds of a number of steps M."""
    value_and_grad = parallel.value_and_grad_over_data(_loss_of(settings), mesh, has_aux=True)
    batches = len(jax.tree.leaves(data)[0]) * 3 // 4 // settings.batch_size

    def step(state, _):
        offset = state.step % batches * settings.batch_size
        batch = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, offset, settings.batch_size), data)
        (loss, aux), grads = value_and_grad(state.student, (frozen, state.step), batch)
        updates, opt_state = _optimizer(settings).update(grads, state.optimizer)
        student = jax.tree.map(jnp.add, state.student, updates)
        return DistillState(state.step + 1, student, opt_state), {"loss": loss, **aux}

    return jax.lax.scan(step, state, None, _CHUNK)


@functools.partial(jax.jit, static_argnames=("settings", "mesh"))
def _loss(student: Student, frozen: Diffusion, held_out: Any, settings: OptimizeSettings, mesh: jax.sharding.Mesh):
    """The loss of paths that no gradient step saw."""
    step = jnp.int32(int(PathStream.HELD_OUT))

    def of_batch(student_and_model, batch):
        student, model = student_and_model
        return _loss_of(settings)(student, (model, step), batch)[0]

    return parallel.mean_over_data(of_batch, mesh)((student, frozen), held_out)


def optimize(
    student: Student,
    model: Diffusion,
    paths: TeacherPaths,
    settings: OptimizeSettings,
    folder: pathlib.Path | None = None,
) -> tuple[Student, float]:
    """`settings.steps` Adam steps on three quarters of the teacher's paths, judged on the last quarter.

    A few dozen numbers can fit the noise of a few dozen paths: where the loss of paths not trained on does not fall, the
    student comes back as it was.

    Args:
        student: what to start from.
        model: the frozen diffusion model.
        paths: the teacher's.
        settings: objective and step sizes.
        folder: keeps checkpoints and metrics, and continues from the newest checkpoint; None keeps nothing.

    Returns:
        The student, and by how much its loss on the last quarter fell (0 where it was left alone).

    Raises:
        ValueError: an unknown objective, or sizes that the devices or the paths do not divide.
    """
    if settings.steps == 0:
        return student, 0.0
    objective = get_objective(settings.objective)
    mesh = parallel.data_mesh()
    check_sizes(settings, len(paths.states), mesh.size)
    fitted = _count(settings, len(paths.states)) * 3 // 4
    state = DistillState(jnp.zeros((), jnp.int32), student, _optimizer(settings).init(student))
    state = parallel.replicate(state, mesh)
    manager = checkpoints.Manager(folder / "checkpoints", keep=2) if folder else None
    if manager:
        state, _ = manager.restore_latest(state)
    start = int(state.step)
    data = parallel.replicate_arrays(objective.prepare(student, model, paths, settings), mesh)
    frozen = parallel.replicate_arrays(model, mesh)

    progress = Progress(f"distill M={student.steps}", settings.steps, start)
    writer = MetricWriter(folder) if folder else lambda done, **values: None
    with contextlib.ExitStack() as opened, checkpoints.StopSignal(active=folder is not None) as stop:
        if folder:
            opened.callback(manager.close)
            opened.callback(writer.close)
        for done in range(start + _CHUNK, settings.steps + 1, _CHUNK):
            state, aux = _chunk(state, frozen, data, settings, mesh)
            values = {name: float(value[-1]) for name, value in aux.items()}
            if not np.isfinite(values["loss"]):
                raise InputError(
                    f"learning_rate={settings.learning_rate}: too large; the loss of the M={student.steps} student is "
                    f"{values['loss']} at step {done}"
                )
            progress(done, **values)
            writer(done, **values)
            stopping = stop.agreed()
            if manager and (done % settings.checkpoint_every == 0 or done >= settings.steps or stopping):
                manager.save(done, state)
            if stopping:
                stop.leave(done)
    held_out = jax.tree.map(lambda leaf: leaf[fitted:], data)
    before, after = parallel.replicate(student, mesh), state.student
    gain = float(_loss(before, frozen, held_out, settings, mesh) - _loss(after, frozen, held_out, settings, mesh))
    logging.info("M=%d: the optimization lowers the loss of unseen paths by %.4g", student.steps, gain)
    return (jax.device_get(state).student, gain) if gain > 0 else (student, 0.0)
