"""From a config to the objects of an experiment, with every check that needs no long work."""

import dataclasses
import pathlib
from typing import Any

import ml_collections
import numpy as np

from lsd_jax import imaging, scoring
from lsd_jax.data import alphabet, chain, loader, toy
from lsd_jax.data.tokenizer import load_tokenizer
from lsd_jax.distill.neighbours import MAX_VOCAB
from lsd_jax.distill.objectives import check_objective
from lsd_jax.distill.plan import GRIDS, ORDERS, check_halving
from lsd_jax.distill.student import init_student
from lsd_jax.models import pretrained, weights
from lsd_jax.models.ddit import DTYPES, DDiT, DDiTConfig
from lsd_jax.models.oracle import LogPosteriorFn, enumerated_log_posterior, markov_log_posterior
from lsd_jax.models.score_fn import ScoreModel, network_score_model, oracle_score_model
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import Process, make_process
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Kernel
from lsd_jax.samplers.simulate import check_coupling, check_kernel

TRAINABLE = ("ddit", "unet")  # config.model.name
TRAINED = "train/weights.safetensors"  # below the run directory


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A frozen score model, what names it in an artefact, and whether it is told the time."""

    model: ScoreModel
    identity: dict[str, Any]
    time_conditioned: bool = False


def process_of(config: ml_collections.ConfigDict) -> Process:
    """The noising process of a config."""
    noise, settings = config.process.noise.to_dict(), {}
    if config.process.name == "gaussian":
        settings = {"rate_sigma": config.process.rate_sigma, "q_sigma": config.process.q_sigma}
    return make_process(config.process.name, config.data.vocab_size, make_noise(noise.pop("name"), **noise), **settings)


def coupling_of(config: ml_collections.ConfigDict) -> Coupling:
    """The coupling of a config's students."""
    return Coupling(**config.student.coupling)


def network_of(config: ml_collections.ConfigDict) -> weights.Sizes:
    """The sizes of the network to train."""
    if config.model.name == "unet":
        return imaging.network_of(config)
    if config.model.dim % (2 * config.model.heads):
        raise ValueError(
            f"config.model.dim={config.model.dim} must be divisible by twice config.model.heads={config.model.heads}"
        )
    return DDiTConfig(
        vocab_size=config.data.vocab_size,
        dim=config.model.dim,
        depth=config.model.depth,
        heads=config.model.heads,
        mlp_ratio=config.model.mlp_ratio,
        time_conditioned=config.model.time_conditioned,
        causal=config.training.loss == "autoregressive",
    )


def chain_of(config: ml_collections.ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """The exactly known Markov chain behind the data: its initial law and transition matrix."""
    return chain.chain_of(config.data)


def has_exact_chain(config: ml_collections.ConfigDict) -> bool:
    """Whether the data's law is a known chain, against which samples and likelihoods are measured exactly."""
    return config.data.name in chain.CHAINS


def oracle_of(config: ml_collections.ConfigDict) -> LogPosteriorFn:
    """The exact denoiser of the data's law: by enumeration for the toy, by forward-backward for the other chains."""
    process = process_of(config)
    initial, transition = chain_of(config)
    if config.data.name == "toy":
        return enumerated_log_posterior(process, (initial[:, None] * transition).ravel(), toy.LENGTH)
    return markov_log_posterior(process, initial, transition)


def weights_path(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> pathlib.Path:
    """The file of the network's weights: named by the config, or trained into the run directory."""
    return weights.resolve(config.model.weights) if config.model.weights else workdir / TRAINED


def backbone_of(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Backbone:
    """The frozen network, loaded and checked, or the exact oracle.

    Raises:
        ValueError, FileNotFoundError: weights missing, broken, or for another vocabulary.
    """
    process = process_of(config)
    if config.model.name == "oracle":
        if not has_exact_chain(config):
            raise ValueError(
                f"config.model.name='oracle' needs a config.data.name of {chain.CHAINS}, whose law is known"
            )
        identity = {"kind": "oracle", "id": f"{config.data.name} mix={config.data.mix:g}", "sha256": ""}
        return Backbone(oracle_score_model(process, oracle_of(config)), identity)
    if config.model.name in pretrained.DIFFUSION:
        return _published(config, process)
    path = weights_path(config, workdir)
    if config.model.name == "unet":
        return Backbone(*imaging.backbone_of(config, process, path), time_conditioned=True)
    sizes, params, _ = weights.load(path)
    if (kind := weights.kind_of(sizes)) != "ddit":
        raise ValueError(f"weights {str(path)!r} are a {kind} network; config.model.name is 'ddit'")
    if sizes.vocab_size != process.vocab_size:
        raise ValueError(
            f"weights {str(path)!r} are for {sizes.vocab_size} tokens, config.data.vocab_size={process.vocab_size}"
        )
    sizes = dataclasses.replace(sizes, dtype=config.model.dtype)
    identity = {"kind": "ddit", "id": path.name, "sha256": weights.sha256(path)}
    model = network_score_model(process, DDiT(sizes), params, config.model.parameterization)
    return Backbone(model, identity, sizes.time_conditioned)


def _published(config: ml_collections.ConfigDict, process: Process) -> Backbone:
    """SEDD, RADD, MDLM or Duo from a checkpoint of its authors' code."""
    name, source, field = config.model.name, config.model.weights, "config.model.weights"
    if not source:
        raise ValueError(f"{field} is empty: a published {name.upper()} network needs a checkpoint or a hub repository")
    if process.name not in pretrained.PROCESSES[name]:
        raise ValueError(
            f"config.process.name={process.name!r}: {name.upper()} networks know {pretrained.PROCESSES[name]}"
        )
    masked = process.name == "absorbing"
    sizes, params, sha256 = pretrained.load(name, source, field, masked, config.model.dtype)
    if sizes.vocab_size != process.vocab_size:
        raise ValueError(
            f"{field}={source!r} embeds {sizes.vocab_size + masked} tokens{', the mask among them' if masked else ''}: it is "
            f"for config.data.vocab_size={sizes.vocab_size}, not {process.vocab_size}, or for another config.process.name"
        )
    model = network_score_model(process, DDiT(sizes), params, pretrained.PARAMETERIZATION[name])
    return Backbone(model, {"kind": name, "id": source, "sha256": sha256}, sizes.time_conditioned)


def check_plan(settings: ml_collections.ConfigDict, process_name: str) -> None:
    """Raises ValueError where a student's grid or order is unknown, or needs the absorbing process."""
    for field, choices in (("grid", GRIDS), ("order", ORDERS)):
        if settings[field] not in choices:
            raise ValueError(f"config.student.{field}={settings[field]!r}: choose one of {choices}")
    if process_name != "absorbing" and (settings.order != "fixed" or settings.grid == "profile"):
        raise ValueError(
            f"config.student.order={settings.order!r}, grid={settings.grid!r}: only the absorbing process has an order of "
            "reveals; choose order='fixed' and another grid"
        )
    if settings.draws < 1 or settings.grid_points < 2:
        raise ValueError("config.student.draws must be 1 or more, config.student.grid_points 2 or more")
    check_halving(settings.grid, settings.steps)
    if not 0 < settings.top_p <= 1:
        raise ValueError(f"config.student.top_p={settings.top_p} must be above 0 and at most 1")


def check_stages(settings: ml_collections.ConfigDict, kernel: Kernel, coupling: Coupling) -> None:
    """Raises ValueError where a student's order, coupling or potentials need a kernel that is one stage a step."""
    check_coupling(kernel, coupling)
    for field, neutral in (("order", "fixed"), ("neighbours", 0)):
        if not kernel.has_likelihood and settings[field] != neutral:
            raise ValueError(
                f"config.student.{field}={settings[field]!r}: kernel {kernel.name!r} draws in stages of its own; choose "
                f"{neutral!r}"
            )


def check_time(kernel: str, time_conditioned: bool) -> None:
    """Raises ValueError where a kernel would reuse the scores of a network that is told the time."""
    if kernel == "cached" and time_conditioned:
        raise ValueError(
            "kernel 'cached' reuses scores of earlier times: it needs a network with config.model.time_conditioned=False"
        )


def check_neighbours(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError where potentials between tokens revealed together cannot be fitted or used."""
    count, name = config.student.neighbours, "config.student.neighbours"
    if count < 0 or count in (1, 2, 3):
        raise ValueError(f"{name}={count}: 0 for none, or at least 4 sequences to fit on")
    if not count:
        return
    if config.process.name not in ("absorbing", "uniform"):
        raise ValueError(f"{name}={count} needs the absorbing or the uniform process, not {config.process.name!r}")
    if config.process.name == "uniform" and config.student.coupling.name != "iid":
        coupling = config.student.coupling.name
        raise ValueError(
            f"{name}={count} under uniform noise needs config.student.coupling.name='iid', not {coupling!r}"
        )
    if config.distill.steps and config.distill.objective != "path_kl":
        raise ValueError(f"{name}={count} goes with config.distill.objective='path_kl', or config.distill.steps=0")
    if config.data.vocab_size > MAX_VOCAB:
        raise ValueError(f"{name}={count}: a table of {config.data.vocab_size} tokens squared; at most {MAX_VOCAB}")
    if config.teacher.source == "samples" and count > config.teacher.paths:
        raise ValueError(f"{name}={count} is more than config.teacher.paths={config.teacher.paths}")


def check(config: ml_collections.ConfigDict, stage: str, workdir: pathlib.Path) -> None:
    """Every mistake in a config that can be told before long work.

    Raises:
        ValueError, FileNotFoundError: one line naming the field or file.
    """
    process = process_of(config)
    if config.data.name not in loader.DATASETS:
        raise ValueError(f"config.data.name={config.data.name!r}: choose one of {loader.DATASETS}")
    if config.data.name in alphabet.DATASETS and config.data.vocab_size != 27:
        raise ValueError(f"config.data.vocab_size={config.data.vocab_size}: {config.data.name} has 27 symbols")
    if config.model.name not in (names := ("ddit", "unet", "oracle", *pretrained.DIFFUSION)):
        raise ValueError(f"config.model.name={config.model.name!r}: choose one of {names}")
    imaging.check(config)
    if config.model.dtype not in DTYPES:
        raise ValueError(f"config.model.dtype={config.model.dtype!r}: choose one of {DTYPES}")
    if config.data.name == "tokens" and (config.teacher.source != "samples" or stage == "train"):
        raise ValueError(
            "config.data.name='tokens' has no training split: set config.teacher.source='samples', do not train"
        )
    if config.data.tokenizer:
        load_tokenizer(config.data.tokenizer, config.data.vocab_size, "config.data.tokenizer")
    if config.training.loss == "autoregressive" and stage != "train":
        raise ValueError("config.training.loss='autoregressive' trains a scorer: it goes with --stage=train only")
    if process.name == "gaussian" and config.training.loss != "denoising":
        raise ValueError(f"config.training.loss={config.training.loss!r}: the gaussian process trains by 'denoising'")
    network_of(config)
    kernel, coupling = get_kernel(config.student.kernel), coupling_of(config)
    check_kernel(kernel, process)
    coupling.keeps_thresholds(process)
    coupling.check_length(config.data.sequence_length)
    if config.teacher.source not in ("samples", "data"):
        raise ValueError(f"config.teacher.source={config.teacher.source!r}: choose 'samples' or 'data'")
    if stage in ("all", "distill"):
        check_objective(config.distill, process.name, kernel.name, coupling, config.data.sequence_length)
        check_plan(config.student, process.name)
        check_stages(config.student, kernel, coupling)
        check_neighbours(config)
        if not config.student.steps:
            raise ValueError("config.student.steps is empty: name at least one step count")
        for steps in config.student.steps:
            settings = config.student
            init_student(settings.kernel, coupling, settings.coefficient, steps, None, settings.temperature)
            if steps > config.teacher.steps:
                raise ValueError(
                    f"config.student.steps={steps} is more than config.teacher.steps={config.teacher.steps}"
                )
    trained_here = config.model.name in TRAINABLE and not config.model.weights and stage in ("all", "train")
    time_conditioned = trained_here and config.model.time_conditioned
    if config.model.name != "oracle" and not trained_here:
        time_conditioned = backbone_of(config, workdir).time_conditioned
    check_time(kernel.name, time_conditioned)
    if stage in ("all", "evaluate"):
        scoring.load_scorer(config)
        imaging.features_of(config)
    if config.data.name == "tokens":
        loader.load_split(config.data, "test")
    else:
        loader.make_builder(config.data)
