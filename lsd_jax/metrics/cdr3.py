"""The loop CDR3 of antibodies, found by what stands around it; people who read antibodies look at its length first."""

import re
from collections.abc import Iterable

import numpy as np

from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.metric import Column, Metrics
from lsd_jax.metrics.wasserstein import wasserstein_interval

COLUMNS = (
    Column("cdr3", "CDR3 found, share of chains", short="CDR3"),
    Column("cdr3_length_w1", "length of CDR3, Wasserstein-1, amino acids", "{:.2f}", "CDR3 length W1", 0.0),
)
# The first Y-x-C, whose C is Cys 104, and the last W-G-x-G or F-G-x-G, which begins with Trp or Phe 118 (numbers of IMGT,
# Lefranc et al. 2003). Loops of more than 40 amino acids, which cattle have, are not looked for: in a chain that lost its C they would
# be found by chance.
_LOOP = re.compile(r"Y.C(.{1,40})[WF]G.G")
_LEAST = 0.5  # of the chains of a reference have the loop, where it is one of antibodies


def loop_lengths(chains: Iterable[str]) -> np.ndarray:
    """The amino acids (n,) between Cys 104 and Trp or Phe 118 of every chain, int64; 0 where there is no such loop."""
    found = (_LOOP.search(chain) for chain in chains)
    return np.array([len(match[1]) if match else 0 for match in found], np.int64)


def measure(lengths_N: np.ndarray, reference_M: np.ndarray, seed: int, resamples: int) -> Metrics:
    """`cdr3` and `cdr3_length_w1` of samples, from `loop_lengths` of them and of real chains.

    Chains without the loop count in the share alone. Nothing where most real chains have none, since they are no antibodies; no
    distance where no sample has the loop.
    """
    if np.mean(reference_M > 0) < _LEAST:
        return {}
    found: Metrics = {"cdr3": mean_interval(lengths_N > 0, seed, resamples)}
    if (loops := lengths_N[lengths_N > 0]).size:
        found["cdr3_length_w1"] = wasserstein_interval(loops, reference_M[reference_M > 0], seed, resamples)
    return found
