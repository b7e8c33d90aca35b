"""Diffusion models: what a network's output is read as, what it is told of the time, and what a pytree holds."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.model import OUTPUTS, UNNAMED, Diffusion, Identity
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process

S = 4
PROCESSES = {
    "absorbing": make_process("absorbing", S, make_noise("loglinear")),
    "uniform": make_process("uniform", S, make_noise("loglinear")),
    "gaussian": make_process("gaussian", S, make_noise("exponential", time_base=0.3, min_time=0.1), q_sigma=3.0),
}


@dataclasses.dataclass(frozen=True)
class Network:
    """What `Diffusion.from_flax` needs of a module: its logits are its parameters plus the time it is told."""

    def apply(self, params: Any, x_BL: jax.Array, time: jax.Array | None = None) -> jax.Array:
        logits_BLS = jnp.broadcast_to(params, (*x_BL.shape, S))
        return logits_BLS if time is None else logits_BLS + time


@dataclasses.dataclass(frozen=True)
class ReadsTime(Network):
    reads = "time"


LOGITS = np.random.default_rng(0).normal(size=(1, 1, S)).astype(np.float32)
X = {name: np.array([[process.num_states - 1, 0, 1]]) for name, process in PROCESSES.items()}
T = jnp.float32(0.6)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_is_read_as_what_it_is(name, output):
    process, x = PROCESSES[name], X[name]
    if name == "gaussian" and output in ("mean", "score"):
        with pytest.raises(ValueError, match=f"^output='{output}': has no meaning for the gaussian process"):
            Diffusion.from_function(lambda x, t: x, process, output)
        return
    logits_BLS = jnp.broadcast_to(LOGITS, (*x.shape, S))
    log_probs_BLS = jax.nn.log_softmax(logits_BLS)
    wanted = {
        "posterior": lambda: process.log_score(log_probs_BLS, x, T),
        "log_posterior": lambda: process.log_score(logits_BLS, x, T),
        "mean": lambda: process.log_score_of_mean(log_probs_BLS, x, T),
        "score": lambda: process.log_score_of_sedd(logits_BLS, x, process.noise.sigma_bar(T)),
        "log_score": lambda: logits_BLS,
    }[output]()
    by_function = Diffusion.from_function(lambda x, t: jnp.broadcast_to(LOGITS, (*x.shape, S)), process, output)
    by_module = Diffusion.from_flax(Network(), LOGITS, process, output, time_input="none")
    for model in (by_function, by_module):
        np.testing.assert_array_equal(model.log_score(x, T), wanted)


@pytest.mark.parametrize("name", PROCESSES)
def test_what_a_network_is_told_of_the_time(name):
    process, x = PROCESSES[name], X[name]

    def told(module, **settings):
        model = Diffusion.from_flax(module, jnp.zeros((1, 1, S)), process, "log_score", **settings)
        return float(model.log_score(x, T)[0, 0, 0]), model.time_conditioned

    sigma_bar = float(process.noise.sigma_bar(T))
    clock = 0.1 + 0.9 * float(T) if name == "gaussian" else float(T)  # tauLDR's starts at min_time
    assert told(Network()) == (pytest.approx(sigma_bar), True)
    assert told(Network(), time_input="sigma_bar") == (pytest.approx(sigma_bar), True)
    assert told(Network(), time_input="time") == told(ReadsTime()) == (pytest.approx(clock), True)
    assert told(ReadsTime(), time_input="none") == (0.0, False)


def test_unknown_outputs_and_time_inputs_are_told():
    process = PROCESSES["absorbing"]
    for make in (
        lambda: Diffusion.from_function(lambda x, t: x, process, "logits"),
        lambda: Diffusion.from_flax(Network(), (), process, "logits"),
    ):
        with pytest.raises(ValueError, match=r"^output='logits': choose one of \('posterior',"):
            make()
    with pytest.raises(ValueError, match="^time_input='clock': choose one of"):
        Diffusion.from_flax(Network(), (), process, time_input="clock")


def test_a_module_says_whether_it_reads_the_time():
    @dataclasses.dataclass(frozen=True)
    class Config:
        time_conditioned: bool

    @dataclasses.dataclass(frozen=True)
    class Configured(Network):
        config: Config = Config(False)

    model = lambda flag: Diffusion.from_flax(Configured(Config(flag)), LOGITS, PROCESSES["absorbing"])
    assert model(True).time_conditioned and not model(False).time_conditioned


def test_a_model_is_a_pytree_without_its_identity():
    identity = Identity("ddit", "w.safetensors", "ab")
    model = Diffusion.from_flax(Network(), {"w": jnp.asarray(LOGITS)}, PROCESSES["uniform"], "mean", identity=identity)
    leaves, structure = jax.tree.flatten(model)
    assert len(leaves) == 1 and model.identity == identity
    assert jax.tree.unflatten(structure, leaves).identity == UNNAMED
    # Equal networks share compilations, whatever they are called; another output, process or time input is another model.
    again = Diffusion.from_flax(Network(), {"w": jnp.zeros((1, 1, S))}, PROCESSES["uniform"], "mean")
    assert jax.tree.structure(again) == structure and hash(jax.tree.structure(again)) == hash(structure)
    for other in (
        Diffusion.from_flax(Network(), {"w": 0.0}, PROCESSES["uniform"], "posterior"),
        Diffusion.from_flax(Network(), {"w": 0.0}, PROCESSES["absorbing"], "mean"),
        Diffusion.from_flax(Network(), {"w": 0.0}, PROCESSES["uniform"], "mean", "time"),
        dataclasses.replace(again, time_conditioned=False),
    ):
        assert jax.tree.structure(other) != structure


def test_a_model_passes_through_jit_and_equal_ones_are_compiled_once():
    traces = []

    @jax.jit
    def run(model, x, t):
        traces.append(1)
        return model.log_score(x, t)

    process, x = PROCESSES["absorbing"], X["absorbing"]
    for scale in (1.0, 2.0):
        model = Diffusion.from_flax(Network(), scale * LOGITS, process, identity=Identity("a", str(scale)))
        np.testing.assert_allclose(run(model, x, T), model.log_score(x, T), rtol=1e-6)
    assert len(traces) == 1

    def function(x, t):
        return jnp.broadcast_to(LOGITS, (*x.shape, S))

    for _ in range(2):  # the same function object
        run(Diffusion.from_function(function, process), x, T)
    assert len(traces) == 2
    passed = jax.jit(lambda model: model)(model)
    assert isinstance(passed, Diffusion) and passed.process == process and passed.identity == UNNAMED


def test_one_time_per_sequence_frozen_answers_and_zeros_where_nothing_is_read():
    process = PROCESSES["absorbing"]
    model = Diffusion.from_function(lambda x, t: jnp.broadcast_to(LOGITS, (*x.shape, S)), process)
    x, times = jnp.array([[S, 0, 1], [S, S, 2]]), jnp.asarray([0.2, 0.7])
    found = model.log_scores(x, times)
    for row in range(2):
        np.testing.assert_allclose(found[row], model.log_score(x[row][None], times[row])[0], rtol=1e-6)
    answer = jnp.zeros((2, 3, S))
    np.testing.assert_array_equal(model.frozen(answer).log_score(x, T), answer)
    masked = np.asarray(model.masked().log_score(x, T))
    np.testing.assert_array_equal(masked[np.asarray(x) == S], np.asarray(model.log_score(x, T))[np.asarray(x) == S])
    assert (masked[np.asarray(x) != S] == 0).all()
    uniform = Diffusion.from_function(lambda x, t: jnp.broadcast_to(LOGITS, (*x.shape, S)), PROCESSES["uniform"])
    np.testing.assert_array_equal(uniform.masked().log_score(x % S, T), uniform.log_score(x % S, T))
