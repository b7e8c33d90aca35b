"""ReMDM: the ancestral step at sigma 0, marginals that no sigma changes, and what each schedule remasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.keys import sequence_keys
from lsd_jax.models.oracle import all_sequences
from lsd_jax.processes.draws import as_uniform, random_bits
from lsd_jax.samplers.coupling import IID, path_noise
from lsd_jax.samplers.kernels.remdm import loop_masks, remask_transition
from lsd_jax.samplers.registry import KERNELS
from lsd_jax.samplers.sampler import sampler
from lsd_jax.samplers.schedule import Step, StepParameters, neutral
from lsd_jax.samplers.simulate import _StageDraw
from tests.samplers.enumeration import draw


@pytest.mark.parametrize("coefficient", ["score", "log_score"])
def test_sigma_zero_is_the_ancestral_step(toy, coefficient):
    model = toy("absorbing").model
    process, x = model.process, jnp.asarray(all_sequences(4, 3))
    t, u = jnp.float32(0.7), jnp.float32(0.4)
    params = StepParameters(jnp.float32(0.2), jnp.float32(-0.3), coefficient, top_p=0.9)
    plain = KERNELS["ancestral"].transition(model, x, Step(t, u, params))
    m_t, m_u = process.mask_probability(t), process.mask_probability(u)
    ours = remask_transition(process, model.log_score(x, t), x, m_t, m_u, jnp.zeros(()), params)
    np.testing.assert_array_equal(ours.log_stay_BL, plain.log_stay_BL)
    masked = np.asarray(x) == process.mask
    np.testing.assert_array_equal(ours.log_destination_BLS[..., :3][masked], plain.log_destination_BLS[masked])
    assert np.isneginf(ours.log_destination_BLS[..., 3][masked]).all()
    bits = random_bits(jax.random.key(0), (2, *x.shape))
    noise = as_uniform(bits[0]), bits[1]
    np.testing.assert_array_equal(ours.sample(*noise), plain.sample(*noise))


@pytest.mark.parametrize(("t", "u"), [(1.0, 0.9), (0.6, 0.5), (0.3, 0.05)])
def test_marginals_are_kept_whatever_sigma(toy, t, u):
    """One position with its exact posterior: alpha_t p and 1 - alpha_t go to alpha_u p and 1 - alpha_u."""
    process = toy("absorbing").model.process
    law = np.array([0.6, 0.3, 0.1])
    x = jnp.arange(4)[:, None]
    m_t, m_u = (process.mask_probability(jnp.float32(time)) for time in (t, u))
    before = np.append((1 - m_t) * law, m_t)
    log_score = jnp.broadcast_to(jnp.log(jnp.asarray(law, jnp.float32)), (4, 1, 3))
    most = min(1.0, float(m_u / (1 - m_t)))
    for sigma in (0.0, 0.008, 0.5 * most, most):
        step = remask_transition(process, log_score, x, m_t, m_u, jnp.float32(min(sigma, most)), neutral())
        stay, jump = (np.asarray(part, np.float64) for part in step.probabilities())
        table = jump[:, 0] + np.diag(stay[:, 0])
        np.testing.assert_allclose(table.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(before @ table, np.append((1 - m_u) * law, m_u), atol=2e-6)


@pytest.mark.parametrize(
    "name", ["remdm_cap", *[pytest.param(name, marks=pytest.mark.slow) for name in ("remdm_rescale", "remdm_loop")]]
)
def test_many_steps_reach_the_distribution(toy, name):
    world = toy("absorbing")
    sample = draw(jax.random.key(0), world.model, sampler(name, 48).bound_to(world.model, 3), 40_000)
    assert world.error(sample.tokens) < 0.03
    assert (np.asarray(sample.tokens) < world.model.process.mask).all()


def test_improbable_tokens_are_remasked_first(toy):
    """By confidence: sigma_max times the softmax of minus the chance that each token had; given tokens never."""
    model = toy("absorbing").model
    process, kernel = model.process, KERNELS["remdm_conf"]
    t, u, count = jnp.float32(0.5), jnp.float32(0.4), 40_000
    chance = jnp.broadcast_to(jnp.asarray([0.1, 0.9, jnp.inf]), (count, 3))
    x = jnp.broadcast_to(jnp.asarray([0, 1, 2]), (count, 3))
    draws = _StageDraw(path_noise(sequence_keys(jax.random.key(0), count), process, IID, 3), jnp.int32(0), lambda x: x)
    one_step = jax.jit(lambda *now: kernel.step(draws, now[0], model, *now[1:]))
    moved, memory = one_step(chance, x, Step(t, u, neutral()))
    rates = (np.asarray(moved) == process.mask).mean(0)
    most = min(1.0, float(process.mask_probability(u) / (1 - process.mask_probability(t))))
    weights = np.exp(-np.array([0.1, 0.9]))
    np.testing.assert_allclose(rates[:2], most * weights / weights.sum(), atol=0.01)
    assert rates[2] == 0 and np.isinf(np.asarray(memory)[np.asarray(moved) == process.mask]).all()
    # What is revealed afterwards remembers the network's own probability of it.
    again, memory = one_step(memory, moved, Step(u, jnp.float32(0.1), neutral()))
    new = (np.asarray(moved) == process.mask) & (np.asarray(again) != process.mask)
    probs = np.asarray(jax.nn.softmax(model.log_score(moved, u)))
    wanted = np.take_along_axis(probs, np.minimum(np.asarray(again), 2)[..., None], -1)[..., 0]
    np.testing.assert_allclose(np.asarray(memory)[new], wanted[new], rtol=1e-5)


def test_the_loop_holds_between_decoding_and_finishing():
    t = jnp.asarray([1.0, 0.775, 0.55, 0.3, 0.05, 0.025, 0.0])
    np.testing.assert_allclose(loop_masks(t), [1.0, 0.55, 0.1, 0.1, 0.1, 0.05, 0.0], atol=1e-6)
