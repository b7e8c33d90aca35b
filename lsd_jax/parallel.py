"""One code path for any number of devices: a mesh over all of them, batches sharded over it; parameters too, if asked (`shards`)."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lsd_jax import shards
from lsd_jax.errors import InputError, check_whole

# Every shard_map here turns the check of varying axes off: a scan inside a sampler or an oracle would otherwise have to
# know that it runs on a shard. Gradients are therefore taken locally, with no collective inside what is differentiated
# but the gathering of sharded parameters, and averaged once; tests compare them on eight devices with one.


PASS_BYTES = 2**30  # for one array over the vocabulary; a few of them are alive at a time


_PARAMETER_SHARDS = [1]  # of this process, as `shard_parameters` left it


def shard_parameters(count: int) -> None:
    """From now on models are made with their parameters in `count` parts, each on another device (docs/pods.md).

    Samples stay the same bit for bit. Call it before models are made, on every process alike.

    Args:
        count: 1 keeps all parameters on every device.

    Raises:
        ValueError: not a whole number that divides the devices.
    """
    check_whole("parameter_shards", count)
    if jax.device_count() % count:
        raise InputError(f"parameter_shards={count}: does not divide {jax.device_count()} devices")
    _PARAMETER_SHARDS[0] = count


def data_mesh() -> Mesh:
    """All devices of all processes: along the axis `data`, or in groups that share parameters along a second one.

    Batches are sharded over all devices either way.
    """
    devices, count = jax.device_count(), _PARAMETER_SHARDS[0]
    if count == 1:
        return jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    return jax.make_mesh((devices // count, count), ("data", shards.AXIS), axis_types=(AxisType.Auto,) * 2)


def _rows(mesh: Mesh) -> P:
    """How the first axis of a batch is sharded."""
    return P("data") if len(mesh.axis_names) == 1 else P(mesh.axis_names)


def placed(params):
    """A network's parameters on the devices, its large arrays in parts where `shard_parameters` was called."""
    if _PARAMETER_SHARDS[0] > 1:
        return shards.placed(shards.unboxed(params), data_mesh())
    if shards.is_whole(params) and not any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params)):
        return params
    params = shards.unboxed(params)
    return jax.tree.map(lambda leaf: jax.device_put(leaf) if isinstance(leaf, np.ndarray) else leaf, params)


def start(make: Callable, mesh: Mesh, *args):
    """What `make(*args)` makes, with every leaf on every device, or in parts, each made where it stays; it may be donated."""
    return shards.made(make, mesh, *args) if shards.count_of(mesh) > 1 else replicate(make(*args), mesh)


def whole(tree):
    """The tree on the host of every process, without parts; one array after the other is gathered."""
    return jax.device_get(tree) if shards.is_whole(tree) else jax.tree.map(gather, shards.unboxed(tree))


def replicate(tree, mesh: Mesh):
    """The tree with every leaf on every device, in buffers of its own (they may be donated)."""
    sharding = NamedSharding(mesh, P())
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(np.shape(leaf), sharding, lambda index: np.array(leaf)[index]), tree
    )


def replicate_arrays(tree, mesh: Mesh):
    """The tree's arrays, on the host or sharded, whole on every device; sharded parameters stay so."""
    return jax.device_put(tree, shards.shardings(tree, mesh) if shards.count_of(mesh) > 1 else NamedSharding(mesh, P()))


def shard_batch(batch, mesh: Mesh):
    """Host arrays, this process's share, as global arrays whose first axis is sharded over the devices."""
    sharding = NamedSharding(mesh, _rows(mesh))
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch)


def mean_over_data(function: Callable, mesh: Mesh) -> Callable:
    """`function(replicated, batch)` on every device on its shard of the batch; the mean of its results over devices."""
    return _on_shards(lambda *args: jax.lax.pmean(function(*args), mesh.axis_names), mesh, P())


def map_over_data(function: Callable, mesh: Mesh) -> Callable:
    """`function(replicated, batch)` on every device on its shard; its results sharded like the batch."""
    return _on_shards(function, mesh, _rows(mesh))


def on_every_device(function: Callable, mesh: Mesh) -> Callable:
    """`function(params, batch)`, the same on every device, for parameters that may be sharded."""
    if shards.count_of(mesh) == 1:
        return function
    return _on_shards(function, mesh, P(), P())


def _on_shards(function: Callable, mesh: Mesh, out: P, rows: P | None = None) -> Callable:
    """`function(replicated, batch)` on every device; in the first of the two, sharded parameters stay so."""

    def local(replicated, batch):
        return function(shards.here(replicated), batch)

    def run(replicated, batch):
        ins = (shards.specs(replicated, mesh), _rows(mesh) if rows is None else rows)
        return jax.shard_map(local, mesh=mesh, in_specs=ins, out_specs=out, check_vma=False)(replicated, batch)

    return run


def in_passes(function: Callable, batch, row_bytes: int):
    """`function(part)` on equal parts of a device's shard, one after the other, results stacked (passes, ...).

    Args:
        batch: arrays whose first axis is the sequence.
        row_bytes: of the largest array that `function` makes per sequence; a pass of more than one stays within PASS_BYTES of them.
    """
    count = jax.tree.leaves(batch)[0].shape[0]
    sizes = [size for size in range(2, count + 1) if count % size == 0 and size * row_bytes <= PASS_BYTES]
    size = max(sizes, default=1)
    parts = jax.tree.map(lambda leaf: leaf.reshape(count // size, size, *leaf.shape[1:]), batch)
    if size == count:
        return jax.tree.map(lambda leaf: leaf[None], function(batch))
    return jax.lax.map(function, parts)


def value_and_grad_over_data(loss_fn: Callable, mesh: Mesh, microbatch: int = 0, has_aux: bool = False) -> Callable:
    """The mean over all devices of `loss_fn(params, frozen, batch)` and its gradient with respect to `params`.

    Args:
        loss_fn: scalar mean loss of the batch it is given; with `has_aux`, (loss, a pytree of means).
        microbatch: sequences per pass on each device; the passes are accumulated. 0 takes all at once.

    Returns:
        A function of params and frozen values, both replicated or in parts, and a sharded batch, as `jax.value_and_grad` returns.
    """

    def local(params, frozen, batch):
        return shards.mean(of_shard(shards.here(params), shards.here(frozen), batch), mesh.axis_names)

    def of_shard(params, frozen, batch):
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=has_aux)
        size = jax.tree.leaves(batch)[0].shape[0]
        if microbatch in (0, size):
            return value_and_grad(params, frozen, batch)
        passes = size // microbatch
        parts = jax.tree.map(lambda leaf: leaf.reshape(passes, microbatch, *leaf.shape[1:]), batch)
        first = jax.tree.map(lambda leaf: leaf[0], parts)
        shapes = jax.eval_shape(value_and_grad, params, frozen, first)

        def accumulate(total, part):
            return jax.tree.map(lambda a, b: a + b / passes, total, value_and_grad(params, frozen, part)), None

        start = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(accumulate, start, parts)[0]

    def run(params, frozen, batch):
        of_params = shards.specs(params, mesh)
        ins = (of_params, shards.specs(frozen, mesh), _rows(mesh))
        return jax.shard_map(local, mesh=mesh, in_specs=ins, out_specs=(P(), of_params), check_vma=False)(
            params, frozen, batch
        )

    return run


def shard_global(array, mesh: Mesh) -> jax.Array:
    """An array that every process holds whole, PRNG keys too, with its first axis sharded over the devices."""
    if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(shard_global(jax.random.key_data(array), mesh))
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, NamedSharding(mesh, _rows(mesh)), lambda index: array[index])


def gather(array: jax.Array) -> np.ndarray:
    """A sharded array as a whole host array on every process."""
    if jax.process_count() == 1:
        return np.asarray(array)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def on_any_process(flag: bool) -> jax.Array:
    """Whether `flag` is set on any process, (), the same on all; the devices compute it while the host goes on."""
    mesh = data_mesh()
    own = np.full(len(mesh.local_devices), flag)
    return _any(jax.make_array_from_process_local_data(NamedSharding(mesh, _rows(mesh)), own), mesh)


@functools.partial(jax.jit, static_argnames="mesh")
def _any(flags: jax.Array, mesh: Mesh) -> jax.Array:
    return jax.lax.with_sharding_constraint(flags.any(), NamedSharding(mesh, P()))


def in_batches(function: Callable, batch_size: int, *arrays, progress: Callable[[int], None] | None = None):
    """`function(*batch)` over sharded batches of one shape, results on the host; the last batch is filled with copies,
    which are dropped again. A batch is rounded up to a multiple of the devices. `progress` is told how many rows are done after
    every batch.
    """
    mesh, count = data_mesh(), len(arrays[0])
    batch_size = -(-batch_size // mesh.size) * mesh.size
    order = np.arange(-(-count // batch_size) * batch_size) % count
    results = []
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        parts = [shard_global(array[index], mesh) for array in arrays]
        results.append(jax.tree.map(gather, function(*parts)))
        if progress:
            progress(min(start + batch_size, count))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)
