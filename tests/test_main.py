"""The command line: one clear line for bad input, and earlier names of fields keep being read."""

import json
import subprocess
import sys

import pytest

from lsd_jax.errors import InputError
from lsd_jax.experiment.arguments import CONFIGS, located, renamed

MISTAKES = [
    (["--config.student.stepz=4"], "error: --config.student.stepz: .* has no field 'stepz'; did you mean 'steps'?"),
    (
        ["--config.stuent.steps=4"],
        "error: --config.stuent.steps: .* has no field 'stuent'; did you mean 'student'?",
    ),
    (["--config.teacher.paths=many"], "error: flag --config.teacher.paths=many: invalid literal for int"),
    (["--config.student.steps=four"], "error: config.student.steps="),
    (
        ["--config=configs/none.py"],
        "error: --config=configs/none.py: no such file, and no config of this name ships",
    ),
    (["--config=countdown:tiny"], "error: --config=countdown:tiny: this config has no variants"),
    (["--config=mdlm:huge"], "error: --config=mdlm:huge: choose one of"),
    (["--stage=draw"], "error: flag --stage=draw: value should be one of"),
    (["--step=2"], "error: Unknown command line flag 'step'"),
    (["--config.student.steps=500"], "error: config.student.steps=500: is more than the teacher's 256 steps"),
    (["--stage=sample"], "error: --stage=sample needs --student"),
    (["--workdir=az://bucket/run"], "error: --workdir='az://bucket/run': must be a folder .* mount the store"),
    (["--config.student.neighbours=2"], "error: config.student.potentials=2"),
]
# Every line in a process of its own, all of them from one that has imported the library: that takes seconds.
FORKS = """
import json, os, sys
from lsd_jax import main
codes = []
for arguments in json.load(sys.stdin):
    if (child := os.fork()) == 0:
        os.dup2(os.open(f"{sys.argv[1]}/{len(codes)}.txt", os.O_CREAT | os.O_WRONLY), 2)
        sys.argv = ["lsd_jax/main.py", *arguments]
        sys.exit(main.cli())
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """How every mistaken command ended: its exit code, its lines on standard error, its run directory."""
    folder, commands = tmp_path_factory.mktemp("mistakes"), []
    for number, (arguments, _) in enumerate(MISTAKES):
        named = any(argument.startswith("--config=") for argument in arguments)
        config = [] if named else ["--config=configs/countdown.py"]
        commands.append([*config, f"--workdir={folder / f'r{number}'}", *arguments])
    program = [sys.executable, "-c", FORKS, str(folder)]
    done = subprocess.run(program, input=json.dumps(commands), stdout=subprocess.PIPE, text=True, check=True)
    codes, numbers = json.loads(done.stdout), range(len(MISTAKES))
    lines = [(folder / f"{number}.txt").read_text().splitlines() for number in numbers]
    return list(zip(codes, lines, [folder / f"r{number}" for number in numbers]))


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda number: MISTAKES[number][0][0])
def test_the_command_line_ends_in_one_clear_line(ended, number):
    code, lines, run = ended[number]
    assert code != 0 and not run.exists() and not any("Traceback" in line for line in lines)
    begin, *rest = MISTAKES[number][1].split(".*")
    assert lines[-1].startswith(begin) and all(part in lines[-1] for part in rest)


def test_the_module_is_a_program(tmp_path):
    command = [sys.executable, "-m", "lsd_jax.main", "--config=countdown", f"--workdir={tmp_path / 'r'}", "--step=2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("error: Unknown command line flag 'step'")


def test_shipped_configs_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a project with a folder of configs of its own
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.py").touch()
    found = located(
        ["--config=text", "--config=configs/mdlm.py:tiny", "--config", "configs/mine.py", "--config.seed=1"]
    )
    files = [argument.removeprefix("--config=") for argument in found[:2]]
    assert files == [f"{CONFIGS}/text.py", f"{CONFIGS}/mdlm.py:tiny"] and (CONFIGS / "text.py").is_file()
    assert found[2:] == ["--config", "configs/mine.py", "--config.seed=1"]
    with pytest.raises(InputError, match="--config=common: no such file, and no config of this name ships: .*text"):
        located(["--config=common"])


def test_earlier_names_of_fields_and_values_are_read():
    old = ["main", "--config.distill.objective=dial", "--config.distill.precision=0.8", "--config.student.grid=greedy"]
    new = [
        "main",
        "--config.distill.objective=kl_mix",
        "--config.distill.reverse_share=0.8",
        "--config.student.grid=halving",
    ]
    assert renamed(old) == new and renamed(new) == new
    assert renamed(["--config.evaluation.bootstrap=False"]) == ["--config.evaluation.resamples=0"]
    assert renamed(["--workdir=--config.distill.precision=1"]) == ["--workdir=--config.distill.precision=1"]
