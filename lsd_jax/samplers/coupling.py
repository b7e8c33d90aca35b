"""Where the randomness of a step comes from: which uniforms decide that a position jumps, and where to.

A position of the absorbing process jumps once, so it may own one threshold for its whole path: it is revealed in the
first step whose survival falls to the threshold or below. Other processes jump many times and draw afresh every step.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.keys import StepStream
from lsd_jax.processes.draws import as_uniform, fine_uniform, random_bits
from lsd_jax.processes.process import Process
from lsd_jax.samplers import orders

COUPLINGS = ("iid", "shared", "low_discrepancy")


@dataclasses.dataclass(frozen=True)
class Coupling:
    """How a path's uniforms depend on each other.

    Attributes:
        name: "iid": everything fresh. "shared": a position owns its threshold and the bits that pick its token, so
            that two samplers with the same keys differ only by their step sizes (absorbing only). "low_discrepancy":
            the thresholds of a sequence are spread over its positions (samplers/orders.py), each still uniform, so that
            positions revealed in one step are far apart.
        generator: the order of low_discrepancy, one of orders.GENERATORS.
        pattern: the ranks of generator "pattern", a permutation: a learned order. Several permutations of one length are a
            mixture of orders, and every sequence takes one of them at random.
        shape: (rows, columns) for the generators of the plane.

    Raises:
        ValueError: unknown name or generator, or a generator without the pattern or shape that it needs.
    """

    name: str = "iid"
    generator: str = "golden"
    pattern: tuple[int, ...] | tuple[tuple[int, ...], ...] = ()
    shape: tuple[int, ...] = ()

    def __post_init__(self):
        rows = [isinstance(row, tuple | list) for row in self.pattern]
        plain = tuple(tuple(row) if several else row for several, row in zip(rows, self.pattern))
        object.__setattr__(self, "pattern", plain)  # lists, from a JSON file
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.name not in COUPLINGS:
            raise InputError(f"coupling.name={self.name!r}: choose one of {COUPLINGS}")
        if self.generator not in orders.GENERATORS:
            raise InputError(f"coupling.generator={self.generator!r}: choose one of {orders.GENERATORS}")
        table = self.pattern if rows and all(rows) else (self.pattern,)
        if self.generator == "pattern" and any(
            any(isinstance(rank, tuple) for rank in row) or sorted(row) != list(range(max(1, len(table[0]))))
            for row in table
        ):
            raise InputError(
                f"coupling.pattern={self.pattern}: generator 'pattern' needs a permutation of 0, 1, ..., or several of one length"
            )
        plane = len(self.shape) == 2 and min(self.shape) > 0
        if not plane and (self.shape or self.generator in orders.PLANE):
            raise InputError(f"coupling.shape={self.shape}: generator {self.generator!r} needs (rows, columns)")

    def check_length(self, length: int) -> None:
        """Raises ValueError where the generator's shape does not hold `length` positions."""
        if self.generator in orders.PLANE and self.shape[0] * self.shape[1] != length:
            raise InputError(f"coupling.shape={self.shape}: does not hold {length} positions")

    def keeps_thresholds(self, process: Process) -> bool:
        """Whether a position's jump threshold lasts for its whole path; raises ValueError where the coupling needs it to."""
        if self.name == "shared" and not process.jumps_once:
            raise InputError(
                "coupling.name='shared': needs the absorbing process; elsewhere a position jumps many times"
            )
        return self.name != "iid" and process.jumps_once

    def thresholds(self, key_B: jax.Array, length: int) -> jax.Array:
        """Uniform thresholds (B, L), one row per sequence key."""
        if self.name != "low_discrepancy":
            return jax.vmap(lambda key: fine_uniform(key, (length,)))(key_B)
        self.check_length(length)
        settings = (self.generator, length, self.shape, self.pattern)
        return jax.vmap(lambda key: orders.order_thresholds(key, *settings))(key_B)

    def ranks(self, length: int) -> int:
        """How many ranks the generator's table has, each a threshold's interval of the same size; 0 where there is no table."""
        return int(self._table(length).max(initial=-1)) + 1

    def shifts(self, length: int) -> int:
        """How many cyclic shifts the generator's table has; 0 where there is no table."""
        return self._table(length).size

    def _table(self, length: int) -> np.ndarray:
        if self.name != "low_discrepancy" or self.generator in orders.KRONECKER:
            return np.zeros((0, 0), np.int32)
        return orders.rank_table(self.generator, length, self.shape, self.pattern)

    def all_thresholds(self, length: int) -> np.ndarray:
        """Thresholds (K, L) of every cyclic shift of the generator's table, in the middle of the ranks."""
        return orders.shifted_thresholds(self.generator, length, self.shape, self.pattern)


IID = Coupling("iid")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PathNoise:
    """The keys of a batch of paths, and what their positions own."""

    key_B: jax.Array
    threshold_BL: jax.Array | None
    token_bits_BL: jax.Array | None
    coupling: Coupling = dataclasses.field(metadata={"static": True})
    length: int = dataclasses.field(metadata={"static": True})

    def step(self, index: jax.Array, log_survival_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The uniforms of jumps and the random bits of tokens (B, L) of step `index`, given that positions have survived so far."""
        jump_BL, token_BL = self.stage(index, 0)
        jump_BL = as_uniform(jump_BL)
        if self.threshold_BL is not None:
            # Jump iff the survival after the step is at or below the threshold: as a uniform conditional on survival.
            conditional_BL = -jnp.expm1(jnp.log(self.threshold_BL) - jnp.maximum(log_survival_BL, -1e30))
            jump_BL = jnp.clip(conditional_BL, 0.0, 1 - 2.0**-24)
        elif self.coupling.name == "low_discrepancy":
            step_keys = jax.vmap(lambda key: jax.random.fold_in(jax.random.fold_in(key, index), int(StepStream.SHIFT)))(
                self.key_B
            )
            jump_BL = self.coupling.thresholds(step_keys, self.length)
        return jump_BL, token_BL if self.token_bits_BL is None else self.token_bits_BL

    def stage(self, index: jax.Array, stage: int) -> jax.Array:
        """Independent random bits (2, B, L) of one stage of step `index`; stage 0 is `step`'s."""

        def draw(key):
            key = jax.random.fold_in(key, index)
            return random_bits(jax.random.fold_in(key, stage) if stage else key, (2, self.length))

        return jnp.moveaxis(jax.vmap(draw)(self.key_B), 1, 0)


def path_noise(key_B: jax.Array, process: Process, coupling: Coupling, length: int) -> PathNoise:
    """The noise of paths from one key per sequence; equal keys give equal noise whatever the step count."""
    split = jax.vmap(lambda key: jax.random.split(key, 3))(key_B)
    key_step_B, key_threshold_B, key_token_B = split[:, 0], split[:, 1], split[:, 2]
    threshold_BL = coupling.thresholds(key_threshold_B, length) if coupling.keeps_thresholds(process) else None
    token_BL = None
    if coupling.name == "shared":
        token_BL = jax.vmap(lambda key: random_bits(key, (length,)))(key_token_B)
    return PathNoise(key_step_B, threshold_BL, token_BL, coupling, length)
