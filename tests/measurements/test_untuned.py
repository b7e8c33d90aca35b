"""Students beside untuned orders: what a row says."""

import json

import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.samplers.likelihood import PathCosts
from measurements import untuned


def test_a_row_has_the_mean_by_orders_and_the_difference_from_ours():
    rng = np.random.default_rng(0)
    costs = PathCosts(rng.normal(20, 2, (6, 16)), False)
    found = untuned.row("golden", 4, costs, costs.weighted() - 1)
    assert list(found["nats"]) == ["4", "16"] and found["nats"]["4"] > found["nats"]["16"]
    assert found["nats"]["16"] == pytest.approx(costs.weighted().mean())
    assert found["ours_less"] == pytest.approx([-1, 0]) and not found["exact"]


def test_the_record_has_every_untuned_order_beside_a_student(tmp_path):
    model = lsd.load_model("text")
    sweep = lsd.Coupling("low_discrepancy", "pattern", (0, 1))
    lsd.sampler("tweedie", 2, coupling=sweep).bound_to(model, 128).save(tmp_path / "student.json")
    output = tmp_path / "record.json"
    argv = [f"--student={tmp_path / 'student.json'}", f"--output={output}", "--held_out=2", "--paths=4"]
    assert untuned.main(argv) == 0
    rows = json.loads(output.read_text())["rows"]
    assert [row["sampler"] for row in rows] == ["path-KL student", *untuned.rivals(2)]
    assert rows[0]["exact"] and rows[0]["ours_less"] == [0, 0] and not any(row["exact"] for row in rows[1:])
    assert all(50 < row["nats"]["4"] < 1000 for row in rows[1:])
