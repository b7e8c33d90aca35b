"""Tanimoto similarities of fingerprints, (n, 128) bytes of 8 bits each, in blocks of a matrix product."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

_ROWS, _COLUMNS = 1_000, 20_000  # of a block: 80 MB of similarities


def nearest(packed_NB: np.ndarray, reference_MB: np.ndarray) -> np.ndarray:
    """The largest similarity (n,) of every fingerprint to one of the reference; the mean is MOSES' SNN."""
    best_N = np.zeros(len(packed_NB))
    blocks = [reference_MB[index] for index in _blocks(len(reference_MB), _COLUMNS)]
    for index in _blocks(len(packed_NB), _ROWS):
        rows = packed_NB[index]
        best_N[index] = np.max([_nearest(rows, block) for block in blocks], axis=0)
    return best_N


def internal_diversity(packed_NB: np.ndarray, weights_RN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IntDiv_1 and IntDiv_2, (R,) each, of the fingerprints under every row of weights; pairs with itself are counted.

    As MOSES' code has it: IntDiv_p = 1 - mean_x (mean_y T(x, y)^p)^(1/p), the root before the mean over x.
    """
    shares_RN = weights_RN / weights_RN.sum(1, keepdims=True)
    similar = np.zeros((2, len(weights_RN)))
    for index in _blocks(len(packed_NB), _ROWS):
        means = np.asarray(_means(packed_NB[index], packed_NB, shares_RN), np.float64)  # (2, rows, R)
        counted = index >= index[0]  # what fills the last block was in the first
        similar += np.einsum("prR,Rr->pR", means[:, counted], shares_RN[:, index[counted]])
    return 1 - similar[0], 1 - similar[1]


def _blocks(count: int, size: int) -> list[np.ndarray]:
    """Indices of rows in blocks of one size; the last is filled with the first rows again."""
    size = min(size, count)
    return list(np.arange(-(-count // size) * size).reshape(-1, size) % count)


@jax.jit
def _nearest(rows_NB: jax.Array, reference_MB: jax.Array) -> jax.Array:
    return _tanimoto(rows_NB, reference_MB).max(1)


@jax.jit
def _means(rows_NB: jax.Array, all_MB: jax.Array, shares_RM: jax.Array) -> jax.Array:
    """The weighted mean similarity of rows to all, and the root of the mean of its square, (2, N, R)."""
    mean = functools.partial(jnp.einsum, "nm,rm->nr", precision="highest")
    similar_NM = _tanimoto(rows_NB, all_MB)
    shares_RM = shares_RM.astype(jnp.float32)
    return jnp.stack([mean(similar_NM, shares_RM), jnp.sqrt(mean(similar_NM**2, shares_RM))])


def _tanimoto(a_NB: jax.Array, b_MB: jax.Array) -> jax.Array:
    a_NF, b_MF = (jnp.unpackbits(packed, axis=1).astype(jnp.float32) for packed in (a_NB, b_MB))
    both_NM = a_NF @ b_MF.T  # whole numbers up to 1,024 of zeros and ones: exact at any precision
    either_NM = a_NF.sum(1)[:, None] + b_MF.sum(1)[None] - both_NM
    return jnp.where(either_NM > 0, both_NM / jnp.maximum(either_NM, 1), 1.0)
