"""A plain run as a user meets it: a tiny run of everything, resuming, sampling, and bad input."""

import dataclasses
import json
import pathlib
import shutil

import pytest

import lsd_jax as lsd
from lsd_jax.configs import characters
from lsd_jax.configs import molecules as molecule_configs
from lsd_jax.experiment import build, stages
from lsd_jax.experiment.records import read_rows
from lsd_jax.experiment.report import page
from lsd_jax.models import weights
from lsd_jax.tasks import molecules, smiles
from tests.experiment.tiny import tiny

# One student: of several at once tests/distill/test_distill_verb.py, and of several budgets the slow test below.
ONE = {"student.steps": (4,)}
STAGED = {"student.kernel": "maskgit", "student.coupling.name": "iid", "student.order": "fixed"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run directory, and what the run printed."""
    run = tmp_path_factory.mktemp("plain") / "run"
    stages.run(tiny(**ONE), run, "all", command="test")
    return run


def by_name(run):
    return {(row["sampler"], row["budget"]): row for row in read_rows(run / "cells")}


def test_everything_from_teacher_to_report(finished):
    record = json.loads((finished / "students" / "M4" / "student.json").read_text())
    assert record["nfe"] == record["steps"] == 4 and record["provenance"]["command"] == "test"
    rows = by_name(finished)
    assert set(rows) == {
        *((name, nfe) for name in ("path-KL student", "Euler", "Tweedie", "Euler, T=0.8") for nfe in (4,)),
        ("real data", 0),
        ("Euler", 8),
    }
    assert rows["Euler", 8]["nfe"] == 8 and rows["path-KL student", 4]["samples"] == 64
    assert rows["path-KL student", 4]["path_kl_nats"][0] < rows["Euler", 4]["path_kl_nats"][0]
    assert (finished / "report" / "index.html").stat().st_size > 50_000


def test_a_second_start_finds_everything_done_and_makes_a_lost_cell_again(finished, capsys):
    lost = next((finished / "cells").glob("*__euler__4__*.json"))
    before, others = (
        json.loads(lost.read_text()),
        {f: f.stat().st_mtime_ns for f in (finished / "cells").glob("*.json")},
    )
    lost.unlink()
    stages.run(tiny(**ONE), finished, "all", command="test")
    printed = capsys.readouterr().out
    assert "path-KL student" in printed and "NFE" in printed
    untimed = lambda record: {k: v for k, v in record.items() if k not in ("seconds", "seconds_per_sequence")}
    assert untimed(json.loads(lost.read_text())) == untimed(before)
    assert all(file.stat().st_mtime_ns == when for file, when in others.items() if file != lost)


def test_a_finished_student_samples_without_its_run(finished, tmp_path, capsys):
    student = str(finished / "students" / "M4" / "student.json")
    stages.sample(tiny(), tmp_path / "other", student=student, count=3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and len(lines[0].split()) == 24
    output = str(tmp_path / "s.txt")
    stages.sample(tiny(), tmp_path / "other", student=student, count=3, output=output)
    assert pathlib.Path(output).read_text().splitlines() == lines
    with pytest.raises(FileExistsError, match="exists"):
        stages.sample(tiny(), tmp_path / "other", student=student, count=3, output=output)
    with pytest.raises(ValueError, match="noise"):
        stages.sample(tiny(**{"process.noise.eps": 0.01}), tmp_path / "other", student=student, count=3)
    with pytest.raises(ValueError, match="process"):
        stages.sample(tiny(**{"process.name": "uniform"}), tmp_path / "other", student=student, count=3)


def test_another_experiment_neither_resumes_from_a_run_nor_writes_over_it(finished, tmp_path):
    with pytest.raises(FileExistsError, match=r"config\.seed"):
        stages.run(tiny(**ONE, seed=1), finished, "all", command="test")
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="holds no run"):
        stages.run(tiny(), tmp_path, "all", command="test")
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_a_student_with_potentials_is_distilled_optimized_and_samples(tmp_path, capsys):
    config = tiny(**{"student.steps": (2,), "student.potentials": 32})
    stages.run(config, tmp_path / "run", "distill", command="test")
    student = tmp_path / "run" / "students" / "M2" / "student.json"
    metrics = json.loads(student.read_text())["metrics"]
    assert metrics["potential_nats"] <= metrics["independent_nats"] and "optimize_gain" in metrics
    capsys.readouterr()
    stages.sample(config, tmp_path / "other", student=str(student), count=3)
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student.steps": (25,)}, r"config\.student\.steps=25"),
        ({"student.steps": (0,)}, r"config\.student\.steps=\(0,\)"),
        ({"student.steps": (2, 9), "student.grid_points": 4}, r"config\.student\.steps=9.*grid_points"),
        ({"seed": -1}, r"config\.seed=-1"),
        ({"evaluation.temperatures": (-0.5,)}, r"config\.evaluation\.temperatures=\(-0\.5,\)"),
        ({"evaluation.num_samples": 0}, r"config\.evaluation\.num_samples=0"),
        ({"evaluation.batch_size": 0}, r"config\.evaluation\.batch_size=0"),
        ({"student.kernel": "heun"}, r"config\.student\.kernel"),
        ({"student.coupling.name": "halton"}, r"config\.student\.coupling\.name"),
        ({"student.grid": "random"}, r"config\.student\.grid"),
        ({"process.name": "masking"}, r"config\.process\.name"),
        ({"process.noise.name": "pink"}, r"config\.process\.noise\.name"),
        ({"process.name": "uniform"}, r"config\.student\.order"),
        ({"student.order": "random"}, r"config\.student\.order"),
        ({"student.coupling.generator": "r2"}, r"config\.student\.coupling\.shape"),
        (
            {"student.coupling.generator": "dither", "student.coupling.shape": (4, 4)},
            r"config\.student\.coupling\.shape=\(4, 4\): does not hold 24",
        ),
        ({"student.temperature": -1.0}, r"config\.student\.temperature"),
        ({"teacher.source": "web"}, r"config\.teacher\.source"),
        ({"teacher.paths": 12}, r"config\.teacher\.paths=12: is not divisible by 8 devices"),
        (
            {"distill.objective": "score_alignment", "distill.alignment.radius": 1.1},
            r"config\.distill\.alignment\.radius",
        ),
        ({"distill.objective": "mse"}, r"config\.distill\.objective"),
        ({"distill.batch_size": 7}, r"config\.distill\.batch_size=7: must be a multiple of 8 devices"),
        ({"distill.steps": 15}, r"config\.distill\.steps=15: must be a multiple of 10"),
        ({"distill.objective": "kl_mix", "distill.reverse_share": 2.0}, r"config\.distill\.reverse_share=2"),
        ({"data.name": "c4"}, r"config\.data\.name"),
        ({"data.mix": 2.0}, r"config\.data\.mix"),
        ({"model.name": "gpt"}, r"config\.model\.name"),
        ({"model.name": "ddit", "model.dim": 30, "model.heads": 4}, r"config\.model\.dim"),
        ({"student.potentials": 33}, r"config\.student\.potentials=33: is more"),
        (
            {"student.potentials": 8, "process.name": "uniform", "student.order": "fixed"},
            r"config\.student\.potentials=8: under uniform noise need coupling.name='iid'",
        ),
        ({"student.potentials": 2}, r"config\.student\.potentials=2"),
        ({"student.potentials": 8, "distill.objective": "kl_mix"}, r"config\.student\.potentials=8: go with objective"),
        ({"training.loss": "autoregressive"}, r"config\.training\.loss"),
        ({"student.top_p": 0.0}, r"config\.student\.top_p"),
        ({"student.grid": "jys", "student.steps": (6,)}, r"\[6\] holds no power of two"),
        ({"student.kernel": "maskgit"}, r"config\.student\.coupling\.name='low_discrepancy': must be 'iid'"),
        ({"student.kernel": "maskgit", "student.coupling.name": "iid"}, r"config\.student\.order='auto'"),
        ({**STAGED, "student.potentials": 8}, r"config\.student\.potentials=8: kernel 'maskgit' draws in stages"),
        (
            {**STAGED, "distill.objective": "score_alignment", "distill.alignment.gradient": "unrolled"},
            r"config\.distill\.alignment\.gradient='unrolled'",
        ),
        (
            {**STAGED, "student.kernel": "cached", "model.name": "ddit", "model.time_conditioned": True},
            r"config\.student\.kernel='cached'.*time_conditioned=False",
        ),
    ],
)
def test_bad_config_is_told_before_any_work(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as found:
        stages.run(tiny(**changes), tmp_path / "run", "all", command="test")
    assert "\n" not in str(found.value) and not (tmp_path / "run").exists()


def test_bad_text_input_is_told_before_any_work(tmp_path):
    config = characters.get_config()
    config.data.path = str(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match=r"config\.data\.path"):
        stages.run(config, tmp_path / "run", "all", command="test")
    (tmp_path / "accents.txt").write_text("déjà vu " * 50_000)
    config.data.path = str(tmp_path / "accents.txt")
    with pytest.raises(ValueError, match=r"config\.data\.path.*'é' at position 1"):
        stages.run(config, tmp_path / "run", "all", command="test")
    config = characters.get_config()
    config.model.weights = str(tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match=r"config\.model\.weights=.*none\.safetensors"):
        stages.run(config, tmp_path / "run", "all", command="test")
    assert not (tmp_path / "run").exists()


def test_a_report_needs_cells(tmp_path):
    with pytest.raises(FileNotFoundError, match="evaluate"):
        page.build(tmp_path, {}, [], page.ReportSettings(), "nothing")


@pytest.mark.slow
def test_any_kernel_can_be_a_student(tmp_path):
    """Grid and parameters by the stand-in; calls that were made; an ELBO where the kernel has a likelihood of its own."""
    changes = {
        "student.order": "fixed",
        "student.coupling.name": "iid",
        "student.steps": (2, 4),
        "evaluation.temperatures": (),
        "evaluation.resamples": 0,
        "evaluation.reference_steps": 0,
    }
    for kernel, grid in (("remdm_cap", "jys"), ("margin", "optimal")):
        run = tmp_path / kernel
        stages.run(tiny(**changes, **{"student.kernel": kernel, "student.grid": grid}), run, "all", command="test")
        record = json.loads((run / "students" / "M4" / "student.json").read_text())
        assert record["kernel"] == kernel and record["nfe"] == 4 and record["provenance"]["grid"] == grid
        rows = by_name(run)
        own = rows["path-KL student", 4]
        assert ("bound_bits" in own) == (kernel == "margin") and "bound_bits" in rows["Euler", 4]
        assert "path_kl_nats" not in own and own["nfe"] == 4 and "wrong_per_transition" in own


def test_a_network_of_as_many_but_other_tokens_is_refused(tmp_path):
    """A file may have as many tokens as QM9 by chance."""
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install rdkit")
    file = tmp_path / "isotopes.smi"
    file.write_text("\n".join(f"{'C' * length}[{10 + mass}CH3]" for mass in range(29) for length in range(1, 6)))
    config = molecule_configs.get_config("tiny")
    config.data.path = str(file)
    message = r"config\.model\.weights='qm9.safetensors': knows other tokens .* '#', in the data 'C'"
    with pytest.raises(lsd.InputError, match=message):
        stages.run(config, tmp_path / "run", "all", command="test")
    with pytest.raises(lsd.InputError, match=message):
        stages.sample(config, tmp_path / "run", name="any_order", steps=22)
    assert not (tmp_path / "run").exists()


def test_where_a_network_was_trained_another_one_is_not_used_silently(tmp_path):
    config = characters.get_config()
    own = tmp_path / build.TRAINED
    own.parent.mkdir(parents=True)
    own.write_bytes(weights.resolve("digits_features.safetensors").read_bytes())
    message = "holds a network that was trained there. To use it, .* --config.model.weights="
    with pytest.raises(lsd.InputError, match=message):
        stages.sample(config, tmp_path, name="euler", steps=2)
    config.verify.perplexity = 3.0
    with pytest.raises(lsd.InputError, match=message):
        stages.verify(config, tmp_path)


def test_a_nucleus_is_kept_in_the_file(tmp_path, capsys):
    config = tiny(**{"student.steps": (2,), "student.top_p": 0.9, "distill.steps": 0, "student.order": "fixed"})
    stages.run(config, tmp_path / "run", "distill", command="test")
    student = tmp_path / "run" / "students" / "M2" / "student.json"
    assert json.loads(student.read_text())["top_p"] == 0.9
    capsys.readouterr()
    stages.sample(config, tmp_path / "other", student=str(student), count=2)
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("sampler", ["any_order", "cached"])
def test_a_prompt_is_continued_and_filled_in_by_any_sampler(tmp_path, capsys, sampler):
    stages.sample(characters.get_config(), tmp_path, name=sampler, steps=8, count=2, prompt="the pres_dent of ")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(len(line) == 128 for line in lines)
    assert all(line.startswith("the pres") and line[9:17] == "dent of " and "_" not in line for line in lines)


def test_guidance_weighs_a_prompt_and_costs_a_second_evaluation(tmp_path, capsys, caplog):
    arguments = {"name": "euler", "steps": 4, "count": 2, "prompt": "the pres_dent of "}
    found = {}
    for strength in (1.0, 1.0 + 1e-6, 3.0):
        with caplog.at_level("INFO"):
            stages.sample(characters.get_config(), tmp_path, guidance=strength, **arguments)
        found[strength] = capsys.readouterr().out
        assert all(line.startswith("the pres") and line[9:17] == "dent of " for line in found[strength].splitlines())
    assert found[1.0] == found[1.0 + 1e-6] != found[3.0]
    assert "2 samples, 4 network evaluations each" in caplog.text and "8 network evaluations each" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "heun", "steps": 4}, "--sampler='heun': choose one of"),
        ({"name": "euler", "steps": 4, "guidance": 2.0}, "--guidance=2: says how much a prompt counts; give --prompt"),
        ({"name": "uniformization", "steps": 4}, "--sampler='uniformization' is defined for"),
        ({"name": "euler"}, "--sampler='euler' needs --steps"),
        ({"name": "euler", "steps": 4, "prompt": "The"}, "--prompt='The': .*'T'"),
        ({"name": "euler", "steps": 4, "prompt": "a" * 129}, "--prompt=.*129"),
        ({}, "--stage=sample needs"),
    ],
)
def test_bad_requests_for_samples(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        stages.sample(characters.get_config(), tmp_path, **arguments)


def test_samples_do_not_come_from_another_network_than_the_run_trained(tmp_path):
    (tmp_path / build.TRAINED).parent.mkdir()
    (tmp_path / build.TRAINED).touch()
    with pytest.raises(
        lsd.InputError, match=r"config.model.weights='text_teacher.safetensors': .* holds a network that was"
    ):
        stages.sample(characters.get_config(), tmp_path, name="euler", steps=2)
    model = lsd.load_model("text")
    student = dataclasses.replace(lsd.sampler("tweedie", 2), facts={"backbone": model.identity._asdict()})
    student.bound_to(model, 128).save(tmp_path / "student.json")
    config = characters.get_config()
    stages.sample(config, tmp_path, student=str(tmp_path / "student.json"), count=1)  # the student says which is meant
    own = tmp_path / build.TRAINED
    shutil.copy(weights.resolve("text_scorer.safetensors"), own)
    stages.sample(config, tmp_path, name="euler", steps=2, count=1)  # a scorer is not what is drawn from
    shutil.copy(weights.resolve(config.model.weights), own)
    config.model.weights = str(own)
    stages.sample(config, tmp_path, name="euler", steps=2, count=1)


def test_the_pad_is_a_token_as_any_other_under_uniform_noise_alone():
    config = molecule_configs.get_config("qm9_uniform")
    assert build.process_of(config) == lsd.Uniform(31, lsd.LogLinear())
    config.process.name = "gaussian"
    with pytest.raises(lsd.InputError, match="name='gaussian': sequences of molecules have lengths of their own"):
        build.process_of(config)


@pytest.mark.parametrize("variant", [*molecule_configs._SETS, "tiny"])
def test_figures_of_molecules_show_samplers_that_there_are(variant):
    config = molecule_configs.get_config(variant)
    assert set(config.report.figure_samplers) <= {name for name, *_ in config.samplers} or variant == "tiny"


def test_a_prompt_needs_characters(tmp_path):
    with pytest.raises(ValueError, match=r"--prompt='abc': .*countdown"):
        stages.sample(tiny(), tmp_path, name="euler", steps=2, prompt="abc")


def test_molecules_are_sampled_without_their_data(tmp_path, capsys, monkeypatch):
    """The lengths are those of the network's card, or of the student's file."""
    monkeypatch.setattr(molecules, "read_splits", lambda name: pytest.fail("the data set is not needed"))
    config = molecule_configs.get_config("qm9")
    stages.sample(config, tmp_path, name="euler", steps=2, count=8)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and len({len(line) for line in lines}) > 1
    five = lsd.Absorbing(31, lsd.LogLinear(), [0.0] * 5 + [1.0] + [0.0] * 17)
    student = lsd.sampler("tweedie", 2).bound_to(lsd.load_model("ddit", "qm9.safetensors", five))
    student.save(tmp_path / "student.json")
    stages.sample(config, tmp_path, student=str(tmp_path / "student.json"), count=4)
    drawn = capsys.readouterr().out.splitlines()
    assert len(drawn) == 4 and all(len(smiles.tokenize(line)) == 5 for line in drawn)
