"""The verb `load_model`: a pretrained network by name, from a file, a folder, the hub, or what ships with the package."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Hashable
from typing import Any

from lsd_jax import parallel
from lsd_jax.errors import InputError
from lsd_jax.files import checked_path, in_store, store_of
from lsd_jax.models import pretrained, weights
from lsd_jax.models.backbones import NETWORKS, PUBLISHED, Sizes, kind_of, network
from lsd_jax.models.bert import BertConfig
from lsd_jax.models.ddit import DTYPES, DDiTConfig
from lsd_jax.models.model import Diffusion, Identity
from lsd_jax.models.pretrained import tauldr
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.models.pretrained.sources import WHEELS
from lsd_jax.models.unet import UNetConfig
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.gaussian import DiscretizedGaussian
from lsd_jax.processes.noise import Exponential, LogLinear, make_noise
from lsd_jax.processes.process import SETTINGS, Process, make_process
from lsd_jax.processes.uniform import Uniform

SHIPPED_MODELS = {
    "text": ("ddit", "text_teacher.safetensors"),
    "subwords": ("ddit", "subwords_teacher.safetensors"),
    "moses": ("ddit", "moses.safetensors"),
    "qm9": ("ddit", "qm9.safetensors"),
    "qm9_selfies": ("ddit", "qm9_selfies.safetensors"),
    "qm9_logp": ("ddit", "qm9_logp.safetensors"),
    "qm9_qed": ("ddit", "qm9_qed.safetensors"),
    "qm9_uniform": ("ddit", "qm9_uniform.safetensors"),
    "moses_selfies": ("ddit", "moses_selfies.safetensors"),
    "digits": ("unet", "digits_unet.safetensors"),
}
_TAULDR = (".pt", ".pth", ".bin")  # PyTorch's suffixes: tauLDR's own checkpoints
_CIFAR = (3, 32, 32)


def load_model(
    name: str,
    weights: str | os.PathLike = "",
    process: Process | None = None,
    *,
    dtype: str = "float32",
    output: str = "",
    shape: tuple[int, ...] = (),
    fix_logistic: bool = False,
) -> Diffusion:
    """A pretrained diffusion model.

        load_model("mdlm", "kuleshov-group/mdlm-owt")     # from the Hugging Face hub, or its cache
        load_model("sedd", "path/to/folder")              # a folder with model.safetensors or pytorch_model.bin
        load_model("ddit", "runs/teacher/train/weights.safetensors")
        load_model("text")                                # ships with the package
        load_model("antiberty")                           # inside a wheel: pip install --no-deps antiberty==0.1.3

    Args:
        name: "sedd", "radd", "mdlm", "duo" (published diffusion models), "antiberty", "sapiens" (language models of antibodies
            over the 20 amino acids, read as masked diffusion; with a pad where `process` is Absorbing(21, noise, lengths)),
            "ddit", "unet" (our own networks; "unet" also reads tauLDR's checkpoints), or a model that ships with the package:
            "text" (characters of the State of the Union addresses, 27 symbols, absorbing), "subwords" (the same text in 1,024
            byte-pair tokens), "moses", "qm9" (SMILES strings of molecules of many lengths), "qm9_selfies", "moses_selfies"
            (SELFIES), "qm9_logp", "qm9_qed" (SMILES behind the bin of a property), "qm9_uniform" (SMILES under uniform noise) or
            "digits" (8 x 8 images of 17 values, discretized Gaussian).
        weights: a file (safetensors, PyTorch's, Lightning's .ckpt), a folder, "owner/repository" with an optional "@revision" of
            the hub, or the name of a shipped file.
            Empty: what the installed wheel of that name holds ("antiberty", "sapiens").
        process: the noising process. None: that of the published family over the checkpoint's vocabulary, or the one on the
            file's card, with the noise schedule that it was trained with.
        dtype: of matrix products, "float32" or "bfloat16"; logits and probabilities stay float32.
        output: how the output of a network of our own is read (`Diffusion.from_flax`). Empty: as it was trained.
        shape: (channels, height, width) that a U-Net has to be for; () takes the file's. A tauLDR checkpoint does not know
            its own, and () is CIFAR-10's.
        fix_logistic: `UNetConfig.fix_logistic`, which a tauLDR checkpoint does not tell.

    Raises:
        ValueError, FileNotFoundError: unknown name; weights missing, broken, of another network or for another process; one
            line that begins with the parameter.
    """
    if name in SHIPPED_MODELS:
        if weights:
            raise InputError(
                f"weights={str(weights)!r}: {name!r} names shipped weights; name the kind of network instead"
            )
        name, weights = SHIPPED_MODELS[name]
    if name not in NETWORKS and name not in PUBLISHED:
        choices = [*NETWORKS, *PUBLISHED, *SHIPPED_MODELS]
        raise InputError(f"name={name!r}: choose one of {choices}")
    if dtype not in DTYPES:
        raise InputError(f"dtype={dtype!r}: choose one of {DTYPES}")
    weights = weights or (name if name in WHEELS else "")
    if not str(weights):
        raise InputError(f"weights='': {name} needs a file, a folder or a repository of the hub")
    if name in PUBLISHED:
        return _published(name, os.fspath(weights), process, dtype, output)
    return _own(name, os.fspath(weights), process, dtype, output, tuple(shape), fix_logistic)


def _published(name: str, source: str, process: Process | None, dtype: str, output: str) -> Diffusion:
    """SEDD, RADD, MDLM or Duo from a checkpoint of its authors' code."""
    family = PUBLISHED[name]
    if output not in ("", family.output):
        raise InputError(f"output={output!r}: {name.upper()} networks give {family.output!r}")
    told = pretrained.process_name(source, "weights") if process is None or len(family.processes) > 1 else None
    if process is not None:
        kind = process.name
    elif (kind := family.processes[0] if len(family.processes) == 1 else told) is None:
        raise InputError(
            f"process=None: {name.upper()} networks know {family.processes}, and no config.json beside weights="
            f"{source!r} tells which this is; give the process"
        )
    if kind not in family.processes or kind != (told or kind):
        raise InputError(f"process={kind!r}: this {name.upper()} network is for {told or family.processes}")
    masked = kind == Absorbing.name
    wanted = None if process is None else process.vocab_size
    sizes, params, sha256 = pretrained.load(name, source, "weights", masked, dtype, wanted)
    process = process or (Absorbing if masked else Uniform)(sizes.vocab_size, LogLinear())
    if isinstance(sizes, BertConfig) and sizes.padded != (process.longest is not None):
        raise InputError(
            f"process={name!r}: the 20 amino acids are a vocabulary of 20, for sequences of one length; with a pad it is 21, and the "
            "process needs the shares of lengths: Absorbing(21, noise, lengths=...)"
        )
    module = family.module(sizes)
    return Diffusion.from_flax(module, params, process, family.output, identity=Identity(name, source, sha256))


def _own(
    name: str,
    source: str,
    process: Process | None,
    dtype: str,
    output: str,
    shape: tuple[int, ...],
    fix_logistic: bool,
) -> Diffusion:
    """A network that `training` wrote, or tauLDR's U-Net."""
    path = checked_path("weights", source) if in_store(source) else weights.resolve(source)
    if name == "unet" and path.suffix in _TAULDR:
        # Without its process: Campbell et al. (2022), appendix E, on CIFAR-10.
        process = process or DiscretizedGaussian(256, Exponential())
        sizes, params, sha256 = _tauldr(path, _stamp(path), process.vocab_size, shape or _CIFAR)
        sizes, card = dataclasses.replace(sizes, fix_logistic=fix_logistic), {}
    else:
        sizes, params, card, sha256 = _trained(path, _stamp(path))
        _check_kind(name, source, sizes, process, shape)
        process = process or _process_on_card(source, sizes.vocab_size, card)
        if (trained := card.get("process", {}).get("name", process.name)) != process.name:
            raise InputError(f"weights={source!r}: trained under {trained} noise, not {process.name}")
        known = len(card.get("process", {}).get("lengths", ())) - 1
        if process.longest is not None and known > 0 and process.longest != known:  # a network counts the pads
            raise InputError(
                f"sequence_length={process.longest}: weights={source!r} are for {known} tokens, pads included"
            )
    output = output or ("score" if card.get("training", {}).get("loss") == "score_entropy" else "posterior")
    module = network(dataclasses.replace(sizes, dtype=dtype))
    return Diffusion.from_flax(module, params, process, output, identity=Identity(name, path.name, sha256))


def _check_kind(name: str, source: str, sizes: Sizes, process: Process | None, shape: tuple[int, ...]) -> None:
    """Raises ValueError where a file holds another network than was asked for."""
    images = f" for {sizes.shape} images of {sizes.vocab_size} values" if isinstance(sizes, UNetConfig) else ""
    found = f"weights={source!r}: a {kind_of(sizes)} network{images}"
    values = process.vocab_size if process else sizes.vocab_size
    if isinstance(sizes, UNetConfig) and name == "unet":
        if (sizes.shape, sizes.vocab_size) != (shape or sizes.shape, values):
            raise InputError(f"{found}, not for {shape or sizes.shape} of {values}")
        return
    if kind_of(sizes) != name:
        raise InputError(f"{found}, not a {name}")
    if isinstance(sizes, DDiTConfig) and sizes.causal:
        raise InputError(f"{found} that reads from left to right: a scorer, not a diffusion model")
    if sizes.vocab_size != values:
        raise InputError(
            f"{found} for vocab_size={sizes.vocab_size}, not {values}; or train one for them: --config.model.weights= --stage=train"
        )


def _process_on_card(source: str, vocab_size: int, card: dict[str, Any]) -> Process:
    """The process that a file's card records, or for files that lack it the one they are known to be trained with.

    Raises:
        ValueError: the card records no whole process.
    """
    if source == "digits_unet.safetensors":  # its card is older than the process's own settings on it
        return DiscretizedGaussian(vocab_size, Exponential(time_base=0.5), rate_sigma=3.0, q_sigma=16.0)
    record = card.get("process", {})
    name = record.get("name", Absorbing.name)
    settings = {field: record[field] for field in SETTINGS if field in record}
    if "noise" not in record and (name == DiscretizedGaussian.name or set(record) - {"name", "eps"}):
        raise InputError(
            f"process=None: the card of weights={source!r} does not record its noise schedule; give the process"
        )
    noise = dict(record.get("noise", {"name": "loglinear", "eps": record.get("eps", LogLinear.eps)}))
    return make_process(name, vocab_size, make_noise(noise.pop("name"), **noise), **settings)


def _stamp(path: pathlib.Path) -> Hashable:
    """What changes with a file's content: its size and when it was written."""
    if in_store(path):
        return store_of(path).ukey(os.fspath(path)) if path.is_file() else ""
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else (0, 0)


@functools.lru_cache(maxsize=2)  # a run's stages ask again
def _trained(path: pathlib.Path, stamp: Hashable) -> tuple[Sizes, Any, dict[str, Any], str]:
    del stamp
    sizes, params, card = weights.load(path)
    return sizes, parallel.placed(params), card, weights.sha256(path)


@functools.lru_cache(maxsize=2)
def _tauldr(path: pathlib.Path, stamp: Hashable, values: int, shape: tuple[int, ...]) -> tuple[UNetConfig, Any, str]:
    del stamp
    try:
        sizes, params = tauldr.unet(read_tensors(path), values, shape)
        return sizes, parallel.placed(params), weights.sha256(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"weights={str(path)!r}: no such file") from None
    except ValueError as error:
        raise InputError(f"weights={str(path)!r}: cannot be read as tauLDR's U-Net: {error}") from None
