"""Records: written whole, read back as rows, old ones too, and a run directory bound to its config."""

import json
import pathlib

import jax
import pytest

from lsd_jax.experiment import lock, records
from lsd_jax.experiment.report.tables import markdown_table
from lsd_jax.metrics.metric import Column

PUBLISHED = sorted((pathlib.Path(__file__).parents[2] / "docs" / "results").glob("*.json"))
TABLES = [path for path in PUBLISHED if isinstance(json.loads(path.read_text()), list)]


def test_a_record_is_written_whole_and_read_back(tmp_path):
    path = tmp_path / "new" / "cell.json"
    records.write_json(path, {"nfe": 8.0})
    assert records.read_json(path) == {"nfe": 8.0} and [file.name for file in path.parent.iterdir()] == ["cell.json"]
    with pytest.raises(FileNotFoundError, match=r"^path='.*none\.json': no such file$"):
        records.read_json(tmp_path / "none.json")
    path.write_text("{")
    with pytest.raises(ValueError, match=r"^path='.*cell\.json': not JSON"):
        records.read_json(path)


def test_rows_hold_metrics_as_intervals_and_old_names_are_replaced(tmp_path):
    old = {"sampler": "LSD+ student (ours)", "steps": 8, "metrics": {"transition_tv": [0.2, 0.1, 0.3]}}
    data = {"sampler": "data", "best": {"transition_tv": 0.0}, "floor": {"transition_tv": [1, 0, 2]}, "metrics": {}}
    records.write_json(tmp_path / "b.json", old)
    records.write_json(tmp_path / "a.json", data)
    first, second = records.read_rows(tmp_path)
    assert first == {"sampler": "real data", "best": {"lag1_tv": 0.0}, "floor": {"lag1_tv": (1, 0, 2)}}
    assert second == {"sampler": "path-KL student", "steps": 8, "lag1_tv": (0.2, 0.1, 0.3)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LSD eq. 6, as printed", "LSD (Eq. 6), as printed"),
        ("LSD+ eq. 8, summed", "LSD+ (Eq. 8), summed"),
        ("dial 0.5", "KL mix 0.5"),
        ("order: chosen, polished", "order: chosen, optimized"),
        ("order and neighbours: chosen, 64 sequences", "order and potentials: chosen, 64 sequences"),
        ("cheat: Euler, T=0.3", "degenerate: Euler, T=0.3"),
        ("Euler T=0.9", "Euler, T=0.9"),
        ("Euler, T=0.9", "Euler, T=0.9"),
        ("path-KL student", "path-KL student"),
    ],
)
def test_samplers_of_earlier_records_have_todays_names(old, new):
    assert records.flatten({"sampler": old})["sampler"] == new


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_published_tables_stay_readable(path):
    rows = records.read_published(path)
    assert len(rows) == len(json.loads(path.read_text())) and not {"transition_tv", "metrics"} & set().union(*rows)
    names = {row["sampler"] for row in rows}
    assert {"Euler", "Tweedie"} & names and not any(
        "(ours)" in name or "eq." in name or "dial" in name for name in names
    )
    metric = next(name for name in ("exact_tv", "lag1_tv", "tv3", "tv2", "fcd") if any(name in row for row in rows))
    columns = [Column("sampler", "sampler", "{}"), Column("budget", "NFE", "{}"), Column(metric, "metric", "{:.4f}")]
    table = markdown_table(rows, columns).splitlines()
    first = next(row for row in rows if metric in row)
    assert len(table) == len(rows) + 2 and any(f"{first[metric][0]:.4f}" in line for line in table)


def test_published_files_that_are_no_tables_are_refused():
    others = [path for path in PUBLISHED if path not in TABLES]
    assert TABLES and others
    with pytest.raises(ValueError, match="not a list of rows"):
        records.read_published(others[0])


def test_a_run_directory_belongs_to_one_config(tmp_path):
    run, config = tmp_path / "run", {"seed": 0, "data": {"name": "text", "shape": ()}}
    records.claim(run, config)
    assert json.loads((run / "config.json").read_text()) == {
        "layout": 2,
        "config": {"seed": 0, "data": {"name": "text", "shape": []}},
    }
    (run / "cells").mkdir()
    records.claim(run, config)
    with pytest.raises(FileExistsError, match=r"other values of config\.data\.name, config\.seed;"):
        records.claim(run, {"seed": 1, "data": {"name": "toy", "shape": ()}})


def test_students_outlive_a_change_of_what_does_not_make_them(tmp_path):
    config = {"seed": 0, "cpu_devices": 2, "evaluation": {"batch_size": 64}, "report": {"ours": "a"}}
    records.claim(tmp_path, config)
    other = config | {"cpu_devices": 4, "report": {"ours": "b"}, "evaluation": {"batch_size": 32}}
    records.claim(tmp_path, other)  # no cell is there yet
    assert json.loads((tmp_path / "config.json").read_text())["config"] == other
    records.write_json(tmp_path / "cells" / "a.json", {})
    records.claim(tmp_path, other | {"cpu_devices": 1})
    with pytest.raises(
        FileExistsError, match=r"evaluation\.batch_size; delete .*cells to evaluate again \(the students stay"
    ):
        records.claim(tmp_path, config)
    with pytest.raises(FileExistsError, match=r"other values of config\.seed; choose another"):
        records.claim(tmp_path, config | {"seed": 1})


def test_a_strange_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="holds no run"):
        records.claim(tmp_path, {})
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("kind", ["config", "evaluation", "variants"])
def test_a_run_of_an_earlier_layout_is_refused(tmp_path, kind):
    if kind == "config":
        records.write_json(tmp_path / "config.json", {"seed": 0})
    else:
        records.claim(tmp_path, {"seed": 0})
        (tmp_path / kind).mkdir()
    with pytest.raises(FileExistsError, match=r"^workdir='.*': holds a run of another layout"):
        records.claim(tmp_path, {"seed": 0})


def test_a_metric_that_is_no_number_is_left_out_of_the_row(tmp_path):
    broken = {"sampler": "Euler", "metrics": {"tv3": (float("nan"),) * 3, "gen_ppl": (2.0, 1.0, 3.0)}}
    records.write_json(tmp_path / "a.json", broken)
    assert records.read_rows(tmp_path) == [{"sampler": "Euler", "gen_ppl": (2.0, 1.0, 3.0)}]
    wanted = {f"metrics.tv3.{index}": "nan" for index in range(3)}  # null, and what it was
    assert records.read_json(tmp_path / "a.json")["not_finite"] == wanted


def test_two_runs_in_one_directory(tmp_path):
    with lock.locked(tmp_path):
        with pytest.raises(FileExistsError, match=r"^workdir=.*another run is in it \(process \d+ on .+\)$"):
            with lock.locked(tmp_path):
                pass
    with lock.locked(tmp_path):  # the lock went with its run
        pass


def test_what_a_killed_run_had_half_written_is_in_nobody_s_way(tmp_path):
    """SIGKILL between the two steps of `write_whole`: also of config.json, which makes a folder a run's."""
    (tmp_path / ".config.json.a1b2.partial").touch()
    (tmp_path / "cells").mkdir()
    with pytest.raises(FileExistsError, match="is not empty and holds no run"):
        records.claim(tmp_path, {"seed": 0})
    (tmp_path / "cells").rmdir()
    records.claim(tmp_path, {"seed": 0})
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / ".a.json.x_9.partial").touch()
    with lock.locked(tmp_path):
        assert {file.name for file in tmp_path.rglob("*")} == {"config.json", "lock", "cells"}


def test_names_of_files():
    assert records.slug("Euler, T=0.9") == "euler_t_0.9" and records.slug("LSD+ (Eq. 8)") == "lsd_eq._8"


def test_the_revision_is_not_that_of_a_repository_around_an_installation(monkeypatch, tmp_path):
    import subprocess

    git = lambda *words: subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    git("init")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty", "-m", "the user's own")
    inside = tmp_path / "venv" / "lsd_jax" / "experiment" / "records.py"
    inside.parent.mkdir(parents=True)
    inside.touch()
    monkeypatch.setattr(records, "__file__", str(inside))
    assert records.revision() == "unknown"


def test_revision_is_one_word():
    assert len(records.revision().split()) == 1


def test_a_record_says_what_it_was_made_with():
    found = records.environment()
    assert found["jax"] == jax.__version__ and found["prng"] == "threefry2x32" and found["device"].startswith("8 x")
    assert all(isinstance(value, str) and value for value in found.values())
