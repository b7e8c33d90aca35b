"""Parameters sharded over four of eight devices and over all: every device keeps its part, and results are those of whole parameters."""

import functools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import lsd_jax as lsd
from lsd_jax import parallel, shards
from lsd_jax.distill.cost_table import cost_table
from lsd_jax.distill.objectives.registry import get_objective
from lsd_jax.distill.student import init_student
from lsd_jax.distill.teacher import bridged_teacher
from lsd_jax.keys import sequence_keys
from lsd_jax.models import weights
from lsd_jax.models.ddit import DDiT, DDiTConfig
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.kernels.euler import EULER
from lsd_jax.samplers.kernels.tweedie import TWEEDIE
from lsd_jax.samplers.simulate import simulate
from lsd_jax.training import train as training

S, LENGTH = 15, 6
CONFIG = DDiTConfig(S, dim=32, depth=1, heads=2)
COUNTS = (4, 8)  # with eight devices: two groups of four, one of all
PROCESSES = {"absorbing": lsd.Absorbing(S, lsd.LogLinear()), "uniform": lsd.Uniform(S, lsd.LogLinear())}
TOKENS = np.random.default_rng(1).integers(0, S, (32, LENGTH))


@pytest.fixture(autouse=True)
def _whole():
    """Each test begins and ends with whole parameters."""
    yield
    lsd.shard_parameters(1)


def random_params(config=CONFIG):
    shapes = jax.eval_shape(DDiT(config).init, jax.random.key(0), jnp.zeros((1, 8), jnp.int32), jnp.zeros(1))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: 0.2 * rng.standard_normal(leaf.shape, np.float32), shapes)


def model_of(count, process="absorbing", config=CONFIG):
    """A model whose parameters are in `count` parts, which is how models are made from then on."""
    lsd.shard_parameters(count)
    return lsd.Diffusion.from_flax(DDiT(config), random_params(config), PROCESSES[process])


def on_device(tree, device):
    """Bytes of a tree's arrays on one device."""
    parts = [part for leaf in jax.tree.leaves(tree) for part in leaf.addressable_shards]
    return sum(part.data.nbytes for part in parts if part.device.id == device)


def assert_in_parts(tree, count):
    """Every large array has 1 / count of its numbers on each device; returns how many arrays are large."""
    large = [leaf for leaf in jax.tree.leaves(tree) if leaf.size >= 4096]
    for leaf in large:
        assert [part.data.size for part in leaf.addressable_shards] == [leaf.size // count] * 8
    return len(large)


@pytest.mark.parametrize("count", COUNTS)
def test_a_device_keeps_its_part_of_a_model_of_the_user_s_and_of_a_file(count, tmp_path):
    own = model_of(count)
    assert assert_in_parts(own.params, count) == 2
    small = sum(leaf.nbytes for leaf in jax.tree.leaves(random_params()) if leaf.size < 4096)
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(random_params()))
    assert {on_device(own.params, device) for device in range(8)} == {small + (total - small) // count}
    weights.save(
        tmp_path / "w.safetensors", parallel.whole(own.params), CONFIG, {"process": {"name": "absorbing", "eps": 1e-3}}
    )
    loaded = lsd.load_model("ddit", tmp_path / "w.safetensors")
    assert assert_in_parts(loaded.params, count) == 2
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, np.float16(b)), shards.unboxed(loaded.params), random_params()
    )
    assert assert_in_parts(lsd.load_model("text").params, count) > 10
    lsd.shard_parameters(1)
    again = lsd.load_model("ddit", tmp_path / "w.safetensors")
    assert jax.tree.structure(again.params) == jax.tree.structure(random_params())


@functools.cache
def drawn(count, name, process):
    return lsd.sample(
        model_of(count, process), lsd.sampler(name, 4), jax.random.key(1), 24, length=LENGTH, batch_size=16
    )


# Of each kind: one stage, several, a cache that a device fills when its own tokens change, loops that end when its own are done.
SAMPLERS = [
    ("tweedie", "absorbing", 4),
    ("tweedie", "absorbing", 8),
    ("predictor_corrector", "absorbing", 4),
    ("cached", "absorbing", 4),
    ("gillespie", "absorbing", 4),
    ("eb", "absorbing", 4),
    ("eb_uniform", "uniform", 4),
    ("uniformization", "uniform", 4),
]


@pytest.mark.parametrize(("name", "process", "count"), SAMPLERS)
def test_samples_are_the_same_bit_for_bit(name, process, count):
    np.testing.assert_array_equal(drawn(count, name, process), drawn(1, name, process))


def test_likelihoods_and_cost_tables_are_those_of_whole_parameters():
    results = []
    for parts in (1, 4, 8):
        model = model_of(parts)
        nats = lsd.likelihood(model, lsd.sampler("tweedie", 3), TOKENS[:16])
        table = cost_table(
            model, TWEEDIE, IID, TOKENS, sequence_keys(jax.random.key(0), len(TOKENS)), np.linspace(1, 0, 5)
        )
        results.append((nats, table))
    for parted in results[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), parted, results[0])


def aligned(count, gradient):
    """Loss and gradient of score alignment, a student against teacher paths to given sequences."""
    model = model_of(count)
    settings = lsd.OptimizeSettings(steps=10, batch_size=8, alignment=lsd.AlignmentSettings(gradient=gradient))
    student = init_student(TWEEDIE, Coupling("shared"), "score", 2)
    paths = bridged_teacher(jax.random.key(0), model.process, Coupling("shared"), 8, TOKENS)
    objective, mesh = get_objective("score_alignment"), parallel.data_mesh()
    data = parallel.replicate_arrays(objective.prepare(student, model, paths, settings), mesh)

    def loss(student, frozen, batch):
        return objective.loss(student, frozen, batch, jnp.int32(0), settings)

    function = parallel.value_and_grad_over_data(loss, mesh, has_aux=True)
    return jax.jit(function)(student, parallel.replicate_arrays(model, mesh), data)


@pytest.mark.parametrize(("gradient", "count"), [("detached", 8), pytest.param("unrolled", 4, marks=pytest.mark.slow)])
def test_gradients_of_a_student_are_those_of_whole_parameters(gradient, count):
    results = aligned(count, gradient), aligned(1, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)


def distilled(count):
    teacher = lsd.TeacherSettings(steps=8, paths=32)
    start = lsd.StudentSettings(order="fixed", coupling=Coupling("shared"), grid_points=8)
    optimization = lsd.OptimizeSettings(objective="path_kl", steps=10, batch_size=8)
    return lsd.distill(model_of(count), 2, length=LENGTH, student=start, teacher=teacher, optimization=optimization)[2]


@pytest.mark.slow
def test_students_are_those_of_whole_parameters():
    whole = distilled(1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), distilled(4), whole)


def trained(folder, count, steps=3):
    lsd.shard_parameters(count)
    settings = training.TrainingSettings(steps=steps, batch_size=16, microbatch=1, validation_sequences=16)
    batches = iter(grain.MapDataset.source(TOKENS.astype(np.int32)).seed(0).repeat().batch(16).to_iter_dataset())
    return training.train(settings, CONFIG, PROCESSES["absorbing"], batches, TOKENS[:16], folder, seed=0)


def test_a_network_trains_in_parts_and_goes_on_whole(tmp_path, monkeypatch):
    states, save = [], training.checkpoints.Manager.save
    monkeypatch.setattr(
        training.checkpoints.Manager, "save", lambda *args: (states.append(args[2]), save(*args)) and None
    )
    params, result = trained(tmp_path / "parts", 4)
    # Parameters, their average, and both moments of Adam.
    assert assert_in_parts(states[0], 4) == 4 * 2
    whole, expected = trained(tmp_path / "whole", 1)
    assert jax.tree.structure(params) == jax.tree.structure(whole) and isinstance(
        jax.tree.leaves(params)[0], np.ndarray
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), params, whole)
    assert result["validation_bits"] == pytest.approx(expected["validation_bits"], rel=1e-4)
    again, same = trained(tmp_path / "parts", 1)  # the checkpoint of its end
    jax.tree.map(np.testing.assert_array_equal, again, params)
    assert same["validation_bits"] == pytest.approx(result["validation_bits"], rel=1e-6)


WIDE = DDiTConfig(S, dim=128, depth=4, heads=2)


def temporary_bytes(count):
    """Of a sampler's program on one device, for a network of four blocks."""
    lsd.shard_parameters(count)
    model = lsd.Diffusion.from_flax(DDiT(WIDE), random_params(WIDE), PROCESSES["absorbing"])
    mesh, sampler = parallel.data_mesh(), lsd.sampler("tweedie", 4)
    sampler = sampler.bound_to(model, LENGTH)

    def run(model, key_B):
        return simulate(key_B, model, sampler, len(key_B)).tokens

    key_B = parallel.shard_global(sequence_keys(jax.random.key(0), 8), mesh)
    return jax.jit(parallel.map_over_data(run, mesh)).lower(model, key_B).compile().memory_analysis().temp_size_in_bytes


def test_a_device_holds_a_layer_at_a_time_and_never_the_network():
    """What it gathers is needed in every step, and a compiler would rather gather it once: then this is more than `whole`."""
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(random_params(WIDE)))
    assert 0 < temporary_bytes(8) - temporary_bytes(1) < whole / 3


def test_mistakes_are_told_in_one_line():
    for count, message in (
        (3, "parameter_shards=3: does not divide 8 devices"),
        (16, "parameter_shards=16: does not divide 8 devices"),
        (0, "parameter_shards=0: must be a whole number, 1 or more"),
        (2.0, "parameter_shards=2.0: must be a whole number, 1 or more"),
    ):
        with pytest.raises(lsd.InputError, match=f"^{message}$"):
            lsd.shard_parameters(count)
    model = model_of(4)
    lsd.shard_parameters(8)
    with pytest.raises(lsd.InputError, match="^parameter_shards=8: the model was made with 4; make it again after"):
        lsd.sample(model, lsd.sampler("euler", 2), jax.random.key(0), 8, length=LENGTH)


class Film(linen.Module):
    """A layer with parameters of its own that takes an array by name."""

    @linen.compact
    def __call__(self, x, *, by):
        return x @ self.param("kernel", linen.initializers.normal(0.1), (64, 64)) * by


class ByName(linen.Module):
    @linen.compact
    def __call__(self, x_BL, t):
        h = linen.Embed(S + 1, 64)(x_BL)
        return linen.Dense(S)(h + Film()(h, by=1 + h.mean(-1, keepdims=True)))


def test_a_layer_that_takes_an_array_by_name_has_its_gradient():
    module = ByName()
    params = jax.device_get(module.init(jax.random.key(0), jnp.zeros((1, LENGTH), jnp.int32), jnp.zeros(1)))
    loss, results = training.SequenceLoss("denoising", module, PROCESSES["absorbing"]), []
    mean = lambda own, _, batch: loss(own, batch).mean()
    for count in (1, 4):
        lsd.shard_parameters(count)
        mesh = parallel.data_mesh()
        model = lsd.Diffusion.from_flax(module, params, PROCESSES["absorbing"])
        batch = training.with_noise(jax.random.key(1), jnp.asarray(TOKENS))
        gradient = jax.jit(parallel.value_and_grad_over_data(mean, mesh))(model.params, (), batch)[1]
        results.append(jax.tree.leaves(parallel.whole(gradient)))
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, atol=1e-5)


class Plain:
    """No flax module, as a user may bring one."""

    def apply(self, params, x_BL, t):
        return params["table"][x_BL] + t


def test_any_object_with_apply_gets_its_parameters_whole():
    params = {"table": np.random.default_rng(0).standard_normal((S + 1, 512, S)).astype(np.float32).sum(1)}
    params = {"table": np.tile(params["table"], (64, 1))}
    results = []
    for count in (1, 8):
        lsd.shard_parameters(count)
        model = lsd.Diffusion.from_flax(Plain(), params, PROCESSES["absorbing"])
        assert isinstance(model.params["table"], shards.Sharded) == (count > 1)
        results.append(lsd.sample(model, lsd.sampler(EULER.name, 3), jax.random.key(0), 16, length=LENGTH))
        outside = model.log_score(jnp.asarray(TOKENS), jnp.float32(0.5))
        assert outside.shape == (32, LENGTH, S)
    np.testing.assert_array_equal(*results)
