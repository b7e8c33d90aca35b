"""Where checkpoints and tokenizers come from: what ships with the package, a local file or folder, or the Hugging Face hub."""

import functools
import importlib.util
import json
import pathlib
import re
import socket
import urllib.parse
import urllib.request
from typing import Any

from lsd_jax.errors import InputError
from lsd_jax.models import weights
from lsd_jax.models.pretrained.files import shards

# In this order: safetensors first, an index where there are shards; SEDD's training runs keep theirs a folder down.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "checkpoints-meta/checkpoint.pth",
)
# Networks that come inside a wheel, which is only read, never imported: package, folder or file in it, the command that gets it.
WHEELS = {
    "antiberty": ("antiberty", "trained_models/AntiBERTy_md_smooth", "pip install --no-deps antiberty==0.1.3"),
    "sapiens": ("sapiens", "models/v1/checkpoint_vh.pt", "pip install --no-deps sapiens==1.0.4"),
}
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def find(source: str, names: tuple[str, ...], field: str) -> pathlib.Path:
    """The first of the files `names` that `source` holds, fetched from the hub into its cache if need be.

    Args:
        source: a name that ships with the package (no "/"), a file, a folder, a name of WHEELS, or "owner/repository" with an
            optional "@revision" of the hub.
        field: the config's field, for messages.

    Raises:
        FileNotFoundError, ValueError: nothing there, no such repository, no access, no network; one line.
    """
    local = weights.resolve(source)
    if source in WHEELS and not local.exists():
        local = _in_wheel(source, field)
    if local.is_file():
        return local
    if local.is_dir():
        for name in names:
            if (local / name).is_file():
                return local / name
        raise FileNotFoundError(f"{field}={source!r}: the folder holds none of {', '.join(names)}")
    if source.startswith((".", "/", "~")) or source.endswith(_SUFFIXES) or not _REPOSITORY.fullmatch(source):
        shipped = "" if "/" in source else " that ships with lsd_jax"
        raise FileNotFoundError(
            f"{field}={source!r}: no such file or folder{shipped}, nor an owner/repository of the hub"
        )
    return _from_hub(source, names, field)


def _in_wheel(source: str, field: str) -> pathlib.Path:
    """Where an installed wheel keeps a network, found without running any code of it.

    Raises:
        FileNotFoundError: it is not installed; the message has the command.
    """
    package, inside, command = WHEELS[source]
    found = importlib.util.find_spec(package)
    for place in (found and found.submodule_search_locations) or ():
        if (path := pathlib.Path(place) / inside).exists():
            return path
    raise FileNotFoundError(f"{field}={source!r}: not installed; run: {command}")


def card(path: pathlib.Path, source: str, field: str) -> dict[str, Any]:
    """The config.json that belongs to weights found at `path`; {} where there is none.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        file = path.parent / "config.json"
        if not file.is_file() and source not in WHEELS and not weights.resolve(source).exists():
            file = _from_hub(source, ("config.json",), field)
        return json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as error:
        raise InputError(f"{field}={source!r}: {file.name} is not JSON: {error}") from None


def _from_hub(source: str, names: tuple[str, ...], field: str) -> pathlib.Path:
    # Imported here: a run from local files needs none of it.
    from huggingface_hub import constants, errors, hf_hub_download

    repository, _, revision = source.partition("@")
    offline = _unreachable(constants.ENDPOINT)
    fetch = functools.partial(hf_hub_download, repository, revision=revision or None)
    for name in names:
        try:
            path = pathlib.Path(fetch(name, local_files_only=offline))
            for shard in shards(path) if name.endswith(".index.json") else ():
                fetch(shard.name, local_files_only=offline)
            return path
        except errors.GatedRepoError:
            raise InputError(
                f"{field}={source!r}: access is granted on https://huggingface.co/{repository}; ask there, then `hf auth login`"
            ) from None
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            raise InputError(
                f"{field}={source!r}: the hub has no such repository or revision, or it is private (then `hf auth login`)"
            ) from None
        except (
            errors.LocalEntryNotFoundError
        ):  # not in the cache, and the hub cannot be asked: not for the next name either
            offline = True
        except errors.EntryNotFoundError:
            continue
        except (OSError, errors.HfHubHTTPError) as error:
            raise InputError(f"{field}={source!r}: {name} could not be fetched: {str(error).splitlines()[0]}") from None
    if offline:
        raise FileNotFoundError(
            f"{field}={source!r}: the hub cannot be reached and its cache holds none of {', '.join(names)}; connect, or run "
            f"`hf download {repository}` elsewhere and name the folder"
        )
    raise FileNotFoundError(f"{field}={source!r}: the repository holds none of {', '.join(names)}")


def _unreachable(address: str) -> bool:
    """Whether a host's name cannot be looked up: known at once, where the hub's client tries again for half a minute."""
    if urllib.request.getproxies():  # the proxy looks it up
        return False
    try:
        socket.getaddrinfo(urllib.parse.urlparse(address).hostname, 443)
    except OSError:
        return True
    return False
