"""A PyTorch network through a host callback; where PyTorch is not installed, numpy arrays stand for its tensors."""

import contextlib
import importlib.util
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lsd_jax.models import torch as ours
from lsd_jax.models.model import Diffusion, Identity
from lsd_jax.models.torch import from_torch
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.process import make_process
from lsd_jax.samplers.sampler import sampler
from lsd_jax.samplers.simulate import sample

S, L = 4, 6
PROCESS = make_process("absorbing", S, make_noise("loglinear"))
TABLE = np.random.default_rng(0).normal(size=(S + 1, S + 1)).astype(np.float32)


class Tensor(np.ndarray):
    """As much of a tensor as `from_torch` and the networks below touch."""

    def to(self, device):
        return self

    def float(self):
        return self.astype(np.float32)

    def cpu(self):
        return self

    def numpy(self):
        return np.asarray(self)


@pytest.fixture(scope="module", autouse=True)
def torch():
    """PyTorch, or what stands for it."""
    if importlib.util.find_spec("torch"):
        import torch

        yield torch
        return
    stand_in = types.ModuleType("torch")
    stand_in.from_numpy = lambda array: array.view(Tensor)
    stand_in.device, stand_in.no_grad = lambda name: name, contextlib.nullcontext
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch", stand_in)
        yield stand_in


def looks_left(torch):
    """Logits of S + 1 columns, the mask's among them, from the token to the left."""
    table = torch.from_numpy(TABLE)
    return lambda tokens: table[torch.from_numpy(np.roll(tokens.numpy(), 1, -1))]


def the_same_in_jax(x, t):
    return jnp.asarray(TABLE)[jnp.roll(x, 1, -1)][..., :S]


@pytest.mark.parametrize("output", ["posterior", "score"])
def test_a_torch_network_gives_what_the_same_one_in_jax_gives(torch, output):
    ours = Diffusion.from_function(the_same_in_jax, PROCESS, output, time_conditioned=False)
    theirs = from_torch(looks_left(torch), PROCESS, output, identity=Identity("torch", "t"))
    x = jnp.asarray(np.random.default_rng(1).integers(0, S + 1, (3, L)), jnp.int32)
    assert not theirs.time_conditioned and theirs.identity == Identity("torch", "t")
    np.testing.assert_allclose(theirs.log_score(x, jnp.float32(0.4)), ours.log_score(x, jnp.float32(0.4)), rtol=1e-6)
    for name in ("tweedie", "first_hitting"):  # inside a scan, on eight devices, and one time per sequence
        drawn, wanted = (sample(model, sampler(name, 4), jax.random.key(0), 16, length=L) for model in (theirs, ours))
        np.testing.assert_array_equal(drawn, wanted)


@pytest.mark.parametrize(("time_input", "told"), [("sigma_bar", float(PROCESS.noise.sigma_bar(0.4))), ("time", 0.4)])
def test_it_is_told_one_time_per_sequence(torch, time_input, told):
    def network(tokens, time):
        assert time.numpy().shape == (len(tokens.numpy()),)
        return torch.from_numpy(np.tile(time.numpy()[:, None, None], (1, tokens.numpy().shape[1], S)))

    model = from_torch(network, PROCESS, "log_score", time_input)
    assert (
        model.time_conditioned
        and not from_torch(network, PROCESS, time_input="time", time_conditioned=False).time_conditioned
    )
    np.testing.assert_allclose(model.log_score(jnp.zeros((3, L), jnp.int32), jnp.float32(0.4)), told, rtol=1e-6)


@pytest.mark.parametrize("time_input", ["none", "time"])
def test_memory_that_is_shared_holds_what_goes_through_the_host(torch, monkeypatch, time_input):
    if not hasattr(torch, "Tensor"):
        pytest.skip("needs PyTorch itself: pip install torch")
    if ours.buffer_callback is None:
        pytest.skip("this JAX shares no buffers with a callback")
    told = []

    def network(tokens, time=None):
        told.append(tokens.data_ptr())
        logits = torch.from_numpy(TABLE)[tokens]
        return logits if time is None else logits * time[:, None, None]

    model = from_torch(network, PROCESS, "log_score", time_input)
    x = jnp.asarray(np.random.default_rng(1).integers(0, S + 1, (3, L)), jnp.int32)
    found = {}
    for shared in (True, False):
        monkeypatch.setattr(ours, "_in_one_memory", lambda device, shared=shared: shared)
        calls = [jax.jit(lambda x, t: model.log_score(x, t))(x, jnp.float32(0.4))]  # a new function, a new program
        calls.append(jax.jit(lambda x, t: model.log_scores(x, t))(x, jnp.asarray([0.1, 0.5, 0.9], jnp.float32)))
        found[shared] = [np.asarray(call) for call in calls]
    for in_place, through_host in zip(found[True], found[False]):
        np.testing.assert_array_equal(in_place, through_host)
    assert len(told) == 1 + 2 * (1 + 3)  # the check, and every evaluation once


def test_what_cannot_be_is_told(torch, monkeypatch):
    x = jnp.zeros((1, L), jnp.int32)
    with pytest.raises(ValueError, match=r"^output='logits': choose one of"):
        from_torch(looks_left(torch), PROCESS, "logits")
    with pytest.raises(ValueError, match=r"^time_input='clock': choose one of"):
        from_torch(looks_left(torch), PROCESS, time_input="clock")
    with pytest.raises(ValueError, match=r"^module=\.\.\.: a PyTorch network takes no soft tokens"):
        from_torch(looks_left(torch), PROCESS).log_score(jax.nn.one_hot(x, S + 1), jnp.float32(0.4))
    with pytest.raises(
        ValueError, match=r"^module=\.\.\.: returns \(1, 4\) for tokens \(2, 8\); needed is \(2, 8, 4\)"
    ):
        from_torch(lambda tokens: torch.from_numpy(np.zeros((1, S), np.float32)), PROCESS)
    with pytest.raises(ValueError, match=r"^module=\.\.\.: returns dict, not a tensor; wrap it"):
        from_torch(lambda tokens: {"logits": tokens}, PROCESS)
    with pytest.raises(ValueError, match=r"^output='log_posterior': probabilities sum to .*output='posterior'"):
        from_torch(looks_left(torch), PROCESS, "log_posterior")
    with pytest.raises(ValueError, match=r"^module=\.\.\.: returns no finite number"):
        from_torch(lambda tokens: looks_left(torch)(tokens) * np.float32(np.nan), PROCESS)
    assert from_torch(
        lambda tokens: looks_left(torch)(tokens.reshape(1, 6)), PROCESS
    )  # of one length: told when it is used
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"^module=\.\.\.: a PyTorch network needs PyTorch; pip install"):
        from_torch(looks_left(torch), PROCESS)
