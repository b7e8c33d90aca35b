"""How often fragments or scaffolds occur in molecules, and the cosine of these counts with a reference's."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np


def split(joined: str) -> list[str]:
    """The pieces of a molecule, joined by "."; none of an empty string."""
    return joined.split(".") if joined else []


def count(joined: Sequence[str]) -> Counter[str]:
    """How often every piece occurs in all molecules together."""
    return Counter(piece for text in joined for piece in split(text))


def cosines(joined: Sequence[str], reference: Mapping[str, int], weights_RN: np.ndarray) -> np.ndarray | None:
    """The cosine (R,) of the molecules' counts with the reference's under every row of weights.

    None where either has no piece at all; 0 under weights that leave only molecules without one.
    """
    import scipy.sparse  # a third of the time that `import lsd_jax` would take

    index: dict[str, int] = {}
    entries = [(row, index.setdefault(piece, len(index))) for row, text in enumerate(joined) for piece in split(text)]
    if not entries or not reference:
        return None
    rows, columns = np.array(entries).T
    counts = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(joined), len(index)))
    wanted = np.array([reference.get(piece, 0) for piece in index], np.float64)
    norm = np.sqrt(np.sum(np.array(list(reference.values()), np.float64) ** 2))
    found = []
    for weight_N in weights_RN:  # one at a time: 200 rows of 100,000 scaffolds would take a gigabyte on their way
        drawn = counts.T @ weight_N
        length = np.linalg.norm(drawn)
        found.append(drawn @ wanted / (length * norm) if length else 0.0)
    return np.array(found)
