"""`load_model` finds every kind of network with its process, gives equal models equal functions, and names what is wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from lsd_jax.models import backbones, weights
from lsd_jax.models.backbones import ModelSettings, UNetSettings, network_sizes
from lsd_jax.models.load import load_model
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.noise import Cosine, Exponential, LogLinear
from lsd_jax.processes.uniform import Uniform

SIZES = backbones.DDiTConfig(vocab_size=5, dim=16, depth=1, heads=2)


def write(path, sizes=SIZES, card=()):
    """A network with random parameters; those that start at zero or one included."""
    shapes = jax.eval_shape(lambda key: backbones.initial(sizes, key), jax.random.key(0))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: (0.2 * rng.normal(size=leaf.shape)).astype(np.float32), shapes)
    weights.save(path, params, sizes, dict(card))
    return str(path)


@jax.jit
def log_score(model, x, t):
    return model.log_score(x, t)


@pytest.mark.parametrize(
    ("name", "source", "process", "output"),
    [
        ("sedd", "tiny_sedd_absorb", Absorbing(11, LogLinear()), "score"),
        ("sedd", "tiny_sedd_uniform", Uniform(11, LogLinear()), "score"),
        ("radd", "tiny_radd", Absorbing(11, LogLinear()), "posterior"),
        ("mdlm", "tiny_mdlm", Absorbing(11, LogLinear()), "posterior"),
        ("duo", "tiny_duo", Uniform(11, LogLinear()), "mean"),
    ],
)
def test_a_published_network_brings_its_process_and_reading(name, source, process, output):
    model = load_model(name, source)
    assert model.process == process and model.apply.output == output
    assert (model.identity.kind, model.identity.id, len(model.identity.sha256)) == (name, source, 64)
    assert model.time_conditioned == (name in ("sedd", "duo"))
    x = process.prior_sample(jax.random.key(0), (2, 9))
    assert np.isfinite(log_score(model, x, jnp.float32(0.5))).all()
    given = load_model(name, source, type(process)(11, Cosine()))
    assert given.process.noise == Cosine()


def test_models_that_ship():
    text, digits = load_model("text"), load_model("digits")
    assert text.process == Absorbing(27, LogLinear()) and not text.time_conditioned
    assert text.identity.id == "text_teacher.safetensors"
    assert digits.process == DiscretizedGaussian(17, Exponential(time_base=0.5), 3.0, 16.0)
    assert digits.time_conditioned and digits.apply.time_input == "time"
    x = digits.process.prior_sample(jax.random.key(0), (2, 64))
    assert log_score(digits, x, jnp.float32(0.5)).shape == (2, 64, 17)


def test_a_network_loaded_twice_is_compiled_once(tmp_path):
    path, traces = write(tmp_path / "w.safetensors"), []

    @jax.jit
    def run(model, x):
        traces.append(1)
        return model.log_score(x, jnp.float32(0.5))

    x = jnp.full((1, 4), 5)
    first, second = load_model("ddit", path), load_model("ddit", path)
    assert first.apply == second.apply and first.params is second.params
    before = run(first, x)
    run(second, x)
    assert len(traces) == 1
    write(tmp_path / "w.safetensors", dataclasses.replace(SIZES, depth=2))  # the file is another one now
    assert not np.allclose(before, run(load_model("ddit", path), x))
    assert load_model("ddit", path).identity.sha256 != first.identity.sha256


@pytest.mark.parametrize(
    ("card", "process", "output"),
    [
        ({}, Absorbing(5, LogLinear()), "posterior"),
        ({"process": {"name": "absorbing", "eps": 1e-2}}, Absorbing(5, LogLinear(1e-2)), "posterior"),
        (
            {
                "process": {"name": "uniform", "noise": {"name": "cosine", "eps": 1e-2}},
                "training": {"loss": "score_entropy"},
            },
            Uniform(5, Cosine(1e-2)),
            "score",
        ),
        (
            {"process": {"name": "gaussian", "noise": {"name": "exponential"}, "rate_sigma": 3.0, "q_sigma": 4.0}},
            DiscretizedGaussian(5, Exponential(), 3.0, 4.0),
            "posterior",
        ),
    ],
)
def test_the_card_tells_process_and_output(tmp_path, card, process, output):
    path = write(tmp_path / "w.safetensors", card=card)
    model = load_model("ddit", path)
    assert model.process == process and model.apply.output == output
    if process.ordered:  # its network is read in one way alone
        own, chosen = DiscretizedGaussian(5, Exponential()), "posterior"
    else:
        own, chosen = dataclasses.replace(process, noise=LogLinear(0.02)), "mean"
    given = load_model("ddit", path, own, output=chosen)
    assert (given.process, given.apply.output) == (own, chosen)


def test_half_precision_products(tmp_path):
    path = write(tmp_path / "w.safetensors")
    half = load_model("ddit", path, dtype="bfloat16")
    assert half.apply.module.config.dtype == "bfloat16"
    assert log_score(half, jnp.full((1, 4), 5), jnp.float32(0.5)).dtype == jnp.float32


def test_taulders_unet_takes_values_and_shape_from_the_caller(tmp_path):
    golden = np.load("tests/golden/tauldr_unet.npz")
    tensors = {name.removeprefix("w/"): np.array(golden[name]) for name in golden.files if name.startswith("w/")}
    save_file(tensors, tmp_path / "ckpt.pt")
    process = DiscretizedGaussian(16, Exponential(), 3.0, 16.0)
    model = load_model("unet", tmp_path / "ckpt.pt", process, shape=(3, 8, 8), fix_logistic=True)
    assert model.apply.module.config.fix_logistic and model.process == process
    x = jnp.asarray(golden["in/x"], jnp.int32)[:1]
    found = log_score(model, x, jnp.asarray(golden["in/t"])[0])
    likely = golden["out/x0_probs"][:1] > 1e-4
    wanted = jax.nn.log_softmax(golden["out/logits_fix_logistic_True"][:1])
    np.testing.assert_allclose(np.asarray(found)[likely], np.asarray(wanted)[likely], atol=2e-3)
    assert load_model("unet", tmp_path / "ckpt.pt").process == DiscretizedGaussian(256, Exponential())
    with pytest.raises(
        ValueError, match=r"^weights='.*': cannot be read as tauLDR's U-Net: its images have 3 channels"
    ):
        load_model("unet", tmp_path / "ckpt.pt", process, shape=(1, 8, 8))


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("bert",), {}, r"^name='bert': choose one of \['ddit', 'unet', 'sedd', .*'text', .*'digits'\]"),
        (("text", "own.safetensors"), {}, "^weights='own.safetensors': 'text' names shipped weights"),
        (("ddit", ""), {}, "^weights='': ddit needs a file, a folder or a repository"),
        (("sedd", ""), {}, "^weights='': sedd needs"),
        (("mdlm", "tiny_mdlm"), {"dtype": "float16"}, "^dtype='float16': choose one of"),
        (("mdlm", "tiny_mdlm"), {"output": "mean"}, "^output='mean': MDLM networks give 'posterior'"),
        (("sedd", "tiny_gpt2"), {}, "^process=None: .*give the process"),
        (("mdlm", "tiny_gpt2"), {}, "^weights='tiny_gpt2': cannot be read as MDLM: no tensor 'vocab_embed"),
        (
            ("sedd", "tiny_sedd_absorb", Absorbing(12, LogLinear())),
            {},
            "^weights='tiny_sedd_absorb': cannot be read as SEDD: its table has 12 rows; vocab_size=12 and a mask need 13",
        ),
        (
            ("sedd", "tiny_sedd_absorb", Uniform(11, LogLinear())),
            {},
            "^process='uniform': this SEDD network is for absorbing",
        ),
        (
            ("radd", "tiny_radd", Uniform(11, LogLinear())),
            {},
            "^process='uniform': this RADD network is for \\('absorbing'",
        ),
        (("ddit", "nowhere.safetensors"), {}, "^weights='nowhere.safetensors': no such file"),
        (("mdlm", "nowhere"), {}, "^weights='nowhere': no such file or folder"),
        (("ddit", "digits_unet.safetensors"), {}, r"a unet network for \(1, 8, 8\) images of 17 values, not a ddit"),
        (("unet", "text_teacher.safetensors"), {}, "a ddit network, not a unet"),
        (("ddit", "text_scorer.safetensors"), {}, "a scorer, not a diffusion model"),
        (("text", "", Absorbing(32, LogLinear())), {}, "a ddit network for vocab_size=27, not 32"),
        (
            ("qm9", "", Uniform(31, LogLinear())),
            {},
            "^weights='qm9.safetensors': trained under absorbing noise, not uniform",
        ),
        (("qm9_uniform", "", Absorbing(31, LogLinear())), {}, "trained under uniform noise, not absorbing"),
        (
            ("digits",),
            {"shape": (1, 4, 4)},
            r"a unet network for \(1, 8, 8\) images of 17 values, not for \(1, 4, 4\) of 17",
        ),
        (("text",), {"output": "logits"}, "^output='logits': choose one of"),
        (("ddit", "tiny_radd/model.safetensors"), {}, "no such file"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(arguments, settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load_model(*arguments, **settings)
    assert "\n" not in str(caught.value)


def test_a_gaussian_card_without_its_settings_is_not_guessed(tmp_path):
    sizes = backbones.UNetConfig(4, (1, 4, 4), 8, 1, (1,), -1, 8)
    path = write(tmp_path / "u.safetensors", sizes, {"process": {"name": "gaussian", "time_base": 0.5}})
    with pytest.raises(ValueError, match=r"^process=None: .*noise schedule; give the process"):
        load_model("unet", path)
    assert load_model("unet", path, DiscretizedGaussian(4, Exponential())).time_conditioned


def test_sizes_of_networks_to_train():
    settings = ModelSettings(dim=32, depth=2, heads=4, time_conditioned=True, unet=UNetSettings(ch=8, ch_mult=(1, 2)))
    sizes = network_sizes(settings, 27)
    assert sizes == backbones.DDiTConfig(27, 32, 2, 4, 4, time_conditioned=True)
    assert network_sizes(settings, 27, causal=True).causal and backbones.kind_of(sizes) == "ddit"
    images = dataclasses.replace(settings, name="unet", dtype="bfloat16")
    sizes = network_sizes(images, 17, (1, 8, 8))
    assert (sizes.ch, sizes.ch_mult, sizes.shape, sizes.dtype) == (8, (1, 2), (1, 8, 8), "bfloat16")
    for changes, message in (
        ({"dim": 36}, "^dim=36: must be divisible by twice heads=4"),
        ({"name": "mdlm"}, "^name='mdlm': networks that are trained here are"),
    ):
        with pytest.raises(ValueError, match=message):
            network_sizes(dataclasses.replace(settings, **changes), 27)
    with pytest.raises(ValueError, match="loss='autoregressive'"):
        network_sizes(images, 17, (1, 8, 8), causal=True)
    with pytest.raises(ValueError, match="^shape="):
        network_sizes(images, 17, (1, 7, 8))


def test_a_shipped_name_wins_and_other_names_are_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "own.safetensors")
    assert weights.resolve("text_teacher.safetensors").parent == weights.SHIPPED / "weights"
    assert weights.resolve("tiny_tokenizer.json").is_file() and weights.resolve("tiny_tokens.npy").is_file()
    assert load_model("ddit", "own.safetensors").process.vocab_size == 5
    assert load_model("ddit", path).identity == load_model("ddit", "own.safetensors").identity
    assert read_tensors(weights.resolve("tiny_radd") / "model.safetensors")
