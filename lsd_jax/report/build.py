"""Assembles a run's report: tables, figures, samples, one HTML page and one JSON file, from records on disk alone."""

import json
import pathlib
from typing import Any

import ml_collections
import numpy as np

from lsd_jax import cells, experiment
from lsd_jax.data import alphabet
from lsd_jax.data.decode import decoder
from lsd_jax.data.images import to_image
from lsd_jax.distill import artefact
from lsd_jax.report import figures, html, tables

_COLUMNS = [
    ("sampler", "sampler", "{}"),
    ("nfe", "NFE", "{}"),
    ("bound_bits", "M-step bound, bits/token", "{:.3f}"),
    ("gap_nats", "above many-step, nats/seq", "{:.2f}"),
    ("path_kl_nats", "path KL to the teacher, nats/seq", "{:.2f}"),
    ("wrong_per_transition", "token error", "{:.4f}"),
    ("wrong_jys_count", "error (JYS count)", "{:.4f}"),
    ("sequences_with_violation", "sequences wrong", "{:.3f}"),
    ("transition_kl_nats", "transition KL", "{:.4f}"),
    ("transition_tv", "bigram TV", "{:.4f}"),
    ("tv1", "1-gram TV", "{:.3f}"),
    ("tv2", "2-gram TV", "{:.3f}"),
    ("tv3", "3-gram TV", "{:.3f}"),
    ("tv4", "4-gram TV", "{:.3f}"),
    ("entropy_bits", "entropy, bits", "{:.3f}"),
    ("gen_ppl", "gen-PPL (our scorer)", "{:.2f}"),
    ("frechet", "Frechet distance", "{:.3f}"),
]
_FIGURES = [
    ("bound_bits", "M-step bound on held-out data, bits a token"),
    ("wrong_per_transition", "token error"),
    ("transition_tv", "bigram TV from the exact law"),
    ("tv3", "3-gram TV from held-out text"),
    ("gen_ppl", "gen-PPL under the autoregressive scorer"),
    ("frechet", "Frechet distance from the training images"),
    ("entropy_bits", "unigram entropy of a sequence, bits"),
]


def build_report(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> str:
    """Writes report/ (index.html, metrics.json, PNG figures) and returns the table and samples for the terminal.

    Raises:
        FileNotFoundError: nothing has been evaluated yet.
    """
    rows = cells.read_rows(workdir)
    if not rows:
        raise FileNotFoundError(f"{str(workdir)!r} holds no evaluated cells: run --stage=evaluate first")
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    present = [name for name, _ in _FIGURES if any(name in row for row in rows)]
    columns = [column for column in _COLUMNS if any(column[0] in row for row in rows)]
    # On a known chain the exact law says all that n-grams and the gap (the path KL, there) would.
    hidden = ("tv1", "tv2", "gap_nats") if experiment.has_exact_chain(config) else ()
    columns = [column for column in columns if column[0] not in hidden]
    if config.evaluation.protocol:
        columns = [_gpt2_column(config) if column[0] == "gen_ppl" else column for column in columns]
    images = [_quality(rows, metric, label, folder) for metric, label in _FIGURES if metric in present]
    records = read_students(config, workdir)
    images.append(html.Image(figures.save(figures.schedules(records), folder, "schedules"), "Learned schedules."))
    images += _trajectory(config, workdir, folder)
    images += _image_samples(config, workdir, folder, rows)
    texts = {f"{row['sampler']}, NFE {row['nfe']}": _first_samples(config, workdir, row) for row in rows}
    first = rows[0]
    sections = [
        html.Section("What this is", [html.Text(_summary(config, rows)), html.Text(_provenance(first))]),
        html.Section("Results", [html.Table(rows, columns, "Mean or value with its 95 % interval.")]),
        html.Section("Figures", images),
        html.Section("Samples", [html.Samples({name: lines for name, lines in texts.items() if lines})]),
    ]
    html.write_report(folder / "index.html", f"lsd_jax: {config.data.name}", sections)
    artefact.write(folder / "metrics.json", rows)
    shown = _terminal_columns(columns)
    lines = [tables.text_table([_values_only(row) for row in rows], shown), ""]
    for name, samples in texts.items():
        if name.startswith("LSD+") and samples:
            lines.append(f"{name}: {samples[0]}")
    lines += ["", f"report: {folder / 'index.html'}"]
    return "\n".join(lines)


def _gpt2_column(config):
    return "gen_ppl", f"gen-PPL ({config.evaluation.scorer}, {config.evaluation.protocol})", "{:.2f}"


def read_students(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> dict[int, dict[str, Any]]:
    """The student.json records of a run by M."""
    return {
        steps: json.loads((workdir / "students" / f"M{steps}" / "student.json").read_text())
        for steps in config.student.steps
    }


def _quality(rows, metric: str, label: str, folder: pathlib.Path) -> html.Image:
    drawn = [row for row in rows if row["nfe"] and metric in row]
    data = next((row for row in rows if row["sampler"] == "data"), {})
    name = "many-step limit" if metric == "bound_bits" else "real data"
    lines = {name: data[metric][0]} if metric in data else None
    figure = figures.quality_against_nfe(drawn, metric, label, lines)
    return html.Image(figures.save(figure, folder, f"{metric}_against_nfe"), f"{label}, against true NFE.")


def _trajectory(config, workdir: pathlib.Path, folder: pathlib.Path) -> list[html.Image]:
    files = sorted((workdir / "teacher").glob("*.npz"))
    letters = config.data.vocab_size < 100  # longer names of tokens would not fit their cells
    if config.process.name != "absorbing" or not files or not letters:
        return []
    with np.load(files[0]) as saved:
        states, grid = saved["states"][0], saved["time_grid"]
    index = np.linspace(0, len(grid) - 1, 12).round().astype(int)
    decode = (lambda token: alphabet.SYMBOLS[token]) if config.data.name in alphabet.DATASETS else str
    figure = figures.trajectory(states[index], decode, config.data.vocab_size, grid[index])
    return [html.Image(figures.save(figure, folder, "trajectory"), "A teacher path being revealed.")]


def _image_samples(config, workdir: pathlib.Path, folder: pathlib.Path, rows) -> list[html.Image]:
    if not config.data.shape:
        return []
    found = {}
    for row in rows:
        file = workdir / "evaluation" / f"{row['cell']}.npz"
        if file.exists():
            with np.load(file) as saved:
                tokens = saved["tokens"][:12]
            shown = to_image(tokens, tuple(config.data.shape), config.data.vocab_size)
            found[f"{row['sampler']}, NFE {row['nfe']}"] = shown
    path = figures.save(figures.image_rows(found), folder, "images")
    return [html.Image(path, "The first samples of every sampler.")]


def _first_samples(config, workdir: pathlib.Path, row: dict[str, Any], count: int = 3) -> list[str]:
    file = workdir / "evaluation" / f"{row['cell']}.npz"
    if not file.exists() or config.data.shape:
        return []
    with np.load(file) as saved:
        tokens = saved["tokens"][:count]
    return list(map(decoder(config.data), tokens))


def _terminal_columns(columns):
    short = {
        "bound_bits": "bound",
        "gap_nats": "gap nats",
        "path_kl_nats": "path KL",
        "wrong_jys_count": "JYS error",
        "sequences_with_violation": "seq. wrong",
        "entropy_bits": "entropy",
        "gen_ppl": "gen-PPL",
        "frechet": "Frechet",
    }
    return [(name, short.get(name, heading), form) for name, heading, form in columns]


def _values_only(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value[0] if isinstance(value, tuple) else value for name, value in row.items()}


def _summary(config, rows) -> str:
    return (
        f"Samplers of one frozen {config.process.name} diffusion model on {config.data.name}, "
        f"{config.data.sequence_length} tokens a sequence, at equal true numbers of network evaluations (NFE). "
        "The M-step bound is a bound on the log-likelihood of the few-step sampler itself on held-out data: a proper "
        "score, which no temperature lowers below the truth; it comes first. Gen-PPL falls with repetition: read it "
        f"only beside entropy and divergences. Samples a cell: {max(row['samples'] for row in rows)}."
        + _feature_note(config, rows[0])
    )


def _feature_note(config, row) -> str:
    if "features" not in row:
        return ""
    reference = config.evaluation.feature_statistics or "the training split"
    return (
        f" The Frechet distance is in the features of {row['features']}, from {reference}: it compares with no number of "
        "another network, reference or sample size."
    )


def _provenance(row: dict[str, Any]) -> str:
    return f"Command: {row['command']} (seed {row['seed']}, revision {row['revision']}, {row['precision']})."
