import numpy as np
import pytest
import scipy.linalg

from lsd_jax.metrics import fid
from lsd_jax.models import image_features
from lsd_jax.tasks import images

SHAPE, VALUES = images.Digits.image_shape, images.Digits.values


def random_gaussian(rng, width, rank):
    factor = rng.normal(size=(width, rank))
    return fid.Gaussian(rng.normal(size=width), factor @ factor.T)


def test_distance_against_the_matrix_root():
    rng = np.random.default_rng(0)
    a, b = random_gaussian(rng, 6, 8), random_gaussian(rng, 6, 8)
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance)
    wanted = ((a.mean - b.mean) ** 2).sum() + np.trace(a.covariance + b.covariance - 2 * root.real)
    np.testing.assert_allclose(fid.frechet_distance(a, b), wanted, rtol=1e-9)
    np.testing.assert_allclose(fid.frechet_distance(b, a), wanted, rtol=1e-9)


def test_distance_of_commuting_and_of_singular_covariances():
    a = fid.Gaussian(np.zeros(3), np.diag([1.0, 4.0, 0.0]))
    b = fid.Gaussian(np.array([1.0, 0.0, 0.0]), np.diag([9.0, 4.0, 0.0]))
    np.testing.assert_allclose(fid.frechet_distance(a, b), 1 + (3 - 1) ** 2, atol=1e-12)
    singular = random_gaussian(np.random.default_rng(1), 8, 3)
    np.testing.assert_allclose(fid.frechet_distance(singular, singular), 0, atol=1e-6)


def test_interval_covers_the_truth_at_the_sample_size():
    rng = np.random.default_rng(0)
    reference = fid.Gaussian(np.zeros(2), np.eye(2))
    value, low, high = fid.distance_interval(rng.normal(size=(2000, 2)) * 2 + 1, reference)
    assert low < value < high
    assert low < 2 + 2 * (2 - 1) ** 2 < high
    value, low, high = fid.distance_interval(rng.normal(size=(20, 2)), reference, resamples=0)
    assert value == low == high > 0


def test_digits_features_tell_digits_from_noise_and_blur():
    tokens, labels = images.read_digits()
    network = image_features.load("digits_features.safetensors", SHAPE, VALUES)
    train, test = tokens[images.DIGITS["train"]], tokens[images.DIGITS["test"]]
    reference = fid.fit(fid.extract(network, train, 64))
    assert fid.extract(network, test, 64).shape == (300, network.width)
    distance = lambda rows: fid.distance_interval(fid.extract(network, rows, 64), reference, resamples=0)[0]
    own = distance(test)
    rng = np.random.default_rng(0)
    flipped = np.where(rng.random(test.shape) < 0.1, rng.integers(0, VALUES, test.shape), test).astype(np.uint8)
    assert 1.5 * own < distance(flipped) < distance(rng.permuted(test, axis=1)) / 3
    ones = train[labels[images.DIGITS["train"]] == 1]
    assert distance(ones) > 3 * own  # one class alone: good images, no diversity


def test_bad_statistics_and_networks(tmp_path):
    with pytest.raises(FileNotFoundError, match="^feature_statistics=.*no such file"):
        fid.read_statistics(tmp_path / "none.npz", 4)
    np.savez(tmp_path / "odd.npz", mean=np.zeros(4))
    with pytest.raises(ValueError, match="no .npz with arrays mu and sigma"):
        fid.read_statistics(tmp_path / "odd.npz", 4)
    np.savez(tmp_path / "wide.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(ValueError, match=r"\(3,\) features, the feature network has 4"):
        fid.read_statistics(tmp_path / "wide.npz", 4)
    assert fid.read_statistics(tmp_path / "wide.npz", 3).mean.shape == (3,)
    with pytest.raises(FileNotFoundError, match="^features='none.pth'.*pt_inception"):
        image_features.load("none.pth", SHAPE, VALUES)
    with pytest.raises(ValueError, match=r"sees \(1, 8, 8\) images of 17 values, the data has \(3, 32, 32\) of 256"):
        image_features.load("digits_features.safetensors", (3, 32, 32), 256)
    with pytest.raises(ValueError, match="no feature network"):
        image_features.load("text_scorer.safetensors", SHAPE, VALUES)
    with pytest.raises(ValueError, match="at least 2 images"):
        fid.fit(np.zeros((1, 3)))
