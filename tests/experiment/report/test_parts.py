"""The parts of a report: tables, the page, figures, and statistics of rows."""

import numpy as np
import pytest

from lsd_jax.experiment.records import DATA, EXACT
from lsd_jax.experiment.report import figures, html, statistics, tables
from lsd_jax.metrics.metric import Column

COLUMNS = [
    Column("sampler", "sampler", "{}"),
    Column("nfe", "NFE", "{}"),
    Column("bound", "bound, bits", "{:.2f}", "bound"),
]
ROWS = [
    {"sampler": "student", "budget": 8, "nfe": 8, "bound": (1.234, 1.2, 1.3)},
    {"sampler": "Euler <8>", "budget": 16, "nfe": 16, "bound": (2.0, 2.0, 2.0)},
    {"sampler": "Euler <8>", "budget": 8, "nfe": 8},
]


def test_tables_show_values_intervals_and_gaps():
    text = tables.text_table(ROWS, COLUMNS).splitlines()
    assert text[0].split() == ["sampler", "NFE", "bound"]
    assert text[2].split() == ["student", "8", "1.23", "[1.20,", "1.30]"]
    assert text[4].split()[-1] == "–" and len({len(line) for line in text}) == 1
    markdown = tables.markdown_table(ROWS, COLUMNS).splitlines()
    assert markdown[0] == "| sampler | NFE | bound, bits |" and markdown[3] == "| Euler <8> | 16 | 2.00 |"
    assert tables.without_intervals(ROWS)[0]["bound"] == 1.234


def test_page_is_whole_and_self_contained(tmp_path):
    panel = figures.Panel("", ROWS, COLUMNS[2], ("limit", 1.0))
    image = figures.save(figures.quality([panel], ("student", "Euler <8>")), tmp_path, "q")
    sections = [
        html.Section("One", [html.Table(ROWS, COLUMNS, "rows", "student"), html.Image(image, "figure")]),
        html.Section("Two", [html.Text("x < y"), html.Samples({"s": ["<b>"]})]),
    ]
    html.write_report(tmp_path / "index.html", "A & B", sections)
    page = (tmp_path / "index.html").read_text()
    assert "A &amp; B" in page and "x &lt; y" in page and "&lt;b&gt;" in page and "Euler &lt;8&gt;" in page
    assert "data:image/png;base64," in page and "http" not in page.replace("http-equiv", "")
    assert page.count("<tr data-ours>") == 1
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".partial"] == []


def test_quality_colors_what_it_is_told_and_names_exact_samplers():
    rows = [*ROWS, {"sampler": "exact", "budget": EXACT, "nfe": 31.6, "bound": (1.1, 1.1, 1.1)}]
    axes = figures.quality([figures.Panel("", rows, COLUMNS[2], ("limit", 1.0))], ("student", "Euler <8>")).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["student", "Euler <8>", "limit: 1"]
    assert [text.get_text() for text in axes.texts] == ["exact"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "16", "32"]
    colors = {line.get_color() for line in axes.lines}
    assert {figures.COLORS[0], figures.COLORS[1], "#BBBBBB", "black"} == colors


def test_an_exact_sampler_beside_a_budget_has_no_tick_of_its_own():
    rows = [*ROWS, {"sampler": "exact", "budget": EXACT, "nfe": 15.2, "bound": (1.1, 1.1, 1.1)}]
    axes = figures.quality([figures.Panel("", rows, COLUMNS[2], ("limit", 1.0))], ("student",)).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["8", "16"]


def test_schedules_show_what_differs_from_the_start_and_the_order():
    student = {"time_grid": [1, 0.4, 0], "coefficients": [1.0, 1.0], "temperatures": [1.0, 1.1]}
    plain = {"time_grid": [1, 0], "coefficients": [1.0], "temperatures": [1.0]}
    assert figures.learned_parts({2: student, 1: plain}) == ["time_grid", "temperatures"]
    assert figures.learned_parts({1: plain}) == []
    figure = figures.schedules({2: student}, ["time_grid", "temperatures"], {2: np.array([1, 2, 1])})
    assert figure.axes[0].lines[1].get_ydata().tolist() == [1, 0.4, 0]
    assert [axes.get_title() for axes in figure.axes] == ["time grid", "temperatures", ""]
    assert [text.get_text() for text in figure.axes[2].texts] == ["1", "2", "1"]
    plane = figures.schedules({2: student}, [], {2: np.array([[1, 2], [2, 1]])})
    np.testing.assert_array_equal(plane.axes[0].images[0].get_array(), [[1, 2], [2, 1]])


def test_trajectory_draws_what_is_new():
    states = np.array([[5, 5], [1, 5], [1, 2]])
    drawn = figures.trajectory(states, str, 5, np.array([1.0, 0.5, 0.0])).axes[0].texts
    assert [text.get_text() for text in drawn] == ["·", "·", "t=1.00", "1", "·", "t=0.50", "1", "2", "t=0.00"]
    assert drawn[3].get_color() != drawn[6].get_color()


def test_histograms_are_densities_on_one_scale():
    rng = np.random.default_rng(0)
    drawn = {
        "real data": {"a": rng.normal(size=900), "same": np.ones(900)},
        "s": {"a": rng.normal(size=400), "same": np.ones(400)},
    }
    figure = figures.histograms(drawn)
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["a", "same"]
    filled, line = figure.axes[0].patches
    assert filled.get_fill() and not line.get_fill() and len(line.get_data().values) == 14
    np.testing.assert_array_equal(filled.get_data().edges, line.get_data().edges)
    for patch in figure.axes[0].patches:
        values, edges, _ = patch.get_data()
        assert (values * np.diff(edges)).sum() == pytest.approx(1, abs=0.01)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["real data", "s"]


def seeds(name, values, entropy, **fields):
    row = {"task": "t", "sampler": name, "budget": 4, "nfe": 4.0, "entropy_bits": (entropy,) * 3, **fields}
    return [{**row, "seed": seed, "stem": f"{name}{seed}", "tv3": (v, v, v)} for seed, v in enumerate(values)]


def test_intervals_over_seeds_and_entropy_matching():
    rows = [*seeds("cold", (0.2, 0.2), 3.0), *seeds("warm", (0.4, 0.4), 4.0), *seeds("ours", (0.1, 0.3), 3.5)]
    rows += seeds("once", (0.5,), 9.0)
    summary = statistics.summarize(rows)
    assert [row["sampler"] for row in summary] == ["cold", "warm", "ours", "once"]
    ours = summary[2]
    middle, low, high = ours["tv3"]
    # Student's t with one degree of freedom: 12.706 times the standard error 0.1.
    assert middle == pytest.approx(0.2) and high - middle == pytest.approx(1.2706, rel=1e-3) == middle - low
    assert ours["seeds"] == 2 and ours["nfe"] == 4 and not {"seed", "stem"} & ours.keys()
    assert summary[3]["tv3"] == (0.5, 0.5, 0.5)
    assert statistics.matched_in_entropy(summary, 4, "ours", ["cold", "warm"], "tv3") == (pytest.approx(0.3), True)
    assert statistics.matched_in_entropy(summary, 4, "ours", ["cold"], "tv3") == (pytest.approx(0.2), False)
    (control,) = statistics.entropy_control(summary, (4,), ("ours", "warm"), ("cold", "warm"), ["tv3"])
    assert control["sampler"] == "ours" and control["matched_tv3"] == "0.3000"
    assert statistics.entropy_control(summary, (8,), ("ours",), ("cold", "warm"), ["tv3"]) == []


def test_ranks_are_taken_at_each_budget_with_what_needs_no_network():
    def row(sampler, budget, value, **more):
        return {"task": "t", "sampler": sampler, "budget": budget, "tv3": (value, 0, 1), **more}

    rows = [
        row(DATA, 0, 0.0, best={"tv3": 0.0, "not measured": 0.0}),
        row("periodic", 0, 0.3),
        *(row("good", 4, 0.1), row("bad", 4, 0.4)),
        *(row("good", 8, 0.1), row("bad", 8, 0.1)),
        row("exact", EXACT, 0.05),
    ]
    ranked = {(row["sampler"], row["budget"]): row for row in statistics.ranked(rows)}
    assert ranked["periodic", 0]["ranks"] == {4: 2.0, 8: 3.0} and ranked["periodic", 0]["rank"] == 2.0
    assert ranked["good", 4]["ranks"] == {4: 1.0} and ranked["bad", 8]["ranks"] == {8: 1.5}
    assert ranked["exact", EXACT]["ranks"] == {} and "rank" not in ranked[DATA, 0]
    alone = statistics.ranked([rows[0], *rows[2:4], row("good", 128, 0.1)])
    assert [own["ranks"] for own in alone] == [{}, {4: 1.0}, {4: 2.0}, {}]
    overall = statistics.overall_ranks({"t": list(ranked.values())})[""]
    assert [line["sampler"] for line in overall] == ["good", "periodic", "bad", "exact"]
    assert overall[0] == {"sampler": "good", "tasks": 1, "rank4": 1.0, "rank8": 1.5}


def test_ranks_are_taken_per_process_over_the_same_tasks_and_by_true_cost():
    def row(task, sampler, value, nfe=4.0, **more):
        process = "uniform" if task == "u" else "absorbing"
        own = {"task": task, "sampler": sampler, "budget": 4, "nfe": nfe, "process": process, "tv3": (value, 0, 1)}
        return {**own, **more}

    data = {"budget": 0, "best": {"tv3": 0.0}}
    rows = {
        "a": [row("a", DATA, 0, **data), row("a", "ours", 0.1), row("a", "rival", 0.2), row("a", "of one task", 0.0)],
        "b": [row("b", DATA, 0, **data), row("b", "ours", 0.2), row("b", "rival", 0.1)],
        "u": [row("u", DATA, 0, **data), row("u", "ours", 0.2), row("u", "dearer than it says", 0.1, nfe=7.4)],
    }
    overall = statistics.overall_ranks({task: statistics.ranked(own) for task, own in rows.items()})
    lines = {process: {line["sampler"]: line.get("rank4") for line in own} for process, own in overall.items()}
    assert lines["absorbing"] == {"ours": 2.0, "rival": 2.0, "of one task": None}
    assert lines["uniform"] == {"ours": 1.0, "dearer than it says": None}


def test_rivals_are_compared_pair_by_pair_at_equal_budget(tmp_path):
    rng = np.random.default_rng(0)
    hard = rng.normal(size=64)
    rows = []
    for stem, sampler, budget, worse in (("a", "ours", 4, 0.0), ("b", "near", 4, 0.0), ("c", "far", 4, 1.0)):
        noise = 0.1 * rng.normal(size=64)
        np.savez(tmp_path / f"{stem}.npz", tokens=np.zeros((2, 2)), nll_nats=hard + worse + noise)
        rows.append({"sampler": sampler, "budget": budget, "stem": stem})
    np.savez(tmp_path / "d.npz", tokens=np.zeros((2, 2)))
    rows += [{"sampler": "unbounded", "budget": 4, "stem": "d"}, {"sampler": "ours", "budget": 8, "stem": "none"}]
    near, far = statistics.rivals(tmp_path, rows, "ours")
    assert near["sampler"] == "near" and near["p"] > 0.05
    assert far["p_holm"] == pytest.approx(2 * far["p"]) and near["p_holm"] == near["p"]
    assert far["sampler"] == "far" and far["p"] < 0.001 and far["difference"][0] == pytest.approx(-1, abs=0.1)


def test_the_order_of_reveals_follows_grid_coefficients_and_coupling():
    golden = {"name": "low_discrepancy", "generator": "golden"}
    student = {"time_grid": [1.0, 0.75, 0.25, 0.0], "coefficients": [1.0] * 3, "coupling": golden}
    steps = statistics.reveal_steps(student, 64)
    np.testing.assert_allclose(np.bincount(steps, minlength=4) / 64, [0, 0.25, 0.5, 0.25], atol=1 / 32)
    first = np.flatnonzero(steps == 1)
    assert np.diff(first).min() > 1  # what is revealed together is spread
    slow = statistics.reveal_steps({**student, "coefficients": [0.5, 1.0, 1.0]}, 64)
    assert (slow == 1).sum() == pytest.approx(8, abs=1) and (slow >= steps).all()
    pattern = {"name": "low_discrepancy", "generator": "pattern", "pattern": [0, 2, 1, 3]}
    sweep = {"time_grid": [1.0, 0.5, 0.0], "coefficients": [1.0] * 2, "coupling": pattern}
    assert len(set(map(tuple, statistics.reveal_steps(sweep, 16).reshape(4, 4)))) == 1
    assert statistics.reveal_steps({**student, "coupling": {"name": "iid"}}, 64) is None
    assert statistics.reveal_steps({**student, "process": "uniform"}, 64) is None
