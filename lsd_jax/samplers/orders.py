"""In which order positions jump: thresholds that are each uniform on (0, 1) and together spread positions apart.

Two families. A Kronecker sequence takes fractional parts of multiples of a badly approximable stride, with one random
shift. A rank table (van der Corput, ordered dither, Halton, or a learned pattern) is laid over the positions with a random
cyclic shift. Both leave every single threshold exactly uniform, so that a position jumps when the process says it does.
The rows of several patterns are a mixture: positions of a sequence lie in one row, and the random shift picks it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.processes.draws import fine_uniform

_GOLDEN = (np.sqrt(5) - 1) / 2
_PLASTIC = 1.324717957244746
STRIDES = {"golden": _GOLDEN, "sqrt2": np.sqrt(2) - 1, "sqrt3": np.sqrt(3) - 1}
KRONECKER = (*STRIDES, "r2")  # the others lay a table of ranks
LINE = (*STRIDES, "van_der_corput", "pattern")  # sequences
PLANE = ("r2", "halton", "dither")  # images, row by row
GENERATORS = (*LINE, *PLANE)


def order_thresholds(
    key: jax.Array, generator: str, length: int, shape: tuple[int, ...] = (), pattern: tuple[int, ...] = ()
) -> jax.Array:
    """Thresholds (L,) of one sequence; the position with the highest one jumps first.

    Args:
        generator: one of GENERATORS.
        shape: (rows, columns) of the positions, for generators of the plane.
        pattern: for "pattern", the rank of every residue of a period; rank 0 jumps first. Of several, one is taken at random.
    """
    if generator not in KRONECKER:
        ranks_HW = rank_table(generator, length, shape, pattern)
        return _laid(*_draws(key, np.array(ranks_HW.shape)), ranks_HW, *_places(length, shape))
    # float64 on the host: the fractional parts must not lose bits as positions grow.
    if generator == "r2":
        rows, columns = np.divmod(np.arange(length), shape[1])
        points_L = rows / _PLASTIC + columns / _PLASTIC**2
    else:
        points_L = np.arange(length) * STRIDES[generator]
    return _shifted(_draws(key, np.ones(2, int))[0], (points_L % 1).astype(np.float32))


# Small programs, so that little is compiled outside of a larger one: all orders share the first, which takes the longest, and a
# search that tries hundreds of tables of one shape shares the last.
@jax.jit
def _draws(key: jax.Array, sides: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A uniform, and a cell (2,) of a table with so many rows and columns."""
    key_shift, key_cell = jax.random.split(key)
    return fine_uniform(key_shift, ()), jax.random.randint(key_cell, (2,), 0, sides)


@jax.jit
def _shifted(shift: jax.Array, points_L: jax.Array) -> jax.Array:
    """Points of a Kronecker sequence, shifted."""
    return _inside((points_L + shift) % 1)


@jax.jit
def _laid(shift: jax.Array, cell: jax.Array, ranks_HW: jax.Array, rows_L: jax.Array, columns_L: jax.Array) -> jax.Array:
    """A table of ranks laid over the positions from a cell on, shifted inside each rank."""
    height, width = ranks_HW.shape
    rows_L, columns_L = rows_L + cell[0], columns_L + cell[1]
    rank_L = ranks_HW[rows_L % height, columns_L % width]
    # Copies of a cell share a rank: the golden ratio tells them apart, and keeps each uniform inside the rank.
    copy_L = (columns_L // width + rows_L // height) * jnp.float32(_GOLDEN)
    return _inside(1 - (rank_L + (copy_L + shift) % 1) / (ranks_HW.max() + 1))


def _inside(u_L: jax.Array) -> jax.Array:
    return jnp.clip(u_L, 2.0**-33, 1 - 2.0**-24)


def shifted_thresholds(
    generator: str, length: int, shape: tuple[int, ...] = (), pattern: tuple[int, ...] = ()
) -> np.ndarray:
    """The thresholds (H W, L) of all cyclic shifts of a table of ranks, each in the middle of its rank's interval."""
    ranks_HW = rank_table(generator, length, shape, pattern)
    height, width = ranks_HW.shape
    rows, columns = _places(length, shape)
    down, right = (index.reshape(-1, 1) for index in np.indices(ranks_HW.shape))
    ranks_KL = ranks_HW[(rows + down) % height, (columns + right) % width]
    return (1 - (ranks_KL + 0.5) / (ranks_HW.max() + 1)).astype(np.float32)


def _places(length: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Row and column (L,) of every position; without a shape all are in one row."""
    return np.divmod(np.arange(length), shape[1]) if shape else (np.zeros(length, int), np.arange(length))


def rank_table(generator: str, length: int, shape: tuple[int, ...] = (), pattern: tuple[int, ...] = ()) -> np.ndarray:
    """The ranks (H, W) that a table generator lays over the positions, a permutation of 0 .. H W - 1; of patterns, one a row."""
    if generator == "pattern":
        return np.atleast_2d(np.asarray(pattern, np.int32))
    if generator == "van_der_corput":
        bits = max(1, int(np.ceil(np.log2(length))))
        return _reversed_bits(np.arange(2**bits), bits)[None].astype(np.int32)
    if generator == "dither":  # Bayer's matrix: bits of row xor column and of row, interleaved and reversed
        bits = max(1, int(np.ceil(np.log2(max(shape)))))
        rows, columns = np.indices((2**bits, 2**bits))
        rank = np.zeros_like(rows)
        for bit in range(bits):
            rank = rank * 4 + 2 * (((rows >> bit) ^ (columns >> bit)) & 1) + ((rows >> bit) & 1)
        return rank.astype(np.int32)
    return _halton_ranks(*shape)


def _halton_ranks(rows: int, columns: int) -> np.ndarray:
    """Cells in the order in which the Halton sequence of bases 2 and 3 first visits them (Besnier et al. 2025)."""
    rank, found, index = np.full((rows, columns), -1, np.int32), 0, 1
    while found < rows * columns:
        cell = int(_radical_inverse(index, 2) * rows), int(_radical_inverse(index, 3) * columns)
        if rank[cell] < 0:
            rank[cell], found = found, found + 1
        index += 1
    return rank


def _radical_inverse(index: int, base: int) -> float:
    value, scale = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value, scale = value + digit * scale, scale / base
    return value


def _reversed_bits(numbers: np.ndarray, bits: int) -> np.ndarray:
    return sum(((numbers >> bit) & 1) << (bits - 1 - bit) for bit in range(bits))
