"""An ablation as a user meets it: variants, seeds, resuming, tables; and its statistics."""

import json

import pytest

from configs import (
    ablation_countdown,
    ablation_neighbours,
    ablation_text,
    ablation_uniform,
    ablation_uniform_neighbours,
)
from lsd_jax import ablation, workflow
from lsd_jax.report.ablation import matched_in_entropy, summarize

TINY = {
    "data.vocab_size": 8,
    "data.sequence_length": 24,
    "data.mix": 0.01,
    "teacher.steps": 24,
    "teacher.paths": 32,
    "student.steps": (2, 4),
    "student.grid_points": 24,
    "evaluation.num_samples": 64,
    "evaluation.batch_size": 64,
    "evaluation.held_out": 64,
}


def tiny(config, names, **changes):
    config.update_from_flattened_dict({**TINY, **changes})
    config.seeds = (0, 1)
    chosen = tuple(entry for entry in config.variants if entry[0] in names)
    assert len(chosen) == len(names)
    short = {"distill.steps": 10, "distill.batch_size": 8, "student.order_trials": 5}
    short["student.steps"] = changes.get("student.steps", TINY["student.steps"])
    config.variants = tuple(
        (name, tuple({**dict(changes), **{k: v for k, v in short.items() if dict(changes).get(k, 1)}}.items()))
        for name, changes in chosen
    )
    return config


def test_every_cell_has_a_record_and_a_second_start_changes_nothing(tmp_path, capsys):
    names = ["Euler", "LSD+ eq. 8, summed", "dial 0.5"]
    config = tiny(ablation_countdown.get_config(), names, **{"student.steps": (4,)})
    config.frontier.dial, config.frontier.temperatures = ("dial 0.5",), ("Euler",)
    config.frontier.steps = (4,)
    run = tmp_path / "run"
    workflow.run(config, run, "all", command="test")
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    cells = sorted((run / "cells").glob("*.json"))
    assert len(cells) == len(names) * 2
    record = json.loads((run / "cells" / "dial_0.5_M4_seed1.json").read_text())
    assert record["nfe"] == 4 and record["seed"] == 1 and record["command"] == "test" and record["samples"] == 64
    before = cells[0].read_text()
    cells[1].unlink()
    workflow.run(config, run, "all", command="test")
    assert cells[0].read_text() == before and cells[1].exists()
    tables = (run / "report" / "tables.md").read_text()
    assert "| Euler | 4 |" in tables and "temperature sweep at this entropy" in tables
    assert (run / "report" / "frontier.png").exists()


def test_the_uniform_process_runs_every_kind_of_objective(tmp_path, capsys):
    names = ["Tweedie", "LSD+ eq. 8, summed", "grid: optimal, refined", "dial 0.5"]
    names.append("grid: optimal, fresh low-discrepancy shifts")
    config = tiny(ablation_uniform.get_config(), names, **{"student.steps": (3,)})
    config.seeds = (0,)
    workflow.run(config, tmp_path / "run", "all", command="test")
    assert "path KL" in capsys.readouterr().out
    rows = {row["sampler"]: row for row in ablation.read(tmp_path / "run" / "cells")}
    assert rows["grid: optimal, refined"]["path_kl_nats"] < 1.5 * rows["Tweedie"]["path_kl_nats"]  # 64 sequences: rough
    assert "path_kl_nats" not in rows["grid: optimal, fresh low-discrepancy shifts"]


@pytest.mark.slow
def test_potentials_under_uniform_noise_search_the_grid_again(tmp_path):
    free = ablation_uniform_neighbours.FREE
    changes = {"student.steps": (2,), "data.sequence_length": 12}
    config = tiny(ablation_uniform_neighbours.get_config(), ["Tweedie", free], **changes)
    config.seeds, config.evaluation.held_out = (0,), 256
    config.variants = tuple(
        (n, (*own, ("student.neighbours", 128))) if n == free else (n, own) for n, own in config.variants
    )
    workflow.run(config, tmp_path / "run", "all", command="test")
    rows = {row["sampler"]: row for row in ablation.read(tmp_path / "run" / "cells")}
    assert rows[free]["path_kl_nats"] < 0.7 * rows["Tweedie"]["path_kl_nats"]
    metrics = rows[free]["student"]["metrics"]
    assert metrics["neighbour_nats"] < metrics["independent_nats"] and rows[free]["nfe"] == 2


@pytest.mark.parametrize(
    "module",
    [ablation_countdown, ablation_neighbours, ablation_text, ablation_uniform, ablation_uniform_neighbours],
)
def test_every_variant_of_the_shipped_configs_is_a_valid_experiment(module, tmp_path):
    from lsd_jax import experiment

    config = module.get_config()
    names = [name for name, _ in config.variants]
    assert len(set(map(ablation.slug, names))) == len(names)
    for entry in config.variants:
        experiment.check(ablation.resolve(config, entry, 0), "all", tmp_path)
    members = (*config.figure_variants, *config.frontier.dial, *config.frontier.temperatures)
    assert set(members) <= set(names)


def test_a_variant_of_a_field_that_does_not_exist_is_named(tmp_path):
    config = ablation_countdown.get_config()
    config.variants = (ablation.variant("odd", student__gird="uniform"),)
    with pytest.raises(ValueError, match="odd.*gird"):
        workflow.run(config, tmp_path / "run", "all", command="test")


def test_intervals_over_seeds_and_entropy_matching():
    rows = [
        {"steps": 4, "nfe": 4, "sampler": name, "tv3": value, "entropy_bits": entropy, "distill_seconds": 1.0}
        for name, values, entropy in (("cold", (0.2, 0.2), 3.0), ("warm", (0.4, 0.4), 4.0), ("ours", (0.1, 0.3), 3.5))
        for value in values
    ]
    summary = summarize(rows, ["cold", "warm", "ours"])
    middle, low, high = next(row["tv3"] for row in summary if row["sampler"] == "ours")
    # Student's t with one degree of freedom: 12.706 times the standard error 0.1.
    assert middle == pytest.approx(0.2) and high - middle == pytest.approx(1.2706, rel=1e-3) == middle - low
    assert matched_in_entropy(summary, 4, "ours", ["cold", "warm"], "tv3") == (pytest.approx(0.3), True)
    assert matched_in_entropy(summary, 4, "ours", ["cold"], "tv3") == (pytest.approx(0.2), False)
