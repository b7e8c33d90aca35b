"""The command line as a user meets it: a tiny run of everything, resuming, sampling, and bad input."""

import json
import pathlib
import subprocess
import sys

import pytest

from configs import countdown, text
from lsd_jax import workflow
from lsd_jax.report import build

TINY = {
    "data.vocab_size": 8,
    "data.sequence_length": 24,
    "data.mix": 0.01,
    "teacher.steps": 24,
    "teacher.paths": 32,
    "student.grid_points": 24,
    "student.steps": (2, 4),
    "distill.steps": 10,
    "distill.batch_size": 8,
    "evaluation.num_samples": 64,
    "evaluation.batch_size": 64,
    "evaluation.held_out": 64,
    "evaluation.reference_steps": 8,
    "evaluation.temperatures": (0.8,),
}


STAGED = {"student.kernel": "maskgit", "student.coupling.name": "iid", "student.order": "fixed"}


def tiny(**changes):
    config = countdown.get_config()
    config.update_from_flattened_dict({**TINY, **changes})
    return config


def test_everything_from_teacher_to_report_and_again(tmp_path, capsys):
    run = tmp_path / "run"
    workflow.run(tiny(), run, "all", command="test")
    printed = capsys.readouterr().out
    assert "LSD+ student" in printed and "NFE" in printed
    record = json.loads((run / "students" / "M4" / "student.json").read_text())
    assert record["nfe"] == record["steps"] == 4 and record["provenance"]["command"] == "test"
    rows = {row["cell"]: row for row in json.loads((run / "report" / "metrics.json").read_text())}
    assert set(rows) == {
        *("data", "student_2", "euler_2", "tweedie_2", "euler_T0.8_2"),
        *("student_4", "euler_4", "tweedie_4", "euler_T0.8_4", "euler_8"),
    }
    assert rows["euler_8"]["nfe"] == 8 and rows["student_4"]["samples"] == 64
    assert rows["student_4"]["path_kl_nats"][0] < rows["euler_4"]["path_kl_nats"][0]
    assert (run / "report" / "index.html").stat().st_size > 50_000

    # A second start finds everything done; one lost cell is made again, to the same numbers.
    before = (run / "evaluation" / "euler_4.json").read_text()
    (run / "evaluation" / "euler_4.json").unlink()
    workflow.run(tiny(), run, "all", command="test")
    seconds = lambda text: {**json.loads(text), "seconds": 0}  # noqa: E731
    assert seconds((run / "evaluation" / "euler_4.json").read_text()) == seconds(before)
    capsys.readouterr()

    # A finished student samples without its run.
    student = str(run / "students" / "M4" / "student.json")
    workflow.sample(tiny(), tmp_path / "other", student, 3, "")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and len(lines[0].split()) == 24
    workflow.sample(tiny(), tmp_path / "other", student, 3, str(tmp_path / "s.txt"))
    assert (tmp_path / "s.txt").read_text().splitlines() == lines
    with pytest.raises(FileExistsError, match="exists"):
        workflow.sample(tiny(), tmp_path / "other", student, 3, str(tmp_path / "s.txt"))

    # Another experiment neither resumes from a run nor writes over it; another process refuses the student.
    with pytest.raises(FileExistsError, match=r"config\.seed"):
        workflow.run(tiny(seed=1), run, "all", command="test")
    with pytest.raises(ValueError, match="noise"):
        workflow.sample(tiny(**{"process.noise.eps": 0.01}), tmp_path / "other", student, 3, "")
    with pytest.raises(ValueError, match="process"):
        workflow.sample(tiny(**{"process.name": "uniform"}), tmp_path / "other", student, 3, "")


def test_a_student_with_neighbours_is_distilled_polished_and_samples(tmp_path, capsys):
    config = tiny(**{"student.steps": (2,), "student.neighbours": 32})
    workflow.run(config, tmp_path / "run", "distill", command="test")
    student = tmp_path / "run" / "students" / "M2" / "student.json"
    metrics = json.loads(student.read_text())["metrics"]
    assert metrics["neighbour_nats"] <= metrics["independent_nats"] and "polish_gain" in metrics
    capsys.readouterr()
    workflow.sample(config, tmp_path / "other", str(student), 3, "")
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student.steps": (25,)}, r"config\.student\.steps=25"),
        ({"student.steps": (0,)}, r"config\.student\.steps=0"),
        ({"student.kernel": "heun"}, r"config\.student\.kernel"),
        ({"student.coupling.name": "halton"}, r"config\.student\.coupling\.name"),
        ({"student.grid": "random"}, r"config\.student\.grid"),
        ({"process.name": "masking"}, r"config\.process\.name"),
        ({"process.name": "uniform"}, r"config\.student\.order"),
        ({"student.order": "random"}, r"config\.student\.order"),
        ({"student.coupling.generator": "r2"}, r"config\.student\.coupling\.shape"),
        (
            {"student.coupling.generator": "dither", "student.coupling.shape": (4, 4)},
            r"config\.student\.coupling\.shape=\(4, 4\) does not hold 24",
        ),
        ({"student.temperature": 0.0}, r"config\.student\.temperature"),
        ({"teacher.source": "web"}, r"config\.teacher\.source"),
        ({"distill.alignment.radius": 1.1}, r"config\.distill\.alignment\.radius"),
        ({"distill.objective": "mse"}, r"config\.distill\.objective"),
        ({"data.name": "c4"}, r"config\.data\.name"),
        ({"data.mix": 2.0}, r"config\.data\.mix"),
        ({"model.name": "gpt"}, r"config\.model\.name"),
        ({"model.dim": 30, "model.heads": 4}, r"config\.model\.dim"),
        ({"student.neighbours": 33}, r"config\.student\.neighbours=33 is more"),
        (
            {"student.neighbours": 8, "process.name": "uniform", "student.order": "fixed"},
            r"config\.student\.neighbours=8 under uniform noise needs config\.student\.coupling\.name='iid'",
        ),
        ({"student.neighbours": 2}, r"config\.student\.neighbours=2"),
        ({"student.neighbours": 8, "distill.objective": "dial"}, r"config\.distill\.objective"),
        ({"training.loss": "autoregressive"}, r"config\.training\.loss"),
        ({"student.top_p": 0.0}, r"config\.student\.top_p"),
        ({"student.grid": "jys", "student.steps": (6,)}, r"\[6\] holds no power of two"),
        ({"student.kernel": "maskgit"}, r"config\.student\.coupling\.name='low_discrepancy' must be 'iid'"),
        ({"student.kernel": "maskgit", "student.coupling.name": "iid"}, r"config\.student\.order='auto'"),
        (
            {**STAGED, "student.neighbours": 8},
            r"config\.student\.neighbours=8: kernel 'maskgit' draws in stages",
        ),
        (
            {**STAGED, "distill.objective": "score_alignment", "distill.alignment.gradient": "unrolled"},
            r"config\.distill\.alignment\.gradient='unrolled'",
        ),
        (
            {**STAGED, "student.kernel": "cached", "model.name": "ddit", "model.time_conditioned": True},
            r"config\.model\.time_conditioned=False",
        ),
    ],
)
def test_bad_config_is_told_before_any_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        workflow.run(tiny(**changes), tmp_path / "run", "all", command="test")
    assert not (tmp_path / "run").exists()


def test_bad_text_input_is_told_before_any_work(tmp_path):
    config = text.get_config()
    config.data.path = str(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match=r"config\.data\.path"):
        workflow.run(config, tmp_path / "run", "all", command="test")
    (tmp_path / "accents.txt").write_text("déjà vu " * 50_000)
    config.data.path = str(tmp_path / "accents.txt")
    with pytest.raises(ValueError, match=r"config\.data\.path.*'é' at position 1"):
        workflow.run(config, tmp_path / "run", "all", command="test")
    config = text.get_config()
    config.model.weights = str(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        workflow.run(config, tmp_path / "run", "all", command="test")
    assert not (tmp_path / "run").exists()


def test_a_strange_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="holds no run"):
        workflow.run(tiny(), tmp_path, "all", command="test")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_report_needs_cells(tmp_path):
    with pytest.raises(FileNotFoundError, match="evaluate"):
        build.build_report(tiny(), pathlib.Path(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.student.stepz=4"], "stepz"),
        (["--config.student.steps=500"], "error: config.student.steps=500 is more than config.teacher.steps=256"),
        (["--stage=sample"], "error: --stage=sample needs --student"),
    ],
)
def test_the_command_line_ends_in_one_clear_line(tmp_path, arguments, message):
    command = [sys.executable, "-m", "lsd_jax.main", "--config=configs/countdown.py", f"--workdir={tmp_path / 'r'}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert done.returncode != 0 and message in done.stderr and not (tmp_path / "r").exists()
    if message.startswith("error"):
        assert "Traceback" not in done.stderr and message in done.stderr.splitlines()[-1]


def test_any_kernel_can_be_a_student(tmp_path):
    """Grid and numbers by the stand-in; calls that were made; a bound where the kernel has a likelihood of its own."""
    changes = {
        "student.order": "fixed",
        "student.coupling.name": "iid",
        "student.steps": (4,),
        "evaluation.temperatures": (),
        "evaluation.bootstrap": False,
    }
    for kernel, grid in (("remdm_cap", "jys"), ("margin", "optimal")):
        run = tmp_path / kernel
        workflow.run(tiny(**changes, **{"student.kernel": kernel, "student.grid": grid}), run, "all", command="test")
        record = json.loads((run / "students" / "M4" / "student.json").read_text())
        assert record["kernel"] == kernel and record["nfe"] == 4 and record["provenance"]["grid"] == grid
        rows = {row["cell"]: row for row in json.loads((run / "report" / "metrics.json").read_text())}
        assert ("bound_bits" in rows["student_4"]) == (kernel == "margin") and "bound_bits" in rows["euler_4"]
        assert "path_kl_nats" not in rows["student_4"]
        assert rows["student_4"]["calls"] == 4 and "wrong_per_transition" in rows["student_4"]


def test_a_nucleus_is_kept_in_the_artefact(tmp_path, capsys):
    config = tiny(**{"student.steps": (2,), "student.top_p": 0.9, "distill.steps": 0, "student.order": "fixed"})
    workflow.run(config, tmp_path / "run", "distill", command="test")
    student = tmp_path / "run" / "students" / "M2" / "student.json"
    assert json.loads(student.read_text())["top_p"] == 0.9
    capsys.readouterr()
    workflow.sample(config, tmp_path / "other", str(student), 2, "")
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("sampler", ["any_order", "cached"])
def test_a_prompt_is_continued_and_filled_in_by_any_sampler(tmp_path, capsys, sampler):
    config = text.get_config()
    workflow.sample(config, tmp_path, "", 2, "", "the pres_dent of ", sampler, 8)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(len(line) == 128 for line in lines)
    assert all(line.startswith("the pres") and line[9:17] == "dent of " and "_" not in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "heun", "steps": 4}, "--sampler='heun': choose one of"),
        ({"sampler": "uniformization", "steps": 4}, "--sampler='uniformization' is defined for"),
        ({"sampler": "euler"}, "--sampler='euler' needs --steps"),
        ({"sampler": "euler", "steps": 4, "prompt": "The"}, "--prompt holds 'T'"),
        ({"sampler": "euler", "steps": 4, "prompt": "a" * 129}, "--prompt has 129 characters, a sequence 128"),
        ({}, "--stage=sample needs"),
    ],
)
def test_bad_requests_for_samples(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        workflow.sample(text.get_config(), tmp_path, "", 1, "", **arguments)


def test_a_prompt_needs_characters(tmp_path):
    with pytest.raises(ValueError, match=r"--prompt needs characters: config\.data\.name='countdown'"):
        workflow.sample(tiny(), tmp_path, "", 1, "", "abc", "euler", 2)
