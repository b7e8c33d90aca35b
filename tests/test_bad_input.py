"""Bad input of every kind and stage ends in one line that names the field, before any long work."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import lsd_jax as lsd
from lsd_jax.configs import countdown
from lsd_jax.errors import InputError
from lsd_jax.experiment import records, stages
from lsd_jax.experiment.values import check_values

NAN = float("nan")
SMALL = {
    "data.sequence_length": 16,
    "data.vocab_size": 8,
    "teacher.steps": 8,
    "teacher.paths": 32,
    "student.steps": (2,),
    "student.grid_points": 8,
    "distill.steps": 10,
    "distill.batch_size": 8,
    "evaluation.num_samples": 32,
    "evaluation.batch_size": 32,
    "evaluation.held_out": 32,
}
ALL = [
    ("seed", -1),
    ("seeds", (0, -1)),
    ("seeds", ("one",)),
    ("seeds", (0, 0)),
    ("nfe", (0,)),
    ("cpu_devices", -1),
    ("parameter_shards", 0),
    ("parameter_shards", 3),
    ("data.name", "shakespeare"),
    ("data.path", "none.txt"),
    ("data.sequence_length", 0),
    ("data.vocab_size", 0),
    ("data.vocab_size", 1),
    ("data.mix", -0.1),
    ("data.mix", 2.0),
    ("data.shape", (1, 4, 4)),
    ("data.shape", "ab"),
    ("data.vocab_size", 8.5),
    ("process.name", "masked"),
    ("process.name", "gaussian"),
    ("process.noise.name", "linear"),
    ("process.noise.eps", -1.0),
    ("process.noise.eps", 2.0),
    ("model.name", "bert"),
    ("model.weights", "none.safetensors"),
    ("model.dtype", "float8"),
    ("model.output", "logits"),
    ("teacher.source", "both"),
    ("teacher.steps", 0),
    ("teacher.steps", None),
    ("teacher.paths", 0),
    ("teacher.paths", 10**9),
    ("teacher.cache", "none.npz"),
    ("student.steps", ()),
    ("student.steps", (0,)),
    ("student.steps", (2, 2)),
    ("samplers", (("..", (), ".."),)),
    ("samplers", (("Euler", (("student.kernel", "euler"),), "Euler"),)),
    ("student.steps", ("four",)),
    ("student.steps", (4.5,)),
    ("student.steps", (200,)),
    ("student.kernel", "heun"),
    ("student.coefficient", "probability"),
    ("student.temperature", -1.0),
    ("student.temperature", NAN),
    ("student.threshold", -1.0),
    ("student.threshold", 0.5),
    ("student.top_p", 0.0),
    ("student.top_p", 1.5),
    ("student.grid", "linear"),
    ("student.grid_points", 1),
    ("student.draws", 0),
    ("student.order", "random"),
    ("student.order_trials", -1),
    ("student.potentials", -1),
    ("student.potentials", 2),
    ("student.coupling.name", "independent"),
    ("student.coupling.generator", "sobol"),
    ("student.coupling.generator", "pattern"),
    ("student.coupling.shape", (3,)),
    ("distill.objective", "kl"),
    ("distill.steps", -1),
    ("distill.steps", 15),
    ("distill.batch_size", 0),
    ("distill.batch_size", 20),
    ("distill.draws", 0),
    ("distill.learning_rate", -1.0),
    ("distill.learning_rate", NAN),
    ("distill.checkpoint_every", 0),
    ("distill.reverse_share", 2.0),
    ("distill.alignment.radius", -1.0),
    ("evaluation.num_samples", 0),
    ("evaluation.batch_size", 0),
    ("evaluation.held_out", -1),
    ("evaluation.weighted", -1),
    ("evaluation.paths", 0),
    ("evaluation.reference_steps", -1),
    ("evaluation.temperatures", (-1.0,)),
    ("evaluation.temperatures", ("warm",)),
    ("evaluation.resamples", -1),
    ("evaluation.floor_draws", -1),
    ("evaluation.features", "inception"),
    ("evaluation.scorer", "none.safetensors"),
    ("evaluation.protocol", "bert"),
    ("tasks", ("countdown",)),
    ("samplers", ("euler",)),
    ("samplers", (("Euler", (("student.kernle", "euler"),), "euler"),)),
    ("stream", "{sampler}"),
]
TRAIN = [
    ("training.loss", "mse"),
    ("training.steps", 0),
    ("training.batch_size", 0),
    ("training.batch_size", -8),
    ("training.microbatch", 3),
    ("training.learning_rate", 0.0),
    ("training.learning_rate", NAN),
    ("training.warmup_steps", -1),
    ("training.decay_share", 2.0),
    ("training.weight_decay", -0.1),
    ("training.ema_decay", 1.5),
    ("training.checkpoint_every", 0),
    ("training.validate_every", 0),
    ("training.validation_sequences", 0),
    ("model.dim", 0),
    ("model.heads", 5),
    ("model.depth", 0),
    ("model.mlp_ratio", 0),
    ("model.name", "unet"),
]
VERIFY = [
    ("verify.perplexity", 0.0),
    ("verify.perplexity", NAN),
    ("verify.path", "none.txt"),
    ("verify.sequences", 0),
    ("verify.tolerance", -1.0),
]


def small(field, value, **more):
    config = countdown.get_config()
    config.update_from_flattened_dict(SMALL | more)
    *parents, last = field.split(".")
    section = config
    for name in parents:
        section = section[name]
    with section.ignore_type():
        section[last] = value
    return config


def refused(config, stage, workdir):
    """The one line that a stage ends with, having made nothing."""
    with pytest.raises((InputError, FileNotFoundError)) as caught:
        stages.run(config, workdir, stage, "")
    assert not workdir.exists() and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("field", "value"), ALL)
def test_a_run_names_the_field_before_any_work(tmp_path, field, value):
    message = refused(small(field, value), "all", tmp_path / "run")
    section, _, last = field.rpartition(".")
    assert message.startswith(f"config.{section}") and last in message


@pytest.mark.parametrize(("field", "value"), TRAIN)
def test_training_names_the_field(tmp_path, field, value):
    message = refused(
        small(field, value, **({} if field == "model.name" else {"model.name": "ddit"})), "train", tmp_path / "r"
    )
    assert message.startswith("config.") and field.rpartition(".")[2] in message


@pytest.mark.parametrize(("field", "value"), VERIFY)
def test_verification_names_the_field(tmp_path, field, value):
    more = {} if field == "verify.perplexity" else {"verify.perplexity": 3.0}
    assert refused(small(field, value, **more), "verify", tmp_path / "r").startswith("config.verify.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "--stage=sample needs --student"),
        ({"student": "none.json"}, "student='none.json': no such file"),
        ({"name": "heun", "steps": 4}, "--sampler='heun': choose one of"),
        ({"name": "euler"}, "--sampler='euler' needs --steps=M"),
        ({"name": "euler", "steps": 2, "count": 0}, "--num_samples=0: must be 1"),
        ({"name": "euler", "steps": 2, "prompt": "ab"}, "--prompt='ab': a prompt needs characters"),
        (
            {"name": "euler", "steps": 2, "guidance": 2.0},
            "--guidance=2: says how much a prompt counts; give --prompt too",
        ),
    ],
)
def test_drawing_names_the_flag(tmp_path, arguments, message):
    with pytest.raises((InputError, FileNotFoundError), match=message):
        stages.sample(small("seed", 0), tmp_path, **arguments)


def test_the_output_s_folder_is_made_before_drawing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        stages.sample(small("seed", 0), tmp_path, name="euler", steps=2, output=str(tmp_path / "file" / "samples.txt"))


PROCESS = lsd.Absorbing(5, lsd.LogLinear())
MODEL = lsd.Diffusion.from_function(lambda tokens, t: jnp.zeros((*tokens.shape, 5)), PROCESS)
EULER, KEY, FEW = lsd.sampler("euler", steps=2), jax.random.key(0), lsd.TeacherSettings(steps=4, paths=8)


def distilled(**settings):
    return lsd.distill(MODEL, **{"steps": (2,), "length": 4, "teacher": FEW, **settings})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lsd.Absorbing(0, lsd.LogLinear()), "vocab_size=0: must be a whole number"),
        (lambda: lsd.Absorbing(lsd.LogLinear(), 5), "vocab_size=LogLinear"),
        (lambda: lsd.Uniform(5, "loglinear"), "noise='loglinear': must be a noise schedule"),
        (lambda: lsd.LogLinear(2.0), "noise.eps=2.0"),
        (lambda: lsd.Geometric(1.0, 0.5), "noise.sigma_min=1.0"),
        (lambda: lsd.Coupling("low_discrepancy", shape=(3,)), r"coupling.shape=\(3,\)"),
        (lambda: lsd.sample(MODEL, EULER, 0, 2, length=4), "key=int : must be one PRNG key"),
        (lambda: lsd.sample(MODEL, EULER, jax.random.split(KEY), 2, length=4), r"key=\w+ \(2,\): must be one"),
        (lambda: lsd.sample(MODEL, EULER, KEY, "8", length=4), "count='8': must be a whole number"),
        (lambda: lsd.sample(MODEL, EULER, KEY, 2.5, length=4), "count=2.5: must be"),
        (lambda: lsd.sample(MODEL, EULER, KEY, True, length=4), "count=True: must be"),
        (lambda: lsd.sample(MODEL, EULER, KEY, 2), "length=None"),
        (lambda: lsd.sample(MODEL, EULER, KEY, 2, length=4, batch_size="x"), "batch_size='x'"),
        (lambda: lsd.sampler("euler", 2, temperature="1"), "temperature='1': must be a number"),
        (lambda: lsd.sampler("euler", 2.0), "steps=2.0: must be a whole number"),
        (lambda: lsd.Diffusion.from_function(lambda tokens: tokens, PROCESS), "function=...: must be a function of"),
        (lambda: lsd.Diffusion.from_function(3, PROCESS), "function=...: must be a function of"),
        (lambda: lsd.distill("text", steps=(2,), length=4), "model=str: must be an lsd.Diffusion"),
        (lambda: distilled(teacher={"steps": 4}), "teacher=dict: must be lsd.TeacherSettings"),
        (lambda: distilled(student=FEW), "student=TeacherSettings: must be lsd.StudentSettings"),
        (lambda: distilled(teacher=lsd.TeacherSettings(steps="a")), "steps='a': must be a whole number"),
        (lambda: distilled(student=lsd.StudentSettings(coupling="iid")), "coupling=str: must be an lsd.Coupling"),
        (lambda: distilled(student=lsd.StudentSettings(grid_points=8.5)), "grid_points=8.5: must be a whole"),
        (lambda: distilled(folder=3), "folder=3: must be a path"),
        (lambda: distilled(folder="hdfs://host/run"), "folder='hdfs://host/run': must be a folder"),
        (lambda: distilled(steps=(2.5,)), "steps=2.5: must be a whole number"),
        (lambda: distilled(data=[[1, 2], [1]], teacher=None), "data=...: its sequences have several lengths"),
        (lambda: lsd.make_task("text"), "data=str: must be lsd.Data"),
        (lambda: lsd.Data(sequence_length=0), "sequence_length=0: must be 1 or more"),
        (lambda: lsd.make_task(lsd.Data(name="toy", sequence_length=2, path="a")), "path='a': toy reads no file"),
        (lambda: lsd.load_sampler(None), "path=None: must be a path"),
        (lambda: EULER.bound_to(MODEL, 4).save(3), "path=3: must be a path"),
    ],
)
def test_python_calls_name_the_parameter(call, message):
    with pytest.raises(InputError, match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_a_file_is_told_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="folder=.*file': is a file; name a folder"):
        distilled(folder=tmp_path / "file")


def test_functions_that_return_no_array_are_told():
    model = lsd.Diffusion.from_function(lambda tokens, t: None, PROCESS)
    with pytest.raises(InputError, match="function=...: returns NoneType; it must return an array"):
        lsd.sample(model, EULER, KEY, 2, length=4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("noise", "loglinear"),
        ("noise", {"name": "loglinear", "eps": "a"}),
        ("coupling", "golden"),
        ("coupling", {"name": "iid", "foo": 1}),
        ("coupling", None),
        ("kernel", ["euler"]),
        ("process", ["absorbing"]),
        ("top_p", "a"),
        ("time_grid", ["1", "a", "0"]),
        ("coefficients", [float("inf"), 1.0]),
        ("potentials", "x"),
        ("potentials", [{"step": 0.5, "distance": 1, "log_potential": [[0.0] * 8] * 8}]),
        ("potentials", [{"step": 0, "distance": 1.5, "log_potential": [[0.0] * 8] * 8}]),
        ("potentials", [{"step": 0, "distance": 4, "log_potential": [[0.0] * 8] * 8}]),
        ("nfe", -1),
        ("vocab_size", 10**30),
        ("steps", 3),
    ],
)
def test_a_student_s_file_names_the_field(tmp_path, field, value):
    path = tmp_path / "student.json"
    EULER.bound_to(MODEL, 4).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    named = "time_grid" if field == "steps" else field
    with pytest.raises(InputError, match=f"student=.*'{named}'"):
        lsd.load_sampler(path)


def test_files_that_are_no_student(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="is not JSON"):
        lsd.load_sampler(tmp_path / "deep.json")
    with pytest.raises(FileNotFoundError, match="is not a file"):
        lsd.load_sampler(tmp_path)


def test_damaged_records_of_a_run_are_named(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError, match=r"path=.*a.json': is no record of a cell; delete it"):
        records.read_rows(tmp_path)
    (tmp_path / "a.npz").touch()
    with pytest.raises(InputError, match=r"path=.*a.npz': is damaged .*delete it and its .json"):
        records.read_arrays(tmp_path / "a.npz")
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(InputError, match=r"path=.*config.json': holds no config of a run"):
        records.claim(tmp_path, {})


@pytest.mark.parametrize(
    ("flags", "environment", "message"),
    [
        (["--num_processes=2"], {}, "error: --num_processes: goes with --distributed"),
        (["--guidance=2"], {}, "error: --guidance: goes with --stage=sample"),
        (["--prompt=a", "--stage=report"], {}, "error: --prompt: goes with --stage=sample"),
        (["--distributed"], {}, "error: --distributed: .*give --coordinator"),
        (
            ["--stage=sample", "--sampler=euler", "--steps=2"],
            {"JAX_PLATFORMS": "cuda"},
            "error: JAX_PLATFORMS='cuda': ",
        ),
    ],
)
def test_processes_and_devices_in_one_line(tmp_path, flags, environment, message):
    command = [sys.executable, "-m", "lsd_jax.main", "--config=countdown", f"--workdir={tmp_path / 'r'}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 1 and re.match(message, done.stderr.splitlines()[-1]), done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_a_mixture_of_patterns_is_a_value():
    config = countdown.get_config()
    for rows in ((1, 0), ((0, 1), (1, 0))):
        config.student.coupling.pattern = rows
        check_values(config)
    config.student.coupling.pattern = ((0, "a"), (1, 0))
    with pytest.raises(InputError, match=r"^config\.student\.coupling\.pattern=.*'a' is not a number"):
        check_values(config)
