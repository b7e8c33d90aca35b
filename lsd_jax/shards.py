"""Parameters sharded over devices (FSDP): every device keeps a part of each large array, and a layer gathers it where it is used.

A large array is boxed (flax's `AxisMetadata`), and flax unboxes a parameter when a layer reads it. On a device's shard of a batch,
which is where networks run (`parallel`), unboxing gathers the array from the other devices; elsewhere it is one global array.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from flax.core.meta import AxisMetadata
from jax.custom_batching import custom_vmap
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lsd_jax.errors import InputError

AXIS = "parameters"  # of the mesh
_SMALL = 4096  # entries; a smaller array is on every device


@functools.partial(jax.tree_util.register_dataclass, data_fields=["value"], meta_fields=["axis", "count", "here"])
@dataclasses.dataclass(frozen=True)
class Sharded(AxisMetadata):
    """An array that is sharded along one of its axes; a pytree node that flax's modules open by themselves.

    Attributes:
        value: the global array, or with `here` this device's part of it.
        axis: the sharded one.
        count: the parts.
        here: whether this is inside a function that every device runs on its own shard of a batch.
    """

    value: Any
    axis: int
    count: int
    here: bool = False

    def unbox(self) -> jax.Array:
        """The whole array."""
        if not self.here:
            return self.value
        return jax.lax.all_gather(self.value, AXIS, axis=self.axis, tiled=True)

    def replace_boxed(self, val: Any) -> "Sharded":
        return dataclasses.replace(self, value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Sharded":
        return dataclasses.replace(self, axis=self.axis + (index <= self.axis))

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Sharded":
        return dataclasses.replace(self, axis=self.axis - (index < self.axis))


def _is_box(node: Any) -> bool:
    return isinstance(node, Sharded)


def count_of(mesh: Mesh) -> int:
    """Over how many devices a mesh shards parameters."""
    return mesh.shape.get(AXIS, 1)


def boxed(tree: Any, mesh: Mesh) -> Any:
    """The tree with its large arrays boxed, each along its first axis that the devices divide: parts are then gathered as they lie."""
    count = count_of(mesh)

    def box(leaf):
        axes = [axis for axis, size in enumerate(leaf.shape) if size % count == 0]
        if count == 1 or leaf.size < _SMALL or not axes or not _is_float(leaf):
            return leaf
        return Sharded(leaf, axes[0], count)

    return jax.tree.map(box, tree)


def is_whole(tree: Any) -> bool:
    """Whether nothing in the tree is boxed."""
    return not _boxes(tree)


def unboxed(tree: Any) -> Any:
    """The tree without boxes: whole arrays."""
    return jax.tree.map(lambda leaf: leaf.unbox() if _is_box(leaf) else leaf, tree, is_leaf=_is_box)


def like(tree: Any, template: Any) -> Any:
    """The leaves of a tree in the boxes of another one that has the same leaves."""
    return jax.tree.unflatten(jax.tree.structure(template), jax.tree.leaves(tree))


def specs(tree: Any, mesh: Mesh) -> Any:
    """How `jax.shard_map` hands a tree to the devices: whole, but for what is boxed.

    Raises:
        InputError: it was boxed for another number of devices.
    """

    def spec(leaf):
        if not _is_box(leaf):
            return P()
        if leaf.count != count_of(mesh):
            raise InputError(
                f"parameter_shards={count_of(mesh)}: the model was made with {leaf.count}; make it again after shard_parameters"
            )
        return dataclasses.replace(leaf, value=_spec(leaf), here=False)

    return P() if is_whole(tree) else jax.tree.map(spec, tree, is_leaf=_is_box)


def shardings(tree: Any, mesh: Mesh) -> Any:
    """The sharding of every leaf: replicated, but for what is boxed."""

    def sharding(leaf):
        if _is_box(leaf):
            return dataclasses.replace(leaf, value=NamedSharding(mesh, _spec(leaf)))
        return NamedSharding(mesh, P())

    return jax.tree.map(sharding, tree, is_leaf=_is_box)


def _spec(box: Sharded) -> P:
    return P(*[None] * box.axis, AXIS)


def placed(tree: Any, mesh: Mesh) -> Any:
    """The tree on the mesh, its large arrays boxed: a device is only given what it keeps, straight from the host.

    Args:
        tree: host arrays, arrays of one device, or shapes (`jax.ShapeDtypeStruct`), which stay shapes.
    """

    def place(leaf, sharding):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
        if isinstance(leaf, jax.Array) and leaf.sharding.device_set == sharding.device_set:
            return jax.device_put(leaf, sharding)
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    tree = boxed(tree, mesh)
    return jax.tree.map(place, tree, shardings(tree, mesh))


def made(make: Callable[..., Any], mesh: Mesh, *args: Any) -> Any:
    """What `make(*args)` makes, its large arrays boxed; every part is made on the device that keeps it."""
    template = boxed(jax.eval_shape(make, *args), mesh)
    return jax.jit(lambda *args: like(make(*args), template), out_shardings=shardings(template, mesh))(*args)


def kept(tree: Any, mesh: Mesh) -> Any:
    """Inside a program: the tree, whose boxed arrays stay in the parts that they came in."""
    return tree if is_whole(tree) else jax.lax.with_sharding_constraint(tree, shardings(tree, mesh))


def here(tree: Any) -> Any:
    """The tree inside a function that every device runs on its own shard of a batch."""
    return jax.tree.map(
        lambda leaf: dataclasses.replace(leaf, here=True) if _is_box(leaf) else leaf, tree, is_leaf=_is_box
    )


def mean(tree: Any, axes: tuple[str, ...]) -> Any:
    """The mean over all devices of their gradients; that of a part was added up over its group where it was gathered."""
    if is_whole(tree):
        return jax.lax.pmean(tree, axes)
    rest = tuple(name for name in axes if name != AXIS)

    def of_leaf(leaf):
        if not _is_box(leaf):
            return jax.lax.pmean(leaf, axes)
        return dataclasses.replace(leaf, value=jax.lax.pmean(leaf.value, rest) / leaf.count, here=False)

    return jax.tree.map(of_leaf, tree, is_leaf=_is_box)


def applied(module: Any, params: Any, *inputs: Any, **options: Any) -> Any:
    """`module.apply(params, *inputs, **options)`, where a device holds one gathered layer at a time, in a backward pass too.

    What is no flax module gets all of its parameters gathered at once.
    """
    if not isinstance(module, linen.Module):
        return module.apply(unboxed(params), *inputs, **options)
    if not any(box.here for box in _boxes(params)):
        return module.apply(params, *inputs, **options)
    with linen.intercept_methods(_gathering):
        return module.apply(params, *inputs, **options)


def any_together(params: Any, flags: jax.Array) -> jax.Array:
    """Whether a flag is set on this device, or on one that it gathers these parameters with."""
    if not any(box.here for box in _boxes(params)):
        return flags.any()
    return jax.lax.pmax(flags.any().astype(jnp.int32), AXIS) > 0


def _boxes(tree: Any) -> list[Sharded]:
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=_is_box) if _is_box(leaf)]


def _gathering(method: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any], context: Any) -> Any:
    """flax's interceptor of method calls: a layer that has sharded parameters of its own is called by `_call`."""
    if context.method_name != "__call__":
        return method(*args, **options)
    # Not those of the layers in it, which are called in their turn.
    own = [name for name, leaf in context.module.variables.get("params", {}).items() if _is_box(leaf)]
    if not own:
        return method(*args, **options)
    layer, variables = context.module.unbind()
    leaves, structure = jax.tree.flatten((args, options))
    places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, jax.Array)]

    def run(variables: Any, *arrays: jax.Array) -> Any:
        given = leaves.copy()
        for place, array in zip(places, arrays):
            given[place] = array
        args, options = jax.tree.unflatten(structure, given)
        params = dict(variables["params"])
        params |= unboxed(_ordered_after({name: params[name] for name in own}, arrays))
        with linen.intercept_methods(_gathering):  # a backward pass runs this again, elsewhere
            return layer.apply({**variables, "params": params}, *args, **options)

    return _call(run, variables, *(leaves[place] for place in places))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _call(run: Callable[..., Any], variables: Any, *arrays: jax.Array) -> Any:
    """`run(variables, *arrays)`; its backward pass gathers the parameters again, so that they are not kept until then."""
    return run(variables, *arrays)


def _call_backward(run: Callable[..., Any], inputs: tuple[Any, ...], gradient: Any) -> tuple[Any, ...]:
    variables, *arrays = inputs
    return jax.vjp(run, _ordered_after(variables, gradient), *arrays)[1](gradient)


_call.defvjp(lambda run, *inputs: (run(*inputs), inputs), _call_backward)


def _ordered_after(variables: Any, arrays: Any) -> Any:
    """The boxed parameters, to be gathered when the arrays are there and not before."""
    found = [array for array in jax.tree.leaves(arrays) if array.size and (_is_float(array) or _is_int(array))]
    if not found:
        return variables
    entry = jax.lax.stop_gradient(found[0][(0,) * found[0].ndim])
    return jax.tree.map(
        lambda leaf: leaf.replace_boxed(_after(leaf.value, entry)) if _is_box(leaf) else leaf,
        variables,
        is_leaf=_is_box,
    )


# Nothing but its input tells the compiler when a layer runs: gathering depends on no step of a sampler, and all layers would be
# gathered before the first step, and kept. So a part of an array is made to depend on the layer's input, by a comparison that
# always holds, which the compiler does not know. It takes an optimization barrier away too early for that.
@jax.custom_vjp
def _after(part: jax.Array, entry: jax.Array) -> jax.Array:
    """The part, not before an entry of the layer's input is there."""
    return _ordered(part, entry)


_after.defvjp(
    lambda part, entry: (_ordered(part, entry), entry),
    lambda entry, gradient: (gradient, np.zeros((), jax.dtypes.float0) if _is_int(entry) else jnp.zeros_like(entry)),
)


@custom_vmap
def _ordered(part: jax.Array, entry: jax.Array) -> jax.Array:
    limits = jnp.iinfo(entry.dtype) if _is_int(entry) else jnp.finfo(entry.dtype)
    return jnp.where(entry != limits.max, part, jnp.nan)


@_ordered.def_vmap
def _ordered_of_many(size: int, batched: list[bool], part: jax.Array, entry: jax.Array) -> tuple[jax.Array, bool]:
    """Sequences at times of their own share the parameters: they are gathered once."""
    del size
    if batched[0]:
        return jax.vmap(_ordered)(part, entry if batched[1] else jnp.broadcast_to(entry, part.shape[:1])), True
    return _ordered(part, entry[0] if batched[1] else entry), False


def _is_int(array: jax.Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.integer)


def _is_float(array: jax.Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)
