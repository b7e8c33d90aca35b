"""Bad input of every kind and stage ends in one line that names the field, before any long work."""

import pytest

from lsd_jax.configs import countdown
from lsd_jax.errors import InputError
from lsd_jax.experiment import stages

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
    ("nfe", (0,)),
    ("cpu_devices", -1),
    ("data.name", "shakespeare"),
    ("data.path", "none.txt"),
    ("data.sequence_length", 0),
    ("data.vocab_size", 0),
    ("data.vocab_size", 1),
    ("data.mix", -0.1),
    ("data.mix", 2.0),
    ("data.shape", (1, 4, 4)),
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
    ("teacher.paths", 0),
    ("teacher.paths", 10**9),
    ("teacher.cache", "none.npz"),
    ("student.steps", ()),
    ("student.steps", (0,)),
    ("student.steps", ("four",)),
    ("student.steps", (4.5,)),
    ("student.steps", (200,)),
    ("student.kernel", "heun"),
    ("student.coefficient", "probability"),
    ("student.temperature", -1.0),
    ("student.temperature", NAN),
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
    ],
)
def test_drawing_names_the_flag(tmp_path, arguments, message):
    with pytest.raises((InputError, FileNotFoundError), match=message):
        stages.sample(small("seed", 0), tmp_path, **arguments)


def test_the_output_s_folder_is_made_before_drawing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        stages.sample(small("seed", 0), tmp_path, name="euler", steps=2, output=str(tmp_path / "file" / "samples.txt"))
