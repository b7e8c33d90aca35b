"""A study as a user meets it: tasks, samplers, budgets, seeds, resuming, tables; and the shipped studies."""

import json

import numpy as np
import pytest

from lsd_jax.configs import (
    ablation_countdown,
    ablation_potentials,
    ablation_text,
    ablation_uniform,
    ablation_uniform_potentials,
    benchmark,
)
from lsd_jax.configs.common import variant
from lsd_jax.experiment import check, stages
from lsd_jax.experiment.entries import Entry, resolve
from lsd_jax.experiment.records import EXACT, read_rows
from lsd_jax.experiment.study import Study
from lsd_jax.samplers.registry import SAMPLERS
from tests.experiment.tiny import TINY, tiny

ABLATIONS = [ablation_countdown, ablation_potentials, ablation_text, ablation_uniform, ablation_uniform_potentials]
NAMES = (
    "path-KL student",
    "Euler",
    "theta-trapezoidal",
    "MaskGIT",
    "first-hitting (exact)",
    "uniformization (exact)",
)


def tiny_ablation(config, names, **changes):
    config.update_from_flattened_dict({**TINY, "distill.steps": 0, **changes})
    config.seeds = (0, 1)
    chosen = [Entry(*entry) for entry in config.samplers if entry[0] in names]
    assert len(chosen) == len(names)
    short = {"distill.steps": 10, "distill.batch_size": 8, "student.order_trials": 5}
    short["student.steps"] = changes.get("student.steps", TINY["student.steps"])
    config.samplers = tuple(
        (name, tuple({**dict(own), **{k: v for k, v in short.items() if dict(own).get(k, 1)}}.items()), stream)
        for name, own, stream in chosen
    )
    if config.report.ours not in names:
        config.report.ours = names[-1]
    return config


def tiny_benchmark(tasks=("toy, absorbing",), names=NAMES, nfe=(4,)):
    config = benchmark.get_config()
    config.cpu_devices = 0
    small = {"teacher__paths": 16, "evaluation__num_samples": 1024}
    config.tasks = tuple(variant(name, **{**benchmark.TASKS[name], **small}) for name in tasks)
    config.samplers = tuple(entry for entry in config.samplers if entry[0] in names)
    config.nfe, config.student.grid_points = nfe, 16
    config.evaluation.update({"held_out": 16, "resamples": 20, "floor_draws": 4})
    return config


@pytest.mark.slow
def test_every_variant_and_seed_has_a_record_and_a_second_start_changes_nothing(tmp_path, capsys):
    names = ["Euler", "KL mix 0.5"]
    config = tiny_ablation(ablation_countdown.get_config(), names, **{"student.steps": (4,)})
    config.report.frontier_mix, config.report.frontier_temperatures = ("KL mix 0.5",), ("Euler",)
    config.report.frontier_steps, run = (4,), tmp_path / "run"
    stages.run(config, run, "all", command="test")
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    cells = sorted((run / "cells").glob("*.json"))
    assert len(cells) == len(names) * 2 + 1  # and the data's own
    record = json.loads(next((run / "cells").glob("*kl_mix_0.5__4__seed1.json")).read_text())
    assert record["nfe"] == 4 and record["seed"] == 1 and record["command"] == "test" and record["samples"] == 64
    assert (run / "students" / "seed1" / "M4" / "student.json").exists()
    before = cells[0].read_text()
    cells[1].unlink()
    stages.run(config, run, "all", command="test")
    assert cells[0].read_text() == before and cells[1].exists()
    tables = (run / "report" / "tables.md").read_text()
    assert "| Euler | 4 |" in tables and "temperature sweep at this entropy" in tables


@pytest.mark.slow
def test_the_uniform_process_runs_every_kind_of_objective(tmp_path, capsys):
    names = ["Tweedie", "LSD+ (Eq. 8), summed", "grid: optimal, refined"]
    names.append("grid: optimal, fresh low-discrepancy shifts")
    config = tiny_ablation(ablation_uniform.get_config(), names, **{"student.steps": (3,)})
    config.seeds = (0,)
    stages.run(config, tmp_path / "run", "all", command="test")
    assert "path KL" in capsys.readouterr().out
    rows = {row["sampler"]: row for row in read_rows(tmp_path / "run" / "cells")}
    # 64 sequences: a rough comparison.
    assert rows["grid: optimal, refined"]["path_kl_nats"][0] < 1.5 * rows["Tweedie"]["path_kl_nats"][0]
    assert "path_kl_nats" not in rows["grid: optimal, fresh low-discrepancy shifts"]


@pytest.mark.slow
def test_potentials_under_uniform_noise_search_the_grid_again(tmp_path):
    free = ablation_uniform_potentials.FREE
    changes = {"student.steps": (2,), "data.sequence_length": 12}
    config = tiny_ablation(ablation_uniform_potentials.get_config(), ["Tweedie", free], **changes)
    config.seeds, config.evaluation.held_out = (0,), 256
    config.samplers = tuple(
        (name, (*own, ("student.potentials", 128)) if name == free else own, stream)
        for name, own, stream in config.samplers
    )
    stages.run(config, tmp_path / "run", "all", command="test")
    rows = {row["sampler"]: row for row in read_rows(tmp_path / "run" / "cells")}
    assert rows[free]["path_kl_nats"][0] < 0.7 * rows["Tweedie"]["path_kl_nats"][0]
    metrics = rows[free]["student"]["metrics"]
    assert metrics["potential_nats"] < metrics["independent_nats"] and rows[free]["nfe"] == 2


@pytest.mark.parametrize("module", ABLATIONS, ids=lambda module: module.__name__)
def test_every_sampler_of_the_shipped_ablations_is_a_valid_experiment(module, tmp_path):
    config = module.get_config()
    config.cpu_devices = 0
    study = Study(config, tmp_path, {})
    check.check_study(config, "all", tmp_path, study.entries)
    stems = [cell.stem for cell in study.cells()]
    assert len(set(stems)) == len(stems)
    chosen = config.report
    members = (*chosen.figure_samplers, *chosen.frontier_mix, *chosen.frontier_temperatures, chosen.ours)
    assert set(members) <= {entry.name for entry in study.samplers}


def test_an_entry_with_steps_of_its_own_keeps_them_under_other_budgets(tmp_path):
    config = tiny(nfe=(3, 5))
    euler = [cell.steps for cell in Study(config, tmp_path, {}).cells() if cell.sampler == "Euler"]
    assert euler == [3, 5, config.evaluation.reference_steps]
    many = variant("many", student__kernel="euler", student__steps=(32, 64))
    config.samplers = (variant("ours"), many)
    config.report.ours = "ours"
    for nfe in ((3, 5), ()):
        config.nfe = nfe
        cells = [(cell.sampler, cell.budget, cell.steps) for cell in Study(config, tmp_path, {}).cells() if cell.steps]
        few = [("ours", steps, steps) for steps in nfe or TINY["student.steps"]]
        assert cells == [*few, ("many", 32, 32), ("many", 64, 64)]


def test_an_entry_that_changes_a_field_that_does_not_exist_is_named(tmp_path):
    config = ablation_countdown.get_config()
    config.samplers = (variant("odd", student__gird="uniform"),)
    with pytest.raises(ValueError, match="odd.*gird"):
        stages.run(config, tmp_path / "run", "all", command="test")


def test_every_cell_of_a_benchmark_has_a_record_and_a_second_start_changes_nothing(tmp_path, capsys):
    config, run = tiny_benchmark(), tmp_path / "run"
    stages.run(config, run, "all", command="test")
    printed = capsys.readouterr().out
    cells = {cell.stem: cell for cell in Study(config, run, {}).cells()}
    assert {file.stem for file in (run / "cells").glob("*.json")} == set(cells)
    assert {cell.sampler for cell in cells.values()} == {"real data", *NAMES} - {"uniformization (exact)"}
    assert all(cell.sampler in printed for cell in cells.values())
    rows = {row["sampler"]: row for row in json.loads((run / "report" / "metrics.json").read_text())}
    assert rows["theta-trapezoidal"]["nfe"] == 3 and rows["Euler"]["nfe"] == 4  # what 4 calls pay for
    assert rows["first-hitting (exact)"]["nfe"] == 2 and rows["first-hitting (exact)"]["budget"] == EXACT
    for row in rows.values():
        assert row["command"] == "test" and row["seed"] == 0 and row["samples"] == 1024 and row["seconds"] >= 0
    floor = rows["real data"]["floor"]["exact_tv"][2]
    assert rows["first-hitting (exact)"]["exact_tv"][0] < 1.3 * floor < rows["Euler"]["exact_tv"][0]

    stem = next(stem for stem, cell in cells.items() if cell.sampler == "Euler")
    kept = np.load(run / "cells" / f"{stem}.npz")["tokens"]
    before = {file.name: file.read_text() for file in (run / "cells").glob("*.json")}
    (run / "cells" / f"{stem}.json").unlink()
    stages.run(config, run, "all", command="test")
    after = {file.name: file.read_text() for file in (run / "cells").glob("*.json")}
    assert after.keys() == before.keys() and {name for name in after if after[name] != before[name]} <= {f"{stem}.json"}
    np.testing.assert_array_equal(np.load(run / "cells" / f"{stem}.npz")["tokens"], kept)


def test_adaptive_samplers_are_compared_at_an_equal_mean(tmp_path):
    config = tiny_benchmark(names=("entropy bound",), nfe=(5,))
    config.report.update({"ours": "entropy bound", "figure_samplers": ()})
    config.tasks = (variant("countdown", data__name="countdown", data__vocab_size=8, data__sequence_length=24),)
    stages.run(config, tmp_path / "run", "all", command="test")
    row = next(row for row in json.loads((tmp_path / "run" / "report" / "metrics.json").read_text()) if row["budget"])
    assert abs(row["nfe"] - 5) < 0.5 and row["nfe"] < row["nfe_95"] <= 20 and row["exact_likelihood"]
    assert 0 < row["threshold"] < 24 * np.log(8)


def test_every_registered_sampler_is_in_the_benchmark_and_every_cell_is_a_valid_experiment(tmp_path):
    for name in ("", "seeds", "full"):
        config = benchmark.get_config(name)
        study = Study(config, tmp_path, {})
        check.check_study(config, "all", tmp_path, study.entries)
        stems = [cell.stem for cell in study.cells()]
        assert len(stems) == len(set(stems))
    used = {dict(entry.changes).get("student.kernel") for entry in study.samplers}
    assert used >= set(SAMPLERS)
    names = {entry.name for entry in study.samplers}
    assert config.report.ours in names and set(config.report.figure_samplers) <= names


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="full"):
        benchmark.get_config("half")
    with pytest.raises(ValueError, match=r"config\.nfe"):
        stages.run(tiny_benchmark(nfe=(0,)), tmp_path / "run", "all", command="test")
    config = tiny_benchmark()
    config.samplers = (variant("odd", student__kernel="heun"),)
    with pytest.raises(ValueError, match=r"config\.student\.kernel='heun'"):
        stages.run(config, tmp_path / "run", "all", command="test")


@pytest.mark.slow
def test_images_can_be_ablated_like_any_other_task(tmp_path):
    from lsd_jax.configs import cifar10

    config = cifar10.get_config("tiny")
    config.update_from_flattened_dict(
        {
            "distill.steps": 0,
            "evaluation.num_samples": 32,
            "evaluation.batch_size": 32,
            "evaluation.held_out": 8,
            "evaluation.features": "",
            "evaluation.resamples": 0,
        }
    )
    plain = {"student__grid": "uniform", "student__steps": (2,)}
    config.samplers = (variant("ancestral", **plain), variant("Euler", **plain, student__kernel="euler"))
    config.report.ours = "ancestral"
    stages.run(config, tmp_path / "run", "evaluate", command="test")
    rows = {row["sampler"]: row for row in read_rows(tmp_path / "run" / "cells")}
    assert set(rows) == {"real data", "ancestral", "Euler"} and rows["ancestral"]["tv2"][0] < rows["Euler"]["tv2"][0]


def test_a_renamed_entry_keeps_its_random_stream(tmp_path):
    config = ablation_countdown.get_config()
    study = Study(config, tmp_path, {})
    cell = next(cell for cell in study.cells() if cell.sampler == "KL mix 0.5" and cell.steps == 8 and cell.seed == 1)
    assert study._stream(cell) == "dial_0.5_M8_seed1"
    assert resolve(config, study.samplers[0]).student.kernel == "euler"
