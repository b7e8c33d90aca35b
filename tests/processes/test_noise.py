import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.processes.noise import Cosine, Exponential, Geometric, LogLinear, make_noise

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "sedd_samplers.npz")
NOISES = (
    LogLinear(),
    LogLinear(1e-2),
    Geometric(),
    Geometric(1e-4, 20.0),
    Cosine(),
    Cosine(1e-2),
    Exponential(),
    Exponential(min_time=0.01),
)
TIMES = jnp.linspace(0.05, 0.95, 19)


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_rate_is_the_derivative_of_the_integral(noise):
    slope = jax.vmap(jax.grad(noise.sigma_bar))(TIMES)
    np.testing.assert_allclose(noise.sigma(TIMES), slope, rtol=2e-5)


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_inverse_undoes_the_integral(noise):
    np.testing.assert_allclose(noise.inverse(noise.sigma_bar(TIMES)), TIMES, rtol=2e-5)


@pytest.mark.parametrize("noise", NOISES, ids=repr)
def test_noise_grows_with_time(noise):
    sigma_bar = noise.sigma_bar(jnp.linspace(0, 1, 50))
    assert np.all(np.diff(sigma_bar) > 0)
    assert sigma_bar[0] < 2e-3


def test_min_time_leaves_out_the_nearly_clean():
    whole, cut = Exponential(), Exponential(min_time=0.01)
    np.testing.assert_allclose(cut.sigma_bar(jnp.float32(1e-7)), whole.sigma_bar(jnp.float32(0.01)), rtol=1e-4)
    assert cut.sigma_bar(jnp.float32(0)) == 0
    np.testing.assert_allclose(cut.sigma_bar(jnp.float32(1)), whole.sigma_bar(jnp.float32(1)), rtol=1e-6)


@pytest.mark.parametrize("name, noise", [("loglinear", LogLinear(1e-3)), ("geometric", Geometric(1e-4, 20.0))])
def test_golden_values(name, noise):
    t = jnp.asarray(GOLDEN["in/noise_t"])
    # At t = 1 loglinear leaves 1 - 0.999 of float32's digits: 6e-5 relative is all that either side has.
    rtol = np.where(t < 0.999, 1e-5, 2e-4)
    for found, wanted in ((noise.sigma_bar(t), "sigma"), (noise.sigma(t), "dsigma")):
        wanted = GOLDEN[f"out/{name}/{wanted}"]
        assert np.all(np.abs(found - wanted) <= rtol * np.abs(wanted) + 1e-8)


@pytest.mark.parametrize("noise", (LogLinear(1e-2), Cosine(1e-2)), ids=repr)
def test_eps_of_the_data_survives_at_time_one(noise):
    np.testing.assert_allclose(jnp.exp(-noise.sigma_bar(jnp.ones(()))), 1e-2, rtol=1e-4)


def test_make_noise():
    assert make_noise("geometric", sigma_max=3.0) == Geometric(sigma_max=3.0)
    with pytest.raises(ValueError, match=r"^noise\.name='lin': choose one of"):
        make_noise("lin")
    with pytest.raises(ValueError, match=r"^noise\.name='loglinear': has no setting.*slope"):
        make_noise("loglinear", slope=1.0)
