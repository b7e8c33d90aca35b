"""Published networks, loaded by name from their own state dicts, give the reference implementations' numbers.

The numbers were recorded from each project's own code with tiny random weights (tests/golden/*.npz, `meta` says which commit);
the weights ship as lsd_jax/shipped/weights/tiny_*, laid out as the published checkpoints are.
"""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models import pretrained, weights
from lsd_jax.models.ddit import DDiT
from lsd_jax.models.gpt2 import GPT2
from lsd_jax.models.model import Diffusion
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.models.pretrained.mapping import to_ours
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.uniform import Uniform
from lsd_jax.samplers.kernel import denoise
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.schedule import Step, neutral
from lsd_jax.training.losses import denoising_loss, score_entropy

DATA = pathlib.Path(__file__).parents[2] / "golden"
S = 11
ABSORBING, UNIFORM = Absorbing(S, LogLinear()), Uniform(S, LogLinear())


def load(name, masked=True):
    sizes, params, _ = pretrained.load(name.split("_")[0], f"tiny_{name}", "weights", masked)
    return np.load(DATA / f"{name}.npz"), DDiT(sizes), params


@functools.partial(jax.jit, static_argnums=0)
def run(model, params, *inputs):
    return model.apply(params, *inputs)


@functools.partial(jax.jit, static_argnums=0)
def step_law(kernel, model, x, t, u):
    """Probabilities (B, L, S) of jumping to every data token and (B, L) of staying; kernel "denoise" is the last step."""
    step = Step(t, u, neutral())
    transition = denoise if kernel == "denoise" else get_kernel(kernel).transition
    stay, jump = transition(model, x, step).probabilities()
    return jump, stay


def per_row(function, x, times):
    """A function of one batch and a scalar time, for rows with their own."""
    function = jax.jit(function)
    return np.concatenate([function(x[i : i + 1], jnp.float32(t)) for i, t in enumerate(times)])


@pytest.mark.parametrize("sigma", ["A", "B"])
def test_sedd_absorbing_log_score(sigma):
    golden, model, params = load("sedd_absorb")
    x, sigma_bar = golden["in/indices"], golden[f"in/sigma_{sigma}"]
    found = ABSORBING.log_score_of_sedd(run(model, params, x, sigma_bar), x, sigma_bar)
    wanted = golden[f"out/log_score_{sigma}"][..., :S]
    # The reference writes 0 at the token that is there, which only matters where it is not the mask, and is never read.
    here = np.arange(S) == x[..., None]
    np.testing.assert_allclose(np.where(here, 0, found), np.where(here, 0, wanted), atol=2e-5)
    t = ABSORBING.noise.inverse(sigma_bar)
    adapter = per_row(Diffusion.from_flax(model, params, ABSORBING, "score").log_score, x, t)
    np.testing.assert_allclose(np.where(here, 0, adapter), np.where(here, 0, wanted), atol=1e-3)


@pytest.mark.parametrize("sigma", ["A", "B"])
def test_sedd_uniform_log_score(sigma):
    golden, model, params = load("sedd_uniform", masked=False)
    x, sigma_bar = golden["in/indices"], golden[f"in/sigma_{sigma}"]
    found = UNIFORM.log_score_of_sedd(run(model, params, x, sigma_bar), x, sigma_bar)
    np.testing.assert_allclose(found, golden[f"out/log_score_{sigma}"], atol=2e-5)


def test_radd_conditions_scores_and_steps():
    golden, model, params = load("radd")
    x = golden["in/indices"]
    np.testing.assert_allclose(run(model, params, x), golden["out/logits"][..., :S], atol=2e-5)
    log_condition = jax.nn.log_softmax(run(model, params, x))
    np.testing.assert_allclose(log_condition, golden["out/log_condition"][..., :S], atol=2e-5)
    diffusion = Diffusion.from_flax(model, params, ABSORBING)
    found = per_row(diffusion.log_score, x, ABSORBING.noise.inverse(golden["in/sigma"]))
    wanted = golden["out/log_score_from_condition"][..., :S]
    np.testing.assert_allclose(found[x == S], wanted[x == S], atol=1e-4)
    dt = (1 - 1e-5) / golden["in/update_steps"]
    for kernel in ("tweedie", "euler", "ancestral"):
        rates = []
        for t in golden["in/update_t"]:
            jump, stay = step_law(kernel, diffusion, x, jnp.float32(t), jnp.float32(t - dt))
            rates.append(1 - stay[x == S].mean())
            if t == np.float32(0.6):
                reference = golden["out/probs_mask_tweedie_t0.6_float32"]
                np.testing.assert_allclose(jump[x == S], reference[:, :S], atol=2e-5)
                np.testing.assert_allclose(stay[x == S], reference[:, S], atol=2e-5)
        reference = golden[f"out/update_rate_{'euler' if kernel == 'euler' else 'tweedie'}"]
        np.testing.assert_allclose(rates, reference, atol=2e-5)


def test_mdlm_backbone_subs_and_scores():
    golden, model, params = load("mdlm")
    assert not model.config.time_conditioned  # the constant sigma = 0 was folded into norms and layers
    x, mask = golden["in/indices"], golden["in/indices"] == S
    logits = run(model, params, x)
    np.testing.assert_allclose(logits, golden["out/backbone_logits_sigma0"][..., :S], atol=2e-5)
    subs = np.asarray(jax.nn.log_softmax(logits))
    np.testing.assert_allclose(subs[mask], golden["out/subs_logprobs_sigma0"][..., :S][mask], atol=2e-5)
    diffusion = Diffusion.from_flax(model, params, ABSORBING)
    found = np.exp(per_row(diffusion.log_score, x, ABSORBING.noise.inverse(golden["in/sigma"])))
    np.testing.assert_allclose(found[mask], golden["out/subs_score_sigma0"][..., :S][mask], rtol=1e-4)


def test_mdlm_with_time_conditioning():
    golden, x = np.load(DATA / "mdlm.npz"), np.load(DATA / "mdlm.npz")["in/indices"]
    tensors = read_tensors(weights.SHIPPED / "weights" / "tiny_mdlm" / "model.safetensors")
    sizes, params = to_ours("mdlm", tensors, {"n_heads": 4, "time_conditioning": True}, True)
    logits = run(DDiT(sizes), params, x, golden["in/sigma"])
    np.testing.assert_allclose(logits, golden["out/backbone_logits_timecond"][..., :S], atol=2e-5)
    subs, mask = np.asarray(jax.nn.log_softmax(logits)), x == S
    np.testing.assert_allclose(subs[mask], golden["out/subs_logprobs_timecond"][..., :S][mask], atol=2e-5)
    found = ABSORBING.log_score_of_sedd(logits, x, golden["in/sigma"])
    np.testing.assert_allclose(found[mask], golden["out/sedd_param_log_score_timecond"][..., :S][mask], atol=2e-5)


@pytest.mark.parametrize("index", range(3))
def test_mdlm_steps(index):
    golden, model, params = load("mdlm")
    x, mask = golden["in/indices"], golden["in/indices"] == S
    t, dt = (jnp.float32(value) for value in golden["in/t_dt"][index])
    for kernel, name, process in (
        ("ancestral", "ddpm", ABSORBING),
        ("ancestral", "ddpm_cache", Absorbing(S, LogLinear(0.0))),
        ("tweedie", "analytic", ABSORBING),
    ):
        jump, stay = step_law(kernel, Diffusion.from_flax(model, params, process), x, t, t - dt)
        wanted = golden[f"out/{name}_unnorm_probs_{index}"]
        wanted = wanted / wanted.sum(-1, keepdims=True)
        if (name, float(t)) == ("ddpm_cache", 1.0):
            continue  # our processes stop short of an infinite sigma_bar; ddpm itself is compared there
        np.testing.assert_allclose(jump[mask], wanted[mask][:, :S], atol=2e-5)
        np.testing.assert_allclose(stay[mask], wanted[mask][:, S], atol=2e-5)
        np.testing.assert_array_equal(stay[~mask], 1)
    jump, _ = step_law("denoise", Diffusion.from_flax(model, params, ABSORBING), x, t, t)
    np.testing.assert_allclose(jump[mask], golden[f"out/denoiser_unnorm_probs_{index}"][mask][:, :S], atol=2e-5)


@dataclasses.dataclass(frozen=True)
class Given(Absorbing):
    """Noises x_0 to a given x_t, handed in as its key."""

    def corrupt(self, key, x0, t):
        return key


def test_mdlm_nelbo():
    golden, model, params = load("mdlm")
    network = lambda x, t: run(model, params, x, ABSORBING.noise.sigma_bar(t))
    x, x0, t = golden["in/indices"], golden["in/x0"], golden["in/nelbo_t"]
    found = denoising_loss(network, Given(S, LogLinear()), jnp.asarray(x), jnp.asarray(t), jnp.asarray(x0))
    np.testing.assert_allclose(found, golden["out/nelbo_per_token"].sum(-1), rtol=1e-4)


def test_duo_backbone_takes_tokens_and_soft_tokens():
    golden, model, params = load("duo", masked=False)
    x, sigma = golden["in/indices"], golden["in/sigma"]
    logits = run(model, params, x, sigma)
    np.testing.assert_allclose(logits, golden["out/backbone_logits"], atol=2e-5)
    np.testing.assert_allclose(jax.nn.log_softmax(logits), golden["out/log_x_theta"], atol=2e-5)
    soft = run(model, params, jax.nn.softmax(golden["in/soft_logits"]), sigma)
    np.testing.assert_allclose(soft, golden["out/backbone_logits_soft_input"], atol=2e-5)
    mixture = (np.eye(S, dtype=np.float32)[golden["in/topk_indices"]] * golden["in/topk_weights"][..., None]).sum(2)
    top = run(model, params, mixture, sigma)
    np.testing.assert_allclose(top, golden["out/backbone_logits_topk_weighted_input"], atol=2e-5)


@pytest.mark.parametrize("index", range(3))
def test_duo_posteriors(index):
    golden, model, params = load("duo", masked=False)
    x = jnp.asarray(golden["in/indices"])
    t, dt = (jnp.float32(value) for value in golden["in/t_dt"][index])
    for name, kernel in (("posterior", "ancestral"), ("posterior_noise_removal", "denoise")):
        jump, stay = step_law(kernel, Diffusion.from_flax(model, params, UNIFORM, "mean"), x, t, t - dt)
        found = jump + stay[..., None] * jax.nn.one_hot(x, S)
        # The reference has float64. A score at t = 1 differs from one by alpha = 0.001 only, so float32 has 4 digits of it.
        atol = 1e-4 if (kernel, float(t)) == ("denoise", 1.0) else 5e-6
        np.testing.assert_allclose(found, golden[f"out/{name}_{index}"], atol=atol)


def test_duo_nelbo():
    golden, model, params = load("duo", masked=False)
    x, x0, t = (golden[f"in/{name}"] for name in ("indices", "x0", "nelbo_t"))
    log_score = per_row(Diffusion.from_flax(model, params, UNIFORM, "mean").log_score, x, t[:, 0])
    sigma_bar = UNIFORM.noise.sigma_bar(jnp.asarray(t[:, 0]))
    entropy = score_entropy(UNIFORM, jnp.asarray(log_score), sigma_bar, jnp.asarray(x), jnp.asarray(x0))
    found = UNIFORM.noise.sigma(jnp.asarray(t)) * entropy
    np.testing.assert_allclose(found, golden["out/nelbo_per_token"], rtol=1e-4, atol=1e-4)
    assert float(UNIFORM.keep_and_move(sigma_bar)[0].min()) > 0


def test_gpt2_logits_and_nll():
    golden = np.load(DATA / "gpt2.npz")
    sizes, params, _ = pretrained.load("gpt2", "tiny_gpt2", "scorer")
    model = GPT2(sizes)
    np.testing.assert_allclose(run(model, params, golden["in/input_ids"]), golden["out/logits"], atol=3e-5)
    longest = run(model, params, golden["in/input_ids_full_length"])[:, -1]
    np.testing.assert_allclose(longest, golden["out/logits_full_length_last"], atol=3e-5)


@pytest.mark.parametrize("family, name", [("sedd", "sedd_absorb"), ("gpt2", "gpt2")])
def test_bfloat16_products_give_float32_logits_near_float32_s(family, name):
    golden = np.load(DATA / f"{name}.npz")
    networks = {}
    for dtype in ("float32", "bfloat16"):
        sizes, params, _ = pretrained.load(family, f"tiny_{name}", "field", family != "gpt2", dtype)
        model = GPT2(sizes) if family == "gpt2" else DDiT(sizes)
        inputs = (golden["in/input_ids"],) if family == "gpt2" else (golden["in/indices"], golden["in/sigma_A"])
        networks[dtype] = np.asarray(run(model, params, *inputs))
    assert networks["bfloat16"].dtype == np.float32
    apart = np.abs(networks["bfloat16"] - networks["float32"])
    assert 1e-5 < apart.max() < 0.1 * np.abs(networks["float32"]).max()
    rounded = networks["bfloat16"].astype(jnp.bfloat16).astype(np.float32)
    assert np.mean(rounded == networks["bfloat16"]) < 0.05  # the logits themselves are not rounded
