"""The report of a study as a user meets it: which parts it has, by what its rows hold."""

import json
import types

import numpy as np
import pytest

from lsd_jax.experiment.records import DATA, EXACT, slug
from lsd_jax.experiment.report.page import ReportSettings, build
from lsd_jax.metrics.metric import Column

OURS = "path-KL student"
LENGTH = 16
COUPLING = {"name": "low_discrepancy", "generator": "golden"}


def make_task(images=False):
    columns = (
        Column("tv3", "3-gram TV", best=0.0),
        Column("energy_p", "p of the energy distance", shown=False),
        Column("entropy_bits", "entropy, bits", short="entropy"),
    )
    return types.SimpleNamespace(
        columns=columns,
        primary="tv3",
        vocab_size=26,
        shape=(1, 4, 4) if images else (),
        token_name=lambda token: chr(ord("a") + token),
        decode=lambda tokens: "".join(chr(ord("a") + int(token)) for token in tokens),
        images=lambda tokens: (tokens.reshape(-1, 4, 4, 1) * 9).astype(np.uint8) if images else None,
        drawing=lambda tokens: "" if images else f"<svg><text>{len(tokens)}</text></svg>",
        properties=lambda tokens: {"mean": tokens.mean(1), "first": tokens[:, 0]} if images else {},
    )


def make_row(workdir, sampler, budget, seed=0, task="text", nfe=None, **more):
    """A row, and its samples and bounds on disk."""
    rng = np.random.default_rng([budget % 1000, seed, len(sampler)])
    error = 0.1 + (0.5 if sampler == OURS else 1) / (budget or (EXACT if sampler == DATA else 1)) + 0.01 * rng.random()
    stem = f"{slug(task)}__{slug(sampler)}__{budget}__{seed}"
    (workdir / "cells").mkdir(parents=True, exist_ok=True)
    bound = {"nll_nats": 10 * error + rng.normal(size=16)} if budget else {}
    np.savez(workdir / "cells" / f"{stem}.npz", tokens=rng.integers(0, 26, (16, LENGTH)), **bound)
    metrics = {"tv3": (error, error - 0.01, error + 0.01), "energy_p": (0.5,) * 3, "entropy_bits": (4 - error,) * 3}
    if budget:
        metrics |= {"nll_bits": (1.9 + error,) * 3, "bound_bits": (2 + error,) * 3, "gap_nats": (error,) * 3}
        metrics |= {"paths": 16, "exact_likelihood": False}
    if budget and sampler != OURS:
        metrics["nll_quarter_bits"] = (2.1 + error,) * 3  # a check of the column before it, which no figure draws
    run = {"seed": seed, "command": "main --config=x", "revision": "abc", "precision": "float32"}
    cell = {"task": task, "sampler": sampler, "budget": budget, "stem": stem, "nfe": float(nfe or budget % EXACT)}
    return {**cell, **run, "steps": budget, "length": LENGTH, "samples": 16, **metrics, **more}


def make_student(steps, **changes):
    times = (1 - np.linspace(0, 1, steps + 1) ** 2).tolist()
    start = {"coefficients": [1.0] * steps, "temperatures": [1.0] * steps}
    return {"time_grid": times, **start, "coupling": COUPLING, "metrics": {}, **changes}


def plain_rows(workdir, seed=0):
    rows = [make_row(workdir, DATA, 0, seed, best={"tv3": 0.0}, floor={"tv3": (0.1, 0.09, 0.11)})]
    for steps in (4, 8):
        rows += [
            make_row(workdir, OURS, steps, seed, student=make_student(steps)),
            make_row(workdir, "Euler", steps, seed),
        ]
    return rows


def save_teacher(folder, mask):
    states = np.full((1, 9, LENGTH), mask)
    for k in range(9):
        states[0, k, : 2 * k] = 1
    folder.mkdir(parents=True)
    np.savez(folder / "paths.npz", states=states, time_grid=np.linspace(1, 0, 9))


def names(workdir):
    return {file.name for file in (workdir / "report").iterdir()}


def test_a_plain_run_has_tables_figures_and_samples(tmp_path):
    save_teacher(tmp_path / "teacher" / "key", mask=26)
    settings = ReportSettings()
    printed = build(tmp_path, {"text": make_task()}, plain_rows(tmp_path), settings, "A & B")
    assert names(tmp_path) == {
        *("index.html", "tables.md", "metrics.json", "trajectory.png", "schedules_path_kl_student.png"),
        *("nll_bits_nfe.png", "bound_bits_nfe.png", "tv3_nfe.png", "entropy_bits_nfe.png"),
    }
    page = (tmp_path / "report" / "index.html").read_text()
    for part in (
        "A &amp; B",
        "samples per cell: 16.",
        "Command: main --config=x (seed 0; revision abc; precision float32).",
    ):
        assert part in page
    assert (
        "importance-weighted over K = 16 paths" in page
        and "As they started, and not drawn: coefficients and temperatures." in page
    )
    assert "energy distance" not in page and "Mean ranks" not in page and "temperature sweep" not in page
    headings = [part.split("</h2>")[0] for part in page.split("<h2>")[1:]]
    assert headings == ["What this is", "Results", "Figures", "Against each rival", "Samples"]
    assert page.count("<pre>") == 3 * 5 and page.count("<figure><svg>") == 5
    table = (tmp_path / "report" / "tables.md").read_text()
    assert "| floor | – |" in table and "| path-KL student | 4 |" in table and "| path-KL student against |" in table
    lines = printed.splitlines()
    assert lines[1].split()[:2] == ["sampler", "NFE"] and "[" not in printed and lines[3].startswith("floor")
    samples = [line for line in lines if line.startswith(f"{OURS}, NFE ")]
    assert len(samples) == 2 and len(samples[0].split(": ")[1]) == LENGTH
    assert lines[-1] == f"report: {tmp_path / 'report' / 'index.html'}"
    rows = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert len(rows) == 5 and rows[1]["tv3"][1] < rows[1]["tv3"][0] and rows[1]["student"]["coupling"] == COUPLING


def test_with_several_seeds_rows_are_means_and_no_samples_are_shown(tmp_path):
    rows = [row for seed in (0, 1, 2) for row in plain_rows(tmp_path, seed)]
    printed = build(tmp_path, {"text": make_task()}, rows, ReportSettings(), "study")
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert len(summary) == 5 and {row["seeds"] for row in summary} == {3}
    middle, low, high = next(row["tv3"] for row in summary if row["sampler"] == "Euler")
    assert low < middle < high and middle - low == pytest.approx(high - middle)
    page = (tmp_path / "report" / "index.html").read_text()
    assert "Mean and 95 % interval over seeds." in page and "<pre>" not in page and "seeds 0, 1, 2;" in page
    assert OURS in printed and "NFE 4:" not in printed
    assert len(json.loads((tmp_path / "report" / "metrics.json").read_text())) == 15
    assert "| seeds |" not in (tmp_path / "report" / "tables.md").read_text()
    build(tmp_path, {"text": make_task()}, rows[:-1], ReportSettings(), "study")
    assert "| seeds |" in (tmp_path / "report" / "tables.md").read_text()


def test_many_samplers_on_several_tasks_are_ranked(tmp_path):
    tasks, rows = {"one, x": make_task(), "two": make_task()}, []
    for task in tasks:
        for row in plain_rows(tmp_path):
            rows.append({**row, "task": task})
        rows += [make_row(tmp_path, f"rival {k}", steps, task=task) for k in range(6) for steps in (4, 8)]
        rows.append(make_row(tmp_path, "periodic", 0, task=task))
        rows.append(make_row(tmp_path, "exact", EXACT, task=task, nfe=31.4))
    rows = [row | {"seconds_per_sequence": 0.001 * row["nfe"]} if row["budget"] else row for row in rows]
    printed = build(tmp_path, tasks, rows, ReportSettings(figure_samplers=(OURS, "Euler")), "benchmark")
    assert {"quality_nfe.png", "quality_time.png", "quality_diversity.png"} <= names(tmp_path)
    assert {"schedules_path_kl_student_one_x.png", "schedules_path_kl_student_two.png"} <= names(tmp_path)
    first = printed.splitlines()
    assert first[0] == "Mean ranks" and first[1].split() == ["sampler", "tasks", "NFE", "4", "NFE", "8"]
    assert first[3].startswith(OURS) and first[12].split()[:2] == ["exact", "2"]
    assert {"Euler", "periodic"} <= {line.split()[0] for line in first[4:12]}
    page = (tmp_path / "report" / "index.html").read_text()
    headings = [part.split("</h2>")[0] for part in page.split("<h2>")[1:]]
    assert headings[1:4] == ["Mean ranks", "Figures", "Results: one, x"] and "Samples: two" in headings


def test_a_budget_at_which_nothing_is_compared_has_no_ranks(tmp_path):
    rows = plain_rows(tmp_path) + [make_row(tmp_path, f"rival {k}", steps) for k in range(12) for steps in (4, 8)]
    printed = build(
        tmp_path, {"text": make_task()}, [*rows, make_row(tmp_path, "many steps", 128)], ReportSettings(), "t"
    )
    assert printed.splitlines()[1].split() == ["sampler", "NFE", "4", "NFE", "8"]


def test_a_long_table_is_split_by_budget_and_each_part_begins_with_the_floor(tmp_path):
    rows = plain_rows(tmp_path) + [make_row(tmp_path, f"rival {k}", steps) for k in range(12) for steps in (4, 8)]
    printed = build(tmp_path, {"text": make_task()}, rows, ReportSettings(), "long")
    table = (tmp_path / "report" / "tables.md").read_text()
    assert "**4 network calls**" in table and "**8 network calls**" in table and "no network" not in table
    assert table.count("| floor |") == 2 == table.count("| real data |") and "Results (8 network calls)" in printed


def test_a_kl_mix_is_held_against_a_temperature_sweep(tmp_path):
    members = (OURS, "KL mix 0.5", "Euler", "Euler, T=0.8")
    rows = plain_rows(tmp_path) + [make_row(tmp_path, name, 4) for name in members[1::2]]
    settings = ReportSettings(frontier_steps=(4, 8), frontier_mix=members[:2], frontier_temperatures=members[2:])
    build(tmp_path, {"text": make_task()}, rows, settings, "ablation")
    assert "frontier.png" in names(tmp_path)
    table = (tmp_path / "report" / "tables.md").read_text()
    control = table.split("## Against a temperature sweep")[1]
    assert "temperature sweep at this entropy" in control and "| KL mix 0.5 | 4 |" in control
    assert "−log p" in control and "| Euler |" not in control


def test_images_are_drawn_and_not_printed(tmp_path):
    order = make_student(4, coupling={"name": "low_discrepancy", "generator": "r2", "shape": [4, 4]})
    rows = [*plain_rows(tmp_path)[:1], make_row(tmp_path, OURS, 4, student=order)]
    printed = build(
        tmp_path, {"digits": make_task(images=True)}, [row | {"task": "digits"} for row in rows], ReportSettings(), "t"
    )
    assert {"images.png", "schedules_path_kl_student.png", "properties.png"} <= names(tmp_path)
    assert "NFE 4:" not in printed
    text = (tmp_path / "report" / "index.html").read_text()
    assert "<pre>" not in text and "<svg>" not in text


def test_what_says_nothing_is_left_out(tmp_path):
    save_teacher(tmp_path / "teacher", mask=25)  # a teacher that does not start from masks
    idle = {"time_grid": [1, 0.75, 0.5, 0.25, 0], "coupling": {"name": "iid"}}
    rows = [make_row(tmp_path, OURS, 4, student=make_student(4, **idle), path_kl_nats=(0.3, 0.3, 0.3))]
    rows[0]["gap_nats"] = rows[0]["path_kl_nats"]  # an exact network
    build(tmp_path, {"text": make_task()}, rows, ReportSettings(), "idle")
    assert not any(name.startswith(("trajectory", "schedules", "gap_nats")) for name in names(tmp_path))
    assert "path_kl_nats_nfe.png" in names(tmp_path)
    assert "continuous-time" not in (tmp_path / "report" / "tables.md").read_text()


def test_report_needs_cells(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^workdir=.*no evaluated cells; run --stage=evaluate"):
        build(tmp_path, {}, [], ReportSettings(), "none")
