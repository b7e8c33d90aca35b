"""The Frechet distance between images and a reference, in the features of a named network (FID, Heusel et al. 2017).

It is a number of one feature network, one reference and one sample size: it is comparable where all three are the same, and
a small sample's is too large. pytorch-fid's convention: Gaussians fitted with the unbiased covariance, in float64.
"""

import functools
import pathlib
import zipfile
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from lsd_jax import parallel
from lsd_jax.errors import InputError
from lsd_jax.metrics.bootstrap import bootstrap_interval
from lsd_jax.metrics.metric import Column
from lsd_jax.models.image_features import FeatureNetwork

FRECHET = Column("frechet", "Frechet distance", short="Frechet", best=0.0)

_LARGE = 512  # features from which on one distance takes seconds
_MOST_RESAMPLES = {False: 50, True: 4}


class Gaussian(NamedTuple):
    """Mean (D,) and covariance (D, D) of features, float64."""

    mean: np.ndarray
    covariance: np.ndarray


class Frechet(NamedTuple):
    """The Frechet distance from one reference, in the features of one network."""

    network: FeatureNetwork
    reference: Gaussian
    batch_size: int

    def __call__(self, tokens_NL: np.ndarray, seed: int = 0, resamples: int = 200) -> tuple[float, float, float]:
        """(distance, low, high) of images given as sequences."""
        features = extract(self.network, tokens_NL, self.batch_size)
        return distance_interval(features, self.reference, seed, resamples)


def fit(features: np.ndarray) -> Gaussian:
    """The Gaussian of features (n, D).

    Raises:
        ValueError: fewer than two images.
    """
    if len(features) < 2:
        raise InputError(f"a Frechet distance needs at least 2 images, not {len(features)}")
    features = np.asarray(features, np.float64)
    return Gaussian(features.mean(0), np.cov(features, rowvar=False))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    The root's trace is that of (C_a^(1/2) C_b C_a^(1/2))^(1/2), which is symmetric: singular covariances need no care.
    """
    import scipy.linalg  # slow to import

    values, vectors = scipy.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = scipy.linalg.eigvalsh(root @ b.covariance @ root)
    cross = np.sqrt(np.maximum(inner, 0)).sum()
    distance = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    return float(max(distance, 0.0))


def distance_interval(
    features: np.ndarray, reference: Gaussian, seed: int = 0, resamples: int = 200
) -> tuple[float, float, float]:
    """(distance, low, high) of features (n, D) from the reference with a 95 % bootstrap interval over images.

    Every resample fits a Gaussian and takes a root of a (D, D) matrix: 50 are made at most, 4 of wide features.
    """
    most = _MOST_RESAMPLES[features.shape[1] >= _LARGE]
    return bootstrap_interval(lambda rows: frechet_distance(fit(rows), reference), features, seed, min(resamples, most))


def read_statistics(path: pathlib.Path, width: int) -> Gaussian:
    """Reference statistics in pytorch-fid's form: an .npz with `mu` (D,) and `sigma` (D, D).

    Raises:
        FileNotFoundError, ValueError: no such file, or another form or width.
    """
    name = f"feature_statistics={str(path)!r}"
    if not path.is_file():
        raise FileNotFoundError(f"{name}: no such file")
    try:
        with np.load(path) as saved:
            found = Gaussian(np.asarray(saved["mu"], np.float64), np.asarray(saved["sigma"], np.float64))
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{name}: no .npz with arrays mu and sigma: {error}") from None
    if found.mean.shape != (width,) or found.covariance.shape != (width, width):
        raise InputError(f"{name}: {found.mean.shape} features, the feature network has {width}")
    return found


@functools.partial(jax.jit, static_argnames=("apply", "mesh"))
def _features(apply, mesh: Mesh, params, tokens_BL: jax.Array) -> jax.Array:
    return parallel.map_over_data(apply, mesh)(params, tokens_BL)


def extract(network: FeatureNetwork, tokens: np.ndarray, batch_size: int) -> np.ndarray:
    """Features (n, D) of images given as sequences (n, L)."""
    run = functools.partial(_features, network.apply, parallel.data_mesh(), network.params)
    return parallel.in_batches(run, batch_size, tokens.astype(np.int32))
