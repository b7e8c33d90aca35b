"""The Frechet ChemNet distance (Preuer et al. 2018): the Frechet distance in the features of ChemNet.

It falls with the number of samples: MOSES' own training molecules are at 0.434 of its test set with 3,000 of them, at 0.136 with
10,000, at 0.050 with 30,000, the number that MOSES compares (its table's 0.008 is about what all of them would give). GuacaMol's "FCD"
is a score made of it, exp(-0.2 FCD).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from lsd_jax import parallel
from lsd_jax.metrics import fid
from lsd_jax.metrics.bootstrap import shifted_interval
from lsd_jax.metrics.metric import Metrics
from lsd_jax.models import chemnet

LEAST = 2  # molecules that a covariance needs
_BATCH = 512
_MOST_RESAMPLES = 20  # of 512 features each takes half a second


def features(smiles: Sequence[str]) -> np.ndarray:
    """ChemNet's features (n, 512) of canonical SMILES, float32; a copy's are computed once.

    Raises:
        FileNotFoundError, ValueError: ChemNet is not installed; one line.
    """
    network, devices = chemnet.load(), parallel.data_mesh().size
    distinct, index = np.unique(np.array(smiles, object), return_inverse=True)
    batch = -(-min(_BATCH, len(distinct)) // devices) * devices
    return fid.extract(network, chemnet.tokenize(distinct), batch)[index]


def distances(features_ND: np.ndarray, references: Mapping[str, fid.Gaussian], seed: int, resamples: int) -> Metrics:
    """name -> (distance, low, high) from every reference with a 95 % bootstrap interval over molecules, of 20 resamples at most."""
    rng, drawn = np.random.default_rng(seed), []
    for index in range(min(resamples, _MOST_RESAMPLES) + 1):
        rows = rng.integers(0, len(features_ND), len(features_ND)) if index else np.arange(len(features_ND))
        fitted = fid.fit(features_ND[rows])
        drawn.append([fid.frechet_distance(reference, fitted) for reference in references.values()])
    return {name: shifted_interval(values[0], values[1:]) for name, values in zip(references, zip(*drawn))}
