"""student.json: a saved sampler draws what it drew, and what is wrong with a file is told by its field."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.model import Diffusion
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.potentials import Factors
from lsd_jax.processes.process import Process, make_process
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.file import load_sampler, process_of, read
from lsd_jax.samplers.record import describe
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler, sampler
from lsd_jax.samplers.schedule import Schedule, StepParameters
from lsd_jax.samplers.simulate import sample

S, L, M = 5, 16, 4
FACTS = {"backbone": {"kind": "toy", "id": "x", "sha256": ""}, "provenance": {"seed": 3}, "metrics": {"cost_nats": 1.5}}


def looks_around(x, t):
    """A network of sorts: what it says of a position depends on all the others."""
    context = jnp.where(x == S, 0, x + 1).sum(-1, keepdims=True)[..., None]
    frequency = jnp.arange(S)[None, None] * (1.0 + jnp.arange(x.shape[-1]))[None, :, None]
    return jnp.sin(context + frequency)


PROCESSES = {
    "absorbing": make_process("absorbing", S, make_noise("loglinear", eps=1e-2)),
    "uniform": make_process("uniform", S, make_noise("cosine")),
    "gaussian": make_process("gaussian", S, make_noise("exponential", time_base=0.3), rate_sigma=1.5, q_sigma=4.0),
}
MODELS = {name: Diffusion.from_function(looks_around, process) for name, process in PROCESSES.items()}


def learned(kernel: str, process: Process, coupling: Coupling = IID, reach: int = 0, **settings) -> Sampler:
    """A sampler with a grid, coefficients and temperatures of its own, and potentials up to `reach`."""
    grid, rng = jnp.asarray([1, 0.8, 0.5, 0.2, 0], jnp.float32), np.random.default_rng(0)
    tables = np.round(rng.normal(size=(M, reach, S, S)), 4).astype(np.float32) if reach else None
    tables = tables if tables is None else jnp.asarray(tables).at[1, 0].set(0.0)
    log_coefficient, log_temperature = (jnp.asarray(rng.normal(0, 0.2, M), jnp.float32) for _ in range(2))
    params = StepParameters(log_coefficient, log_temperature, log_potential=tables, **settings)
    return Sampler(Schedule(grid, params), get_kernel(kernel), coupling, L, process, FACTS)


# What may differ between samplers, each once.
CASES = {
    "spread": ("tweedie", "absorbing", Coupling("low_discrepancy"), 0, {}),
    "pattern": ("euler", "absorbing", Coupling("low_discrepancy", "pattern", (0, 2, 1, 3)), 0, {}),
    "plane": ("ancestral", "absorbing", Coupling("low_discrepancy", "dither", shape=(4, 4)), 0, {}),
    "potentials": ("tweedie", "absorbing", Coupling("low_discrepancy"), 3, {}),
    "log_score": ("ancestral", "absorbing", Coupling(), 0, {"coefficient": "log_score", "top_p": 0.8}),
    "staged": ("theta_trapezoidal", "uniform", Coupling(), 0, {}),
    "uniform potentials": ("tweedie", "uniform", Coupling(), 1, {}),
    "gaussian": ("tau_leaping", "gaussian", Coupling(), 0, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_saved_sampler_draws_what_it_drew(tmp_path, case):
    kernel, name, coupling, reach, settings = CASES[case]
    ours = learned(kernel, PROCESSES[name], coupling, reach, **settings)
    ours.save(tmp_path / "deep" / "student.json")
    loaded = load_sampler(tmp_path / "deep" / "student.json")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["student.json"]
    assert loaded.facts == FACTS and loaded.nfe == ours.nfe
    loaded.save(tmp_path / "again.json")
    twice = load_sampler(tmp_path / "again.json")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, loaded)
    drawn, *others = (sample(MODELS[name], each, jax.random.key(1), 32) for each in (ours, loaded, twice))
    assert drawn.shape == (32, L) and len(np.unique(drawn)) > 1
    for other in others:
        np.testing.assert_array_equal(drawn, other)


def test_the_record_names_every_field():
    record = learned("tweedie", PROCESSES["absorbing"], Coupling("low_discrepancy"), 2).record()
    assert json.loads(json.dumps(record)) == record
    assert record["format"] == "lsd_jax.student/1" and record["process"] == "absorbing" and record["nfe"] == M
    assert record["noise"] == {"name": "loglinear", "eps": 1e-2} and record["vocab_size"] == S
    assert record["coupling"] == {"name": "low_discrepancy", "generator": "golden"}
    assert record["time_grid"][0] == 1 and len(record["coefficients"]) == len(record["temperatures"]) == M
    assert "top_p" not in record and {key: record[key] for key in FACTS} == FACTS
    # Tables that are all zero are left out.
    places = {(entry["step"], entry["distance"]) for entry in record["potentials"]}
    assert places == {(k, d) for k in range(M) for d in (1, 2)} - {(1, 1)}


def test_a_sampler_by_name_has_a_file_once_it_is_bound(tmp_path):
    plain, model = sampler("euler", 3, temperature=0.9), MODELS["absorbing"]
    with pytest.raises(ValueError, match="^sampler='euler': only a distilled sampler, or one bound to a model"):
        plain.save(tmp_path / "s.json")
    plain.bound_to(model, 8).save(tmp_path / "s.json")
    drawn = sample(model, load_sampler(tmp_path / "s.json"), jax.random.key(0), 8)
    np.testing.assert_array_equal(drawn, sample(model, plain, jax.random.key(0), 8, length=8))
    events = sampler("first_hitting", 8).bound_to(model, 8)
    with pytest.raises(ValueError, match="^sampler='first_hitting'"):
        events.save(tmp_path / "s.json")


def test_files_of_earlier_versions_call_potentials_neighbours(tmp_path):
    record = learned("tweedie", PROCESSES["absorbing"], reach=2).record()
    (tmp_path / "new.json").write_text(json.dumps(record))
    record["neighbours"] = record.pop("potentials")
    (tmp_path / "old.json").write_text(json.dumps(record))
    new, old = (load_sampler(tmp_path / name) for name in ("new.json", "old.json"))
    assert new.schedule.params.log_potential.shape == (M, 2, S, S)
    jax.tree.map(np.testing.assert_array_equal, new, old)


def test_factors_of_potentials_come_back(tmp_path):
    rng = np.random.default_rng(0)
    factors = Factors(
        *(np.round(rng.normal(size=shape), 4).astype(np.float32) for shape in ((M, 2, S, 3), (M, 2, 3, S)))
    )
    ours = learned("tweedie", PROCESSES["absorbing"])
    params = dataclasses.replace(ours.schedule.params, log_potential=jax.tree.map(jnp.asarray, factors))
    ours = dataclasses.replace(ours, schedule=dataclasses.replace(ours.schedule, params=params))
    ours.save(tmp_path / "student.json")
    loaded = load_sampler(tmp_path / "student.json")
    jax.tree.map(np.testing.assert_array_equal, loaded.schedule.params.log_potential, params.log_potential)


def test_only_a_file_with_lengths_needs_a_reader_of_them():
    several = dataclasses.replace(PROCESSES["absorbing"], lengths=(0.0,) * L + (1.0,))
    assert learned("tweedie", several).record()["format"] == "lsd_jax.student/2"
    assert learned("tweedie", PROCESSES["absorbing"]).record()["format"] == "lsd_jax.student/1"


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_comes_back_from_its_fields(name):
    described = json.loads(json.dumps(describe(PROCESSES[name])))
    assert process_of(described) == PROCESSES[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "'format'"),
        ({"time_grid": [1.0, 0.5, 0.6, 0.0]}, "'time_grid'"),
        ({"time_grid": [1.0, 0.5, 0.0]}, "'time_grid'"),
        ({"temperatures": [1.0, -1.0, 1.0]}, "'temperatures'"),
        ({"coefficients": [1.0, 1.0]}, "'coefficients' needs 3 positive, finite values"),
        ({"kernel": "heun"}, "kernel='heun': choose one of"),
        ({"coefficient": "both"}, "'coefficient'"),
        ({"steps": "three"}, "'steps' is not a whole number above 0"),
        ({"sequence_length": 0}, "'sequence_length'"),
        ({"coupling": {"nom": "iid"}}, "nom"),
        (
            {"coupling": {"name": "low_discrepancy", "generator": "dither", "shape": [2, 2]}},
            "does not hold 8 positions",
        ),
        ({"temperatures": [1.0, "warm", 1.0]}, "warm"),
        ({"top_p": 0}, "'top_p'"),
        ({"process": "gaussian", "kernel": "tweedie"}, "kernel='tweedie': is defined for"),
        ({"kernel": "maskgit", "coupling": {"name": "shared"}}, "coupling.name='shared': must be 'iid'"),
        ({"potentials": [{"step": 3, "distance": 1, "log_potential": np.zeros((S, S)).tolist()}]}, "step or distance"),
        ({"neighbours": [{"step": 0, "distance": 1, "log_potential": [[0.0]]}]}, "tables of 5 times 5"),
        (
            {"potentials": [{"step": 0, "distance": 1, "left": [[0.0]] * S, "own": [[0.0]]}]},
            "factors of 5 times R and R times 5",
        ),
        (
            {
                "potentials": [
                    {"step": k, "distance": 1, "left": [[0.0] * (1 + k)] * S, "own": [[0.0] * S] * (1 + k)}
                    for k in (0, 1)
                ]
            },
            "factors of several ranks",
        ),
    ],
)
def test_bad_files_are_named(tmp_path, change, message):
    record = sampler("euler", 3).bound_to(MODELS["absorbing"], 8).record()
    (tmp_path / "s.json").write_text(json.dumps(record | change))
    with pytest.raises(ValueError, match=f"^student='.*s.json': .*{message}") as caught:
        read(tmp_path / "s.json")
    assert "\n" not in str(caught.value)


def test_missing_fields_truncated_and_missing_files(tmp_path):
    path = tmp_path / "s.json"
    sampler("euler", 3).bound_to(MODELS["absorbing"], 8).save(path)
    record = json.loads(path.read_text())
    del record["noise"], record["nfe"]
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"^student='.*s\.json': missing fields \['noise', 'nfe'\]"):
        load_sampler(path)
    path.write_text('{"format": "lsd_jax.st')
    with pytest.raises(ValueError, match="is not JSON"):
        load_sampler(path)
    with pytest.raises(FileNotFoundError, match=r"^student='.*none\.json': no such file"):
        load_sampler(tmp_path / "none.json")


def test_a_loaded_sampler_is_for_its_process_and_length(tmp_path):
    learned("euler", PROCESSES["absorbing"]).save(tmp_path / "s.json")
    loaded = load_sampler(str(tmp_path / "s.json"))
    other = dataclasses.replace(MODELS["absorbing"], process=make_process("absorbing", S, make_noise("loglinear")))
    with pytest.raises(ValueError, match="^process=.*distilled for"):
        sample(other, loaded, jax.random.key(0), 1)
    with pytest.raises(ValueError, match="^length=8: .*distilled for 16 tokens"):
        sample(MODELS["absorbing"], loaded, jax.random.key(0), 1, length=8)
