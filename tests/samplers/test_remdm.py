"""ReMDM: the ancestral step at sigma 0, marginals that no sigma changes, and what each schedule remasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models.oracle import all_sequences
from lsd_jax.samplers import KERNELS
from lsd_jax.samplers.coupling import Coupling, path_noise, sequence_keys
from lsd_jax.samplers.kernel import Knobs
from lsd_jax.samplers.remdm import loop_masks, remask_transition
from lsd_jax.samplers.simulate import _StageDraw, simulate, uniform_schedule

NEUTRAL = Knobs(jnp.zeros(()), jnp.zeros(()))


@pytest.mark.parametrize("coefficient", ["score", "log_score"])
def test_sigma_zero_is_the_ancestral_step(toy, coefficient):
    process, score_fn, _ = toy("absorbing")
    x = jnp.asarray(all_sequences(4, 3))
    t, u = jnp.float32(0.7), jnp.float32(0.4)
    knobs = Knobs(jnp.float32(0.2), jnp.float32(-0.3), coefficient, top_p=0.9)
    plain = KERNELS["ancestral"].step(process, score_fn, x, t, u, knobs)
    m_t, m_u = process.mask_probability(t), process.mask_probability(u)
    ours = remask_transition(process, score_fn(x, t), x, m_t, m_u, jnp.zeros(()), knobs)
    np.testing.assert_array_equal(ours.log_stay_BL, plain.log_stay_BL)
    masked = np.asarray(x) == process.mask
    np.testing.assert_array_equal(ours.log_destination_BLS[..., :3][masked], plain.log_destination_BLS[masked])
    assert np.isneginf(ours.log_destination_BLS[..., 3][masked]).all()
    uniform = jax.random.uniform(jax.random.key(0), (2, *x.shape))
    np.testing.assert_array_equal(ours.sample(*uniform), plain.sample(*uniform))


@pytest.mark.parametrize(("t", "u"), [(1.0, 0.9), (0.6, 0.5), (0.3, 0.05)])
def test_marginals_are_kept_whatever_sigma(toy, t, u):
    """One position with its exact posterior: alpha_t p and 1 - alpha_t go to alpha_u p and 1 - alpha_u."""
    process = toy("absorbing").process
    law = np.array([0.6, 0.3, 0.1])
    x = jnp.arange(4)[:, None]
    m_t, m_u = (process.mask_probability(jnp.float32(time)) for time in (t, u))
    before = np.append((1 - m_t) * law, m_t)
    log_score = jnp.broadcast_to(jnp.log(jnp.asarray(law, jnp.float32)), (4, 1, 3))
    most = min(1.0, float(m_u / (1 - m_t)))
    for sigma in (0.0, 0.008, 0.5 * most, most):
        step = remask_transition(process, log_score, x, m_t, m_u, jnp.float32(min(sigma, most)), NEUTRAL)
        stay, jump = (np.asarray(part, np.float64) for part in step.probabilities())
        table = jump[:, 0] + np.diag(stay[:, 0])
        np.testing.assert_allclose(table.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(before @ table, np.append((1 - m_u) * law, m_u), atol=2e-6)


@pytest.mark.parametrize("name", ["remdm_cap", "remdm_rescale", "remdm_loop"])
def test_many_steps_reach_the_law(toy, name):
    process, score_fn, _ = world = toy("absorbing")
    sample = simulate(jax.random.key(0), process, KERNELS[name], score_fn, uniform_schedule(48), Coupling(), 40_000, 3)
    assert world.error(sample.tokens) < 0.03
    assert (np.asarray(sample.tokens) < process.mask).all()


def test_improbable_tokens_are_remasked_first(toy):
    """By confidence: sigma_max times the softmax of minus the chance that each token had; given tokens never."""
    process, score_fn, _ = toy("absorbing")
    t, u, count = jnp.float32(0.5), jnp.float32(0.4), 40_000
    chance = jnp.broadcast_to(jnp.asarray([0.1, 0.9, jnp.inf]), (count, 3))
    x = jnp.broadcast_to(jnp.asarray([0, 1, 2]), (count, 3))
    noise = path_noise(sequence_keys(jax.random.key(0), count), process, Coupling(), 3)
    draw = _StageDraw(noise, jnp.int32(0), lambda x: x)
    moved, memory = KERNELS["remdm_conf"].advance(draw, chance, process, score_fn, x, t, u, NEUTRAL)
    rates = (np.asarray(moved) == process.mask).mean(0)
    most = min(1.0, float(process.mask_probability(u) / (1 - process.mask_probability(t))))
    weights = np.exp(-np.array([0.1, 0.9]))
    np.testing.assert_allclose(rates[:2], most * weights / weights.sum(), atol=0.01)
    assert rates[2] == 0 and np.isinf(np.asarray(memory)[np.asarray(moved) == process.mask]).all()
    # What is revealed afterwards remembers the network's own probability of it.
    again, memory = KERNELS["remdm_conf"].advance(draw, memory, process, score_fn, moved, u, jnp.float32(0.1), NEUTRAL)
    new = (np.asarray(moved) == process.mask) & (np.asarray(again) != process.mask)
    probs = np.asarray(jax.nn.softmax(score_fn(moved, u)))
    wanted = np.take_along_axis(probs, np.minimum(np.asarray(again), 2)[..., None], -1)[..., 0]
    np.testing.assert_allclose(np.asarray(memory)[new], wanted[new], rtol=1e-5)


def test_the_loop_holds_between_decoding_and_finishing():
    t = jnp.asarray([1.0, 0.775, 0.55, 0.3, 0.05, 0.025, 0.0])
    np.testing.assert_allclose(loop_masks(t), [1.0, 0.55, 0.1, 0.1, 0.1, 0.05, 0.0], atol=1e-6)
