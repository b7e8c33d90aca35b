"""Checkpoints by shipped name, path or hub repository; every way of not getting one is told in one line."""

import types

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from lsd_jax.models import weights
from lsd_jax.models.pretrained import sources

FIELD = "weights"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The hub's own offline mode with an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_shipped_names_files_and_folders(tmp_path):
    shipped = sources.find("tiny_radd", sources.WEIGHTS, FIELD)
    assert shipped == weights.SHIPPED / "weights" / "tiny_radd" / "model.safetensors"
    assert sources.card(shipped, "tiny_radd", FIELD)["model"]["n_heads"] == 4
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert sources.find(str(tmp_path), sources.WEIGHTS, FIELD).name == "pytorch_model.bin"
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert sources.find(str(tmp_path), sources.WEIGHTS, FIELD).name == "model.safetensors"
    assert sources.card(tmp_path / "model.safetensors", str(tmp_path), FIELD) == {}
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        sources.card(tmp_path / "model.safetensors", str(tmp_path), FIELD)


@pytest.mark.parametrize(
    "source", ["absent", "./absent", "/absent/model", "owner/name/more", "a b/c", "runs/x.safetensors"]
)
def test_what_is_neither_there_nor_a_repository(source):
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        sources.find(source, sources.WEIGHTS, FIELD)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds none of model.safetensors"):
        sources.find(str(tmp_path), sources.WEIGHTS, FIELD)


def test_no_network_and_nothing_cached(offline):
    with pytest.raises(
        FileNotFoundError, match=r"cannot be reached and its cache holds none of .*`hf download owner/name`"
    ) as e:
        sources.find("owner/name", sources.WEIGHTS, FIELD)
    assert "\n" not in str(e.value)


def test_the_cache_serves_without_network(offline):
    repository = offline / "models--owner--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    (snapshot / "pytorch_model.bin").write_bytes(b"weights")
    (snapshot / "config.json").write_text('{"n_heads": 3}')
    path = sources.find("owner/name", sources.WEIGHTS, FIELD)
    assert path.read_bytes() == b"weights" and sources.card(path, "owner/name", FIELD) == {"n_heads": 3}


def answer(status):
    return types.SimpleNamespace(status_code=status, headers={}, request=None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (lambda: errors.RepositoryNotFoundError("x", response=answer(404)), "no such repository or revision"),
        (lambda: errors.RevisionNotFoundError("x", response=answer(404)), "no such repository or revision"),
        (
            lambda: errors.GatedRepoError("x", response=answer(403)),
            "access is granted on https://huggingface.co/owner/name",
        ),
        (
            lambda: errors.HfHubHTTPError("busy\nmore", response=answer(503)),
            "model.safetensors could not be fetched: busy$",
        ),
        (lambda: errors.EntryNotFoundError("x"), "the repository holds none of model.safetensors"),
        (lambda: OSError("disk full"), "could not be fetched: disk full"),
    ],
)
def test_the_hub_s_refusals(monkeypatch, error, message):
    def refuse(repository, name, revision, local_files_only):
        assert (repository, revision) == ("owner/name", "v2")
        raise error()

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(sources, "_unreachable", lambda address: False)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        sources.find("owner/name@v2", ("model.safetensors",), FIELD)
    assert "\n" not in str(caught.value) and FIELD in str(caught.value)
