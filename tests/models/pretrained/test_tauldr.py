"""tauLDR's networks against the reference's numbers, and what their loader refuses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.model import Diffusion
from lsd_jax.models.pretrained import tauldr
from lsd_jax.models.unet import UNet
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.noise import Exponential
from lsd_jax.processes.process import reverse_rate
from lsd_jax.samplers.kernels.predictor_corrector import corrector_mean
from lsd_jax.samplers.schedule import neutral

IMAGES = np.load("tests/golden/tauldr_unet.npz")
SHAPE = (3, 8, 8)


def state_of(golden, prefix="net."):
    return {name[2:].replace("net.", prefix, 1): golden[name] for name in golden.files if name.startswith("w/")}


@functools.cache
def unet():
    sizes, params = tauldr.unet(state_of(IMAGES), 16, SHAPE)
    return UNet(sizes), params


@functools.cache
def compiled():
    return jax.jit(unet()[0].apply)


def answer(x, t):
    return compiled()(unet()[1], x, t)


def test_unet_golden():
    model, params = unet()
    sizes = model.config
    assert (sizes.ch, sizes.num_res_blocks, sizes.ch_mult, sizes.attention_scale) == (16, 1, (1, 2), 1)
    probs = IMAGES["out/x0_probs"]
    for fixed in (False, True):
        model = UNet(sizes.__class__(**{**vars(sizes), "fix_logistic": fixed}))
        logits = np.asarray(jax.jit(model.apply)(params, IMAGES["in/x"], IMAGES["in/t"]))
        likely = probs > 1e-4
        assert np.abs(logits - IMAGES[f"out/logits_fix_logistic_{fixed}"])[likely].max() < 2e-3
        if not fixed:
            np.testing.assert_allclose(jax.nn.softmax(logits), probs, atol=1e-5)
    soft = jax.nn.one_hot(IMAGES["in/x"], 16)
    np.testing.assert_allclose(jax.jit(model.apply)(params, soft, IMAGES["in/t"])[likely], logits[likely], atol=2e-3)


def test_unet_in_bfloat16_is_near_and_float32_outside():
    model, params = unet()
    half = UNet(model.config.__class__(**{**vars(model.config), "dtype": "bfloat16"}))
    logits = jax.jit(half.apply)(params, IMAGES["in/x"], IMAGES["in/t"])
    assert logits.dtype == jnp.float32
    difference = np.abs(np.asarray(jax.nn.softmax(logits)) - IMAGES["out/x0_probs"])
    assert 1e-5 < difference.max() < 0.2 and difference.mean() < 2e-3


def test_reverse_rates_golden():
    """The means of tau-leaping's Poisson draws are the reverse rates times the step."""
    process = DiscretizedGaussian(16, Exponential(), 3.0, 16.0)
    x = jnp.asarray(IMAGES["in/x"])
    for index, (t, h) in enumerate(zip(IMAGES["in/tauleap_t"], IMAGES["in/tauleap_h"])):
        log_posterior = jax.nn.log_softmax(answer(x, t))
        found = np.asarray(reverse_rate(process, log_posterior, x, jnp.asarray(t))) * h
        wanted = IMAGES["out/tauleap_poisson_mean"][index]
        # Where the reference divides one clamped or cancelled number by another, it has no digits.
        assert np.abs(found - wanted).max() < 2e-3 * max(1.0, wanted.max())
        certain = wanted > 1e-2
        np.testing.assert_allclose(found[certain], wanted[certain], rtol=5e-3 if t < 0.1 else 1e-3)


def test_predictor_and_corrector_golden():
    model, params = unet()
    process = DiscretizedGaussian(16, Exponential(), 3.0, 16.0)
    x, diffusion = jnp.asarray(IMAGES["in/x"]), Diffusion.from_flax(model, params, process)
    for index, (t, h) in enumerate(zip(IMAGES["in/pc_t"], IMAGES["in/pc_h"])):
        found = np.asarray(reverse_rate(process, diffusion.log_score(x, t), x, jnp.asarray(t))) * h
        wanted = IMAGES["out/pc_predictor_poisson_mean"][index]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6 * wanted.max())
        duration = 1.5 * h  # the reference's corrector_step_size_multiplier
        found = corrector_mean(diffusion, x, jnp.asarray(t - h), jnp.asarray(duration), neutral())
        wanted = IMAGES["out/pc_corrector_poisson_mean"][index]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6 * wanted.max())


def test_the_lsd_authors_reverse_rates_golden():
    process = DiscretizedGaussian(16, Exponential(), 3.0, 16.0)
    for x, t, wanted in zip(IMAGES["in/x"][:, None], IMAGES["in/t"], IMAGES["out/lsd_rev_rate"]):
        log_posterior = jax.nn.log_softmax(answer(x, t))
        found = reverse_rate(process, log_posterior, jnp.asarray(x), jnp.asarray(t))[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * wanted.max())


def test_the_average_of_a_training_run_is_preferred():
    """tauLDR's EMA is a list in the parameters' order; a run on several GPUs names its network `net.module.`."""
    state = {name: value for name, value in state_of(IMAGES, "net.module.").items()}
    shadow = {f"model.ema_shadow_params.{i}": value + 1 for i, value in enumerate(state.values())}
    _, found = tauldr.unet({f"model.{name}": value for name, value in state.items()} | shadow, 16, SHAPE)
    _, wanted = tauldr.unet({name: value + 1 for name, value in state_of(IMAGES).items()}, 16, SHAPE)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_what_does_not_fit_is_named():
    state = state_of(IMAGES)
    with pytest.raises(ValueError, match=r"down.*0\.conv0\.weight|0\.conv1\.weight is missing"):
        tauldr.unet({k: v for k, v in state.items() if k != "net.downsampling_modules.0.conv1.weight"}, 16, SHAPE)
    with pytest.raises(ValueError, match=r"output_modules.1.bias is \(5,\) instead of \(6,\)"):
        tauldr.unet(state | {"net.output_modules.1.bias": np.zeros(5)}, 16, SHAPE)
    with pytest.raises(ValueError, match="net_extra.weight is unknown|extra.weight is unknown"):
        tauldr.unet(state | {"net.extra.weight": np.zeros(5)}, 16, SHAPE)
    with pytest.raises(ValueError, match=r"3 channels, shape=\(1, 8, 8\)"):
        tauldr.unet(state, 16, (1, 8, 8))
    with pytest.raises(ValueError, match="no tensor 'input_conv.weight', which every TAULDR U-NET"):
        tauldr.unet({"net.encoder_layers.0.weight": np.zeros(5)}, 16, SHAPE)
    with pytest.raises(ValueError, match="both sides divisible by 2"):
        tauldr.unet(state, 16, (3, 7, 8))
    with pytest.raises(ValueError, match="not finite"):
        tauldr.unet(state | {"net.output_modules.1.bias": np.full(6, np.nan)}, 16, SHAPE)
