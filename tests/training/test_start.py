"""Training that starts from a network: what it keeps, how it takes other tokens, and networks that do not fit."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.experiment import build, stages
from lsd_jax.models import weights
from lsd_jax.models.backbones import initial, network
from lsd_jax.models.ddit import DDiTConfig
from lsd_jax.models.unet import UNetConfig
from lsd_jax.training.start import grown, places
from tests.experiment.tiny import tiny

SIZES = DDiTConfig(5, 16, 1, 2)


def random(sizes) -> dict:
    """Parameters of which none is zero."""
    params = initial(sizes, jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), params)


def test_tokens_are_known_by_their_names():
    assert places("abc", "abc") == [0, 1, 2]
    assert places(["c", "x", "a", ""], ["a", "b", "c", ""]) == [2, -1, 0, 3]
    assert places(["a", "a"], ["a", "a"]) == [0, 1]
    with pytest.raises(ValueError, match="some of them share a name"):
        places(["a", "a"], ["a", "b"])
    with pytest.raises(ValueError, match="knows none of the tokens"):
        places(["0", "1"], ["a", "b"])


@pytest.mark.parametrize("place", [[0, 1, 2, 3, 4], [3, -1, 0, -1, 4, -1], [2, 0]])
def test_a_token_means_what_it_meant_and_a_new_one_nothing(place):
    wide, params = DDiTConfig(len(place), 16, 1, 2), random(SIZES)
    found = grown(params, SIZES, wide, place)
    kept = [index for index in place if index >= 0]
    new_of = {old: new for new, old in enumerate(place) if old >= 0} | {5: len(place)}  # 5: the mask
    x_BL = np.array([[kept[0], 5, kept[1], 5, kept[0]]])
    wanted = np.asarray(network(SIZES).apply(params, jnp.asarray(x_BL)))
    logits = np.asarray(network(wide).apply(found, jnp.asarray(np.vectorize(new_of.get)(x_BL))))
    for new, old in enumerate(place):
        theirs = wanted[..., old] if old >= 0 else wanted[..., kept].mean(-1)
        np.testing.assert_allclose(logits[..., new], theirs, atol=1e-5)


@pytest.mark.parametrize(
    "sizes, message",
    [
        (DDiTConfig(5, 32, 1, 2), "its network has dim=16, and 32 is to be trained"),
        (DDiTConfig(5, 16, 1, 2, causal=True), "its network has causal=False, and True is to be trained"),
        (UNetConfig(5, (1, 8, 8)), "holds a ddit, and a unet is to be trained"),
    ],
)
def test_a_network_of_other_sizes_is_told(sizes, message):
    with pytest.raises(ValueError, match=message):
        grown({}, SIZES, sizes, range(5))


def test_a_unet_takes_no_other_tokens():
    with pytest.raises(ValueError, match="a unet takes no other tokens than its own"):
        grown({}, UNetConfig(5, (1, 8, 8)), UNetConfig(6, (1, 8, 8)), [0, 1, 2, 3, 4, -1])


def training(path="", **changes):
    """A run that trains a small network on countdown, from a file or not."""
    settings = {
        "steps": 1,
        "batch_size": 16,
        "microbatch": 1,
        "learning_rate": 1e-9,
        "warmup_steps": 0,
        "start": str(path),
    }
    sizes = {"name": "ddit", "weights": "", "dim": 16, "depth": 1, "heads": 2, "time_conditioned": False}
    fields = {f"training.{name}": value for name, value in settings.items()}
    return tiny(**{**fields, **{f"model.{name}": value for name, value in sizes.items()}, **changes})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network of countdown's eight tokens."""
    path, config = tmp_path_factory.mktemp("start") / "net.safetensors", training()
    weights.save(path, random(build.sizes_of(config)), build.sizes_of(config), {"data": config.data.to_dict()})
    return path


def test_training_goes_on_from_a_file_and_says_so(file, tmp_path):
    stages.run(training(file), tmp_path / "run", "train", command="test")
    _, params, card = weights.load(tmp_path / "run" / build.TRAINED)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), params, weights.load(file)[1])
    assert card["training"]["start"] == str(file) and card["start_sha256"] == weights.sha256(file)
    stages.run(training(), tmp_path / "fresh", "train", command="test")
    fresh, card = weights.load(tmp_path / "fresh" / build.TRAINED)[1:]
    assert not jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-3), fresh, params))
    assert "start_sha256" not in card
    moved = file.rename(tmp_path / "moved.safetensors")
    stages.run(training(file), tmp_path / "run", "train", command="test")  # it is trained: the file is not read again
    moved.rename(file)


def test_a_network_whose_data_have_labels_keeps_them_in_their_place():
    from lsd_jax.configs import molecules

    config = molecules.get_config("qm9_logp")
    config.model.weights = ""
    assert (build.sizes_of(config).labels, build.sizes_of(training()).labels) == (13, 0)
    config.training.loss = "score_entropy"
    assert build.sizes_of(config).labels == 0
    config.training.loss = "denoising"
    unlabeled = dataclasses.replace(build.sizes_of(config), labels=0)
    assert grown({"kept": 1}, unlabeled, build.sizes_of(config), range(44)) == {"kept": 1}


def test_more_tokens_are_taken_by_name(file, caplog):
    with caplog.at_level("INFO"):
        params, _ = build.start_of(training(file, **{"data.vocab_size": 10}))
    assert "knows 8 of 10 tokens; new are ['8', '9']" in caplog.text
    old = weights.load(file)[1]
    np.testing.assert_array_equal(params["params"]["embed"]["embedding"][:8], old["params"]["embed"]["embedding"][:8])
    np.testing.assert_array_equal(params["params"]["embed"]["embedding"][10], old["params"]["embed"]["embedding"][8])


def test_molecules_of_another_vocabulary_keep_their_atoms(tmp_path):
    """A file with a token that MOSES lacks has a vocabulary of its own, in another order."""
    path = tmp_path / "mine.smi"
    rows = [f"{'C' * a}{atom}{'C' * b}" for a in range(1, 12) for b in range(8) for atom in ("N", "O", "[C@H](F)")]
    path.write_text("\n".join([*rows, "c1ccccc1I"]))
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")
    from lsd_jax.configs import molecules
    from lsd_jax.tasks.smiles import read_file, tokenize

    config = molecules.get_config("qm9")
    config.data.path, config.model.weights, config.training.start = str(path), "", "qm9.safetensors"
    config.data.vocab_size = 1 + len({token for text in read_file(str(path)) for token in tokenize(text)})
    params = build.start_of(config)[0]["params"]["embed"]["embedding"]
    own = lsd.make_task(build.data_of(config)).token_names
    theirs = lsd.make_task(lsd.Data("molecules", path="qm9", vocab_size=31, sequence_length=22)).token_names
    old = weights.load(weights.resolve("qm9.safetensors"))[1]["params"]["embed"]["embedding"]
    shared = [name for name in own if name in theirs]
    assert {"C", "N", "O", "(", "c", ""} <= set(shared) and "I" not in theirs
    for name in shared:
        np.testing.assert_array_equal(params[own.index(name)], old[theirs.index(name)])


def test_what_cannot_be_started_from_is_told_before_any_work(file, tmp_path):
    def told(config) -> str:
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            stages.run(config, tmp_path / "run", "train", command="test")
        assert not (tmp_path / "run").exists()
        return str(caught.value)

    assert told(training("none.safetensors")).startswith("config.training.start='none.safetensors': no such file")
    assert "its network has dim=16, and 32 is to be trained" in told(training(file, **{"model.dim": 32}))
    assert "holds a unet, and a ddit" in told(training("digits_unet.safetensors"))
    unnamed = tmp_path / "unnamed.safetensors"
    weights.save(unnamed, random(SIZES), SIZES, {})
    assert "its card does not say which data it was trained on" in told(training(unnamed))
    assert "it knows none of the tokens" in told(training("text_teacher.safetensors", **{"model.dim": 192}))
    with pytest.raises(
        ValueError, match=r"config.training.start=.*: no network is trained, since config.model.weights"
    ):
        stages.run(training(file, **{"model.weights": str(file)}), tmp_path / "run", "all", command="test")


def test_a_run_from_before_a_field_existed_goes_on(tmp_path):
    stages.run(training(), tmp_path / "run", "train", command="test")
    held = json.loads((tmp_path / "run" / "config.json").read_text())
    del held["config"]["training"]["start"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(held))
    stages.run(training(), tmp_path / "run", "train", command="test")
    with pytest.raises(FileExistsError, match=r"config.training.start"):
        stages.run(training("qm9.safetensors"), tmp_path / "run", "train", command="test")
