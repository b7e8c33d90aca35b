"""A benchmark as a user meets it: cells, resuming, tables and figures, the ranking, and bad input."""

import json

import numpy as np
import pytest

from configs import benchmark as config_file
from lsd_jax import ablation, benchmark, workflow
from lsd_jax.report.benchmark import EXACT
from lsd_jax.samplers import EVENT_SAMPLERS, KERNELS

NAMES = (
    "LSD+ student (ours)",
    "Euler",
    "theta-trapezoidal",
    "MaskGIT",
    "first-hitting (exact)",
    "uniformization (exact)",
)


def tiny(tasks=("toy, absorbing",), names=NAMES, nfe=(4,)):
    config = config_file.get_config()
    config.cpu_devices = 0
    everything = {name: entry for name, entry in config_file.TASKS.items()}
    config.tasks = tuple(ablation.variant(name, **everything[name]) for name in tasks)
    config.tasks = tuple(
        (name, (*changes, ("teacher.paths", 16), ("evaluation.num_samples", 1024))) for name, changes in config.tasks
    )
    config.samplers = tuple(entry for entry in config.samplers if entry[0] in names)
    config.nfe, config.student.grid_points, config.evaluation.held_out, config.evaluation.resamples = nfe, 16, 16, 20
    return config


def test_every_cell_has_a_record_and_a_second_start_changes_nothing(tmp_path, capsys):
    config, run = tiny(), tmp_path / "run"
    workflow.run(config, run, "all", command="test")
    printed = capsys.readouterr().out
    cells = {cell.stem: cell for cell in benchmark.list_cells(config)}
    assert {file.stem for file in (run / "cells").glob("*.json")} == set(cells)
    assert {cell.sampler for cell in cells.values()} == {"real data", *NAMES} - {"uniformization (exact)"}
    assert all(cell.sampler in printed for cell in cells.values())
    rows = {row["sampler"]: row for row in json.loads((run / "report" / "rows.json").read_text())}
    assert rows["theta-trapezoidal"]["nfe"] == 3 and rows["Euler"]["nfe"] == 4  # what 4 calls pay for
    assert rows["first-hitting (exact)"]["nfe"] == 2 and rows["first-hitting (exact)"]["budget"] == EXACT
    for row in rows.values():
        assert row["command"] == "test" and row["seed"] == 0 and row["samples"] == 1024 and row["seconds"] >= 0
    assert rows["LSD+ student (ours)"]["rank"] < rows["Euler"]["rank"]
    assert rows["first-hitting (exact)"]["exact_tv"][0] < 1.3 * rows["real data"]["floor"]["exact_tv"][2]
    assert rows["Euler"]["exact_tv"][0] > 1.3 * rows["real data"]["floor"]["exact_tv"][2]
    for name in ("quality_nfe", "quality_time", "quality_diversity"):
        assert (run / "report" / f"{name}.png").stat().st_size > 10_000
    assert "| floor |" in (run / "report" / "tables.md").read_text()

    stem = next(stem for stem, cell in cells.items() if cell.sampler == "Euler")
    kept = np.load(run / "cells" / f"{stem}.npz")["tokens"]
    before = {file.name: file.read_text() for file in (run / "cells").glob("*.json")}
    (run / "cells" / f"{stem}.json").unlink()
    workflow.run(config, run, "all", command="test")
    after = {file.name: file.read_text() for file in (run / "cells").glob("*.json")}
    assert after.keys() == before.keys() and {name for name in after if after[name] != before[name]} <= {f"{stem}.json"}
    np.testing.assert_array_equal(np.load(run / "cells" / f"{stem}.npz")["tokens"], kept)


def test_every_registered_sampler_is_in_the_benchmark_and_every_cell_is_a_valid_experiment(tmp_path):
    for variant in ("", "full"):
        config = config_file.get_config(variant)
        benchmark.check(config, tmp_path)
        stems = [cell.stem for cell in benchmark.list_cells(config)]
        assert len(stems) == len(set(stems))
    used = {dict(changes).get("student.kernel") for _, changes in config.samplers}
    assert used >= {*KERNELS, *EVENT_SAMPLERS}
    assert config.ours in dict(config.samplers) and set(config.figure_samplers) <= set(dict(config.samplers))


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="full"):
        config_file.get_config("half")
    config = tiny(nfe=())
    with pytest.raises(ValueError, match="config.nfe"):
        workflow.run(config, tmp_path / "run", "all", command="test")
    config = tiny()
    config.samplers = (ablation.variant("odd", student__kernel="heun"),)
    with pytest.raises(ValueError, match="config.student.kernel"):
        workflow.run(config, tmp_path / "run", "all", command="test")
