"""The evaluation of a run, cell by cell: a cell is one sampler at one true NFE, its record complete and on disk."""

import dataclasses
import functools
import json
import pathlib
import time
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from lsd_jax import evaluation, experiment, imaging, scoring
from lsd_jax.data import loader
from lsd_jax.data.chain import sample_chain
from lsd_jax.distill import artefact
from lsd_jax.evaluation import Sampler
from lsd_jax.metrics import bootstrap, chain, gen_ppl, ngram
from lsd_jax.progress import Progress
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.simulate import uniform_schedule

ORDERS = (1, 2, 3, 4)


@dataclasses.dataclass(frozen=True)
class Context:
    """What every cell of a run shares: network, held-out sequences, their many-step cost, and the scorer."""

    config: ml_collections.ConfigDict
    model: Any
    held_out: np.ndarray  # for the bound
    reference: np.ndarray  # for divergences
    many_step_nats: np.ndarray  # (n,) of held_out: the exact -log p on an oracle
    teacher: np.ndarray | None  # fresh sequences of the teacher, for path KL; on an oracle, the held-out ones
    teacher_nats: np.ndarray | None  # (n,) the teacher's own cost of them
    scorer: scoring.Scorer | None
    frechet: imaging.Frechet | None  # images


def make_context(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> Context:
    """Loads the test split, the network and the scorer, and computes the many-step cost of the held-out sequences.

    Without data (data.name "tokens" and no path) there are none: no bound and no divergences, but the path KL to the teacher.
    """
    backbone = experiment.backbone_of(config, workdir)
    reference = loader.load_split(config.data, "test")
    held_out = reference[: config.evaluation.held_out]
    if config.model.name == "oracle":
        many = -chain.exact_log_prob(held_out, *experiment.chain_of(config))
        teacher, teacher_nats = held_out, many
    else:
        process, key = experiment.process_of(config), cell_key(config, "many")
        batch = config.evaluation.batch_size
        many = np.zeros(0)
        if len(held_out):
            many = evaluation.many_step_nats(backbone.model, process, key, held_out, batch)
        teacher = teacher_nats = None
        if config.teacher.source == "samples":  # the law of a teacher of data is the data's: the gap says it all
            schedule = uniform_schedule(config.teacher.steps)
            kernel, coupling = get_kernel(config.student.kernel).stand_in, experiment.coupling_of(config)
            sampler = Sampler(process, kernel, coupling, schedule, config.data.sequence_length)
            teacher = evaluation.draw_samples(
                backbone.model, sampler, cell_key(config, "draw"), config.teacher.paths, batch
            )
            # The cells read the same key: a student of the teacher's coupling then reveals in the teacher's own order.
            teacher_nats = evaluation.bound_nats(backbone.model, sampler, cell_key(config, "path"), teacher, batch)
    scorer = scoring.load_scorer(config)
    return Context(
        config, backbone.model, held_out, reference, many, teacher, teacher_nats, scorer, imaging.frechet_of(config)
    )


def list_cells(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> dict[str, tuple[str, Sampler]]:
    """name -> (label, sampler) of every cell: students, Euler and Tweedie at equal NFE, tempered Euler, many steps."""
    process, length = experiment.process_of(config), config.data.sequence_length
    iid = Coupling("iid")
    base = lambda kernel, schedule: Sampler(process, get_kernel(kernel), iid, schedule, length)  # noqa: E731
    found = {}
    for steps in config.student.steps:
        record = artefact.read(workdir / "students" / f"M{steps}" / "student.json")
        schedule, coupling = artefact.schedule_of(record)
        student = Sampler(process, get_kernel(record["kernel"]), coupling, schedule, length)
        found[f"student_{steps}"] = ("LSD+ student (ours)", student)
        for kernel in ("euler", "ancestral" if process.name == "gaussian" else "tweedie"):
            found[f"{kernel}_{steps}"] = (kernel.capitalize(), base(kernel, uniform_schedule(steps)))
        for temperature in config.evaluation.temperatures:
            tempered = base("euler", uniform_schedule(steps, temperature))
            found[f"euler_T{temperature:g}_{steps}"] = (f"Euler, T={temperature:g}", tempered)
    many = config.evaluation.reference_steps
    found[f"euler_{many}"] = ("Euler", base("euler", uniform_schedule(many)))
    return found


def evaluate(config: ml_collections.ConfigDict, workdir: pathlib.Path, provenance: dict[str, Any]) -> None:
    """Evaluates every cell that has no record yet."""
    folder = workdir / "evaluation"
    todo = {name: cell for name, cell in list_cells(config, workdir).items() if not (folder / f"{name}.json").exists()}
    has_data = config.data.name != "tokens" or config.data.path
    data_done = not has_data or (folder / "data.json").exists()
    if not todo and data_done:
        logging.info("all cells are evaluated")
        return
    context = make_context(config, workdir)
    if context.scorer:
        provenance = provenance | {"scorer": context.scorer.identity}
    if context.frechet:
        provenance = provenance | {"features": context.frechet.network.name}
    if not data_done:
        tokens = data_samples(config)
        metrics = sample_metrics(context, tokens)
        bits = context.many_step_nats / config.data.sequence_length / np.log(2)
        if len(bits):
            metrics["bound_bits"] = bootstrap.mean_interval(bits)
        record = {"sampler": "data", "nfe": 0, "samples": len(tokens), "metrics": metrics, **provenance}
        if jax.process_index() == 0:
            artefact.write(folder / "data.json", record)
    # The work of a cell is its network evaluations: counted in them, the ETA holds from the first cell on.
    done, total = 0, sum(sampler.nfe for _, sampler in todo.values())
    progress = Progress("evaluate, network evaluations", total, every=0.0)
    for name, (label, sampler) in todo.items():
        began = time.monotonic()
        record = evaluate_cell(context, name, sampler, folder)
        record |= {"sampler": label, "seconds": round(time.monotonic() - began, 2), **provenance}
        if jax.process_index() == 0:
            artefact.write(folder / f"{name}.json", record)
        done += sampler.nfe
        progress(done, seconds=record["seconds"])


def evaluate_cell(context: Context, name: str, sampler: Sampler, folder: pathlib.Path) -> dict[str, Any]:
    """The record of one cell: samples, their metrics, the bound on held-out data; the samples go beside it as npz."""
    config, settings = context.config, context.config.evaluation
    key_draw, key_bound = jax.random.split(cell_key(config, name))
    keys = sequence_keys(key_draw, settings.num_samples)
    tokens, calls = evaluation.draw_and_count(context.model, sampler, keys, settings.batch_size)
    metrics = sample_metrics(context, tokens)
    metrics |= likelihood_metrics(context, sampler, bound_of(context, sampler, key_bound))
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / f"{name}.npz", tokens=tokens)
    return {
        "nfe": sampler.nfe,
        "calls": round(float(calls.mean()), 2),  # below nfe where a kernel skips some
        "steps": sampler.schedule.steps,
        "kernel": sampler.kernel.name,
        "coupling": dataclasses.asdict(sampler.coupling),
        "samples": len(tokens),
        "held_out": len(context.held_out),
        "metrics": metrics,
    }


def bound_of(context: Context, sampler: Sampler, key: jax.Array) -> np.ndarray | None:
    """The M-step bound (n,) of the held-out sequences or their exact cost, nats each; None where there is neither."""
    if not len(context.held_out) or not sampler.has_likelihood:
        return None
    batch = context.config.evaluation.batch_size
    return evaluation.bound_nats(context.model, sampler, key, context.held_out, batch)


def likelihood_metrics(context: Context, sampler: Sampler, nats: np.ndarray | None) -> dict[str, Any]:
    """name -> (mean, low, high) of the bound `nats` on held-out sequences and of the path KL, as far as there are any."""
    config, batch, metrics = context.config, context.config.evaluation.batch_size, {}
    if nats is not None:
        metrics["bound_bits"] = bootstrap.mean_interval(nats / sampler.length / np.log(2))
        # The same sequences' many-step cost is taken off one by one: most of their spread cancels.
        metrics["gap_nats"] = bootstrap.mean_interval(nats - context.many_step_nats)
    of_paths = sampler.has_likelihood and sampler.kernel.nll is None
    if of_paths and context.teacher is not None and len(context.teacher):
        if config.model.name != "oracle":  # there the held-out sequences are the teacher's law
            nats = evaluation.bound_nats(context.model, sampler, cell_key(config, "path"), context.teacher, batch)
        metrics["path_kl_nats"] = bootstrap.mean_interval(nats - context.teacher_nats)
    return metrics


def sample_metrics(context: Context, tokens: np.ndarray) -> dict[str, Any]:
    """name -> (value, low, high) of what samples alone can tell, with 95 % bootstrap intervals over sequences."""
    config = context.config
    vocab, often = config.data.vocab_size, int(config.evaluation.bootstrap)
    metrics = {"entropy_bits": bootstrap.mean_interval(ngram.unigram_entropy(tokens, vocab))}
    orders = ORDERS if config.data.name == "text" else (1, 2)
    for order in orders if len(context.reference) else ():
        reference = ngram.ngram_law(context.reference, order, vocab)
        for short, divergence in (("tv", ngram.total_variation), ("js", ngram.jensen_shannon)):
            statistic = lambda rows, n=order, ref=reference, d=divergence: d(ngram.ngram_law(rows, n, vocab), ref)  # noqa: E731
            metrics[f"{short}{order}"] = bootstrap.bootstrap_interval(statistic, tokens, resamples=30 * often)
    if context.scorer:
        scored = context.scorer(tokens, config.evaluation.batch_size)
        metrics["gen_ppl"] = bootstrap.bootstrap_interval(gen_ppl.perplexity, scored, resamples=1000 * often)
    if context.frechet:
        metrics["frechet"] = context.frechet(tokens)
    if config.data.name == "countdown":  # errors are those of its grammar
        for error in chain.countdown_errors(tokens[:1]):
            statistic = lambda rows, field=error: chain.countdown_errors(rows)[field]  # noqa: E731
            metrics[error] = bootstrap.bootstrap_interval(statistic, tokens, resamples=50 * often)
    if experiment.has_exact_chain(config):
        initial, transition = experiment.chain_of(config)
        kl = functools.partial(chain.transition_kl, transition=transition)
        metrics["transition_kl_nats"] = bootstrap.bootstrap_interval(kl, tokens, resamples=20 * often)
        tv = functools.partial(chain.transition_tv, initial=initial, transition=transition)
        metrics["transition_tv"] = bootstrap.bootstrap_interval(tv, tokens, resamples=20 * often)
    return metrics


def data_samples(config: ml_collections.ConfigDict) -> np.ndarray:
    """As many real sequences as a cell draws: fresh draws of the chain, or validation text (the test split is the
    reference)."""
    count = config.evaluation.num_samples
    if experiment.has_exact_chain(config):
        rng = np.random.default_rng([config.seed, 7])
        return sample_chain(rng, *experiment.chain_of(config), count, config.data.sequence_length)
    return loader.load_split(config.data, "validation")[:count]


def read_rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Every record of a run, metrics flattened in, sorted by sampler and NFE."""
    rows = []
    for file in sorted((workdir / "evaluation").glob("*.json")):
        record = json.loads(file.read_text())
        metrics = {name: tuple(value) for name, value in record.pop("metrics").items()}
        rows.append({**record, **metrics, "cell": file.stem})
    return sorted(rows, key=lambda row: (row["nfe"], row["sampler"]))


def cell_key(config: ml_collections.ConfigDict, name: str) -> jax.Array:
    """A key of a cell's own, from its name."""
    digest = sum(ord(letter) * 257**index for index, letter in enumerate(name)) % 2**31
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 2), digest)
