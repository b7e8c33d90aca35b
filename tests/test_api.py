"""The Python snippet of the README, line by line, on a small model of one's own: no config, no run directory."""

import pathlib
import re
import sys
import types

import jax
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.models.ddit import DDiT, DDiTConfig

README = pathlib.Path(__file__).parents[1] / "README.md"
LENGTH = 9


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory of the test's own, and the checkpoint that ships in place of the hub's."""
    monkeypatch.chdir(tmp_path)
    published, torch_module = lsd.load_model, lsd.from_torch
    monkeypatch.setattr(lsd, "load_model", lambda name, source: published(name, "tiny_mdlm"))

    def from_torch(module, process):
        if "torch" in sys.modules or module is not None:
            return torch_module(module, process)
        return lsd.Diffusion.from_function(lambda x, t: jax.nn.one_hot(x, process.vocab_size), process)

    monkeypatch.setattr(lsd, "from_torch", from_torch)


def snippet():
    code = re.search(r"```python\n(.*?)```", README.read_text(), re.S).group(1)
    return code.replace("50257", "11").replace("length=1024", f"length={LENGTH}").replace("(4, 8, 16)", "(4, 8)")


def test_the_snippet_of_the_readme_runs_line_by_line(here):
    process = lsd.Absorbing(11, lsd.LogLinear())
    module = DDiT(DDiTConfig(11, dim=16, depth=1, heads=2))
    params = module.init(jax.random.key(0), np.zeros((1, LENGTH), np.int32))
    rng = np.random.default_rng(0)
    names = {
        "process": process,
        "module": module,
        "params": params,
        "log_posterior": lambda tokens, t: jax.nn.one_hot(tokens, 11),
        "torch_module": None,
        "held_out": rng.integers(0, 11, (16, LENGTH)),
    }
    code = snippet()
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) >= 10 and all(call in code for call in ("load_model", "from_flax", "from_function", "from_torch"))
    models = []
    for line in lines:
        exec(line, names)
        if line.startswith("model"):
            models.append(names["model"])
            names["model"] = models[0]  # the published one goes on
    assert all(isinstance(model, lsd.Diffusion) for model in models) and len(models) == 4
    assert names["tokens"].shape == (8, LENGTH) and names["tokens"].max() < 11
    assert names["nats"].shape == (16,) and (names["nats"] > 0).all()
    assert pathlib.Path("student.json").exists() and names["sampler"].nfe == 8 and names["euler"].nfe == 8


def test_infilling_tasks_and_the_models_that_ship():
    model, task = lsd.load_model("text"), lsd.make_task(lsd.Data("text"))
    condition = task.condition("the pres_dent of ", 8)
    tokens = lsd.sample(model, lsd.sampler("euler", steps=4), jax.random.key(0), 8, length=128, condition=condition)
    assert all(task.decode(row).startswith("the pres") for row in tokens) and tokens.shape == (8, 128)
    measured = task.measure(tokens, resamples=0)
    assert 0 < measured["tv2"][0] < 1 and measured["entropy_bits"][0] > 2


def test_errors_start_with_the_parameter():
    process = lsd.Absorbing(4, lsd.LogLinear())
    model = lsd.Diffusion.from_function(lambda x, t: jax.nn.one_hot(x, 4), process)
    wide = lsd.Diffusion.from_function(lambda x, t: jax.nn.one_hot(x, 5), process)  # a column of the mask's own
    data, key, euler = np.zeros((16, 6), np.int32), jax.random.key(0), lsd.sampler("euler", 4)
    task = lsd.make_task(lsd.Data("text"))

    def given(tokens, fixed=None):
        fixed = np.ones(tokens.shape, bool) if fixed is None else fixed
        return lsd.sample(model, euler, key, len(tokens), length=6, condition=lsd.Condition(tokens, fixed))

    for call, start in (
        (lambda: lsd.distill(model, (2,)), "length=None"),
        (lambda: lsd.distill(model, (0,), length=6), "steps=0"),
        (lambda: lsd.distill(model, (2,), data=data + 9), "data=9"),
        (lambda: lsd.distill(model, (2,), length=7, data=data), "data="),
        (lambda: lsd.sampler("heun", 4), "name='heun'"),
        (lambda: lsd.sampler("euler", 0), "steps=0"),
        (lambda: lsd.sampler("euler", 4, temperature=-1), "temperature=-1"),
        (lambda: lsd.sample(model, lsd.sampler("euler", 4), jax.random.key(0), 2), "length=None"),
        (lambda: lsd.likelihood(model, lsd.sampler("maskgit", 4), data), "sampler='maskgit'"),
        (lambda: lsd.Diffusion.from_function(len, process, output="logits"), "output='logits'"),
        (lambda: lsd.load_sampler("none.json"), "student='none.json'"),
        (lambda: lsd.load_model("gpt"), "name='gpt'"),
        (lambda: lsd.sample(wide, euler, key, 2, length=6), "output="),
        (lambda: lsd.likelihood(wide, euler, data), "output="),
        (lambda: lsd.distill(wide, (2,), length=6), "output="),
        (lambda: lsd.sample(model, {8: euler}, key, 2, length=6), "sampler=dict"),
        (lambda: lsd.sample(euler, model, key, 2, length=6), "model=Sampler"),
        (lambda: lsd.sample(model, euler, key, 2, length=0), "length=0"),
        (lambda: lsd.sampler("euler", 3.5), "steps=3.5"),
        (lambda: lsd.sampler("euler", 4, coupling="iid"), "coupling='iid'"),
        (lambda: lsd.sample(model, euler, key, 2, condition=(1, 2), length=6), "condition=tuple"),
        (lambda: given(np.full((2, 6), 0.5)), "condition.tokens_BL=float64"),
        (lambda: given(np.array([[-1, 3, 0, 0, 0, 0]] * 2)), "condition.tokens_BL=-1"),
        (lambda: given(data[:2], np.ones((2, 6), int)), "condition.fixed_BL=int64"),
        (lambda: task.measure(data[0]), "tokens=int32 (6,)"),
        (lambda: task.measure(data + 0.5), "tokens=float64"),
        (lambda: task.measure(data - 1), "tokens=-1"),
        (lambda: task.measure(data), "tokens=(16, 6)"),
    ):
        with pytest.raises((ValueError, FileNotFoundError)) as found:
            call()
        assert str(found.value).startswith(start) and "\n" not in str(found.value)


def test_a_flax_module_that_takes_tokens_alone():
    module = types.SimpleNamespace(apply=lambda params, x: params[x])
    model = lsd.Diffusion.from_flax(module, np.eye(5, 4), lsd.Absorbing(4, lsd.LogLinear()), time_input="none")
    assert not model.time_conditioned
    assert lsd.sample(model, lsd.sampler("cached", 4), jax.random.key(0), 2, length=6).shape == (2, 6)
