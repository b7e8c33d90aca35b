import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.distill.student import init_student
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.noise import LogLinear
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.kernels.euler import EULER
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import uniform_schedule
from lsd_jax.samplers.simulate import simulate

S, L = 5, 32


def logits(x, t):
    """A network of sorts: what it says of a position depends on all the others."""
    context = jnp.where(x == S, 0, x + 1).sum(-1, keepdims=True)[..., None]
    frequency = jnp.arange(S)[None, None] * (1.0 + jnp.arange(x.shape[-1]))[None, :, None]
    return jnp.sin(context + frequency)


MODEL = Diffusion.from_function(logits, Absorbing(S, LogLinear()))


@pytest.mark.parametrize("kernel", ["euler", "tweedie", "ancestral"])
@pytest.mark.parametrize("coupling", ["iid", "low_discrepancy"])
@pytest.mark.parametrize("steps", [4, 7])
def test_at_initialization_a_student_is_its_base_sampler(kernel, coupling, steps):
    student = init_student(get_kernel(kernel), Coupling(coupling), "score", steps).sampler(L)
    run = jax.jit(lambda sampler: simulate(jax.random.key(0), MODEL, sampler, 64).tokens)
    base = Sampler(uniform_schedule(steps), get_kernel(kernel), Coupling(coupling), L)
    np.testing.assert_array_equal(run(student), run(base))


def test_time_grid_falls_from_one_to_zero_whatever_the_logits():
    student = init_student(EULER, IID, "score", 9)
    moved = dataclasses.replace(student, step_logits=3 * jax.random.normal(jax.random.key(0), (9,)))
    grid = np.asarray(moved.time_grid)
    assert grid[0] == 1 and grid[-1] == 0 and (np.diff(grid) < 0).all()


def test_a_grid_becomes_logits_and_back():
    wanted = np.array([1, 0.9, 0.3, 0.25, 0])
    grid = init_student(EULER, IID, "score", 4, wanted).time_grid
    np.testing.assert_allclose(grid, wanted, atol=1e-6)
    with pytest.raises(ValueError, match="^time_grid: .* falls from 1 to 0"):
        init_student(EULER, IID, "score", 3, wanted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [(("score", 0), "^steps=0"), (("both", 2), "^coefficient='both'"), (("score", 2, None, -1.0), "^temperature=-1")],
)
def test_a_student_that_is_none_is_told(settings, message):
    with pytest.raises(ValueError, match=message):
        init_student(EULER, IID, *settings)
