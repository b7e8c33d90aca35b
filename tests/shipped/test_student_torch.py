"""The sampler in PyTorch draws what ours draws: token for token from the same uniforms, and the same law on its own."""

import functools
import importlib.util
import itertools
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lsd_jax as lsd
from lsd_jax.keys import sequence_keys
from lsd_jax.samplers.coupling import path_noise
from lsd_jax.samplers.kernel import prior_tokens
from lsd_jax.samplers.registry import get_kernel
from lsd_jax.samplers.schedule import Schedule, StepParameters
from tests.samplers import enumeration

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
FILE = pathlib.Path(lsd.__file__).parent / "shipped" / "pytorch" / "student_torch.py"
S, L, B, M = 5, 12, 128, 4
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(S + 1, S)).astype(np.float32)
GRID = [1.0, 0.7, 0.45, 0.2, 0.0]
GOLDEN, IID = lsd.Coupling("low_discrepancy"), lsd.Coupling("iid")


@pytest.fixture(scope="module")
def student_torch():
    """The file as a user has it: a module beside their code."""
    spec = importlib.util.spec_from_file_location("student_torch", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_jax(x, t):
    return jnp.asarray(TABLE)[jnp.roll(x, 1, -1)] + jnp.asarray(TABLE)[jnp.roll(x, -2, -1)]


def in_torch(tokens):
    table = torch.from_numpy(TABLE)
    return table[tokens.roll(1, -1)] + table[tokens.roll(-2, -1)]


def make(process, kernel, coupling, coefficient="score", distances=0, top_p=1.0, seed=1):
    """A sampler whose every number is off the neutral one."""
    rng = np.random.default_rng(seed)
    log = lambda: jnp.asarray(rng.normal(size=M) * 0.2, jnp.float32)
    tables = np.round(rng.normal(size=(M, distances, S, S)), 4) if distances else None
    if distances:
        tables[1] = 0  # a step without tables
    params = StepParameters(
        log(), log(), coefficient, None if tables is None else jnp.asarray(tables, jnp.float32), top_p
    )
    schedule = Schedule(jnp.asarray(GRID, jnp.float32), params)
    return lsd.Sampler(schedule, get_kernel(kernel), coupling, L, process)


def noise_of(module, student, key_B, process, coupling):
    """JAX's random numbers in the place of PyTorch's."""
    ours = path_noise(key_B, process, coupling, L)
    double = lambda array: torch.from_numpy(np.asarray(array, np.float64))
    of_bits = lambda bits: (double(bits) + 0.5) * 2.0**-32

    class Same(module.Noise):
        def prior(self):
            return torch.from_numpy(np.asarray(prior_tokens(key_B, process, L), np.int64))

        def thresholds(self):
            return double(ours.threshold_BL if process.jumps_once else self.own_BL)

        def uniform(self, *shape):
            return of_bits(ours.token_bits_BL)

        def step(self, k):
            self.own_BL, token_BL = ours.step(jnp.int32(k), jnp.zeros((B, L)))
            return double(self.own_BL), of_bits(token_BL)

    return Same(student, B)


PATTERN = lsd.Coupling("low_discrepancy", "pattern", pattern=(2, 0, 3, 1))
MIXTURE = lsd.Coupling("low_discrepancy", "pattern", pattern=((0, 1, 2, 3), (0, 3, 2, 1)))
CASES = [
    *[("absorbing", kernel, GOLDEN, "score", 0, 1.0) for kernel in ("tweedie", "ancestral", "euler")],
    ("absorbing", "tau_leaping", IID, "score", 0, 1.0),
    ("absorbing", "binomial_leaping", IID, "score", 0, 1.0),
    ("absorbing", "tweedie", lsd.Coupling("shared"), "log_score", 0, 1.0),
    ("absorbing", "ancestral", GOLDEN, "log_score", 0, 1.0),
    ("absorbing", "tweedie", PATTERN, "score", 3, 1.0),
    ("absorbing", "tweedie", GOLDEN, "score", 2, 0.8),
    ("absorbing", "tweedie", lsd.Coupling("low_discrepancy", "halton", shape=(3, 4)), "score", 0, 0.7),
    *[("uniform", kernel, IID, "score", 0, 1.0) for kernel in ("tweedie", "ancestral", "euler", "tau_leaping")],
    ("uniform", "tweedie", IID, "log_score", 0, 0.8),
    ("uniform", "ancestral", GOLDEN, "score", 0, 1.0),
    ("uniform", "tweedie", IID, "score", 1, 1.0),
    ("absorbing", "tweedie", MIXTURE, "score", 0, 1.0),
]


@pytest.mark.parametrize(
    ("infill", "name", "kernel", "coupling", "coefficient", "distances", "top_p"),
    [
        *[(False, *case) for case in CASES],
        *[(True, *CASES[index]) for index in (0, 16)],
        *[pytest.param(True, *CASES[index], marks=pytest.mark.slow) for index in (7, 10)],
    ],
)
def test_the_same_tokens_from_the_same_uniforms(
    student_torch, tmp_path, infill, name, kernel, coupling, coefficient, distances, top_p
):
    process = {"absorbing": lsd.Absorbing, "uniform": lsd.Uniform}[name](S, lsd.LogLinear())
    ours = make(process, kernel, coupling, coefficient, distances, top_p)
    ours.save(tmp_path / "student.json")
    student = student_torch.load(str(tmp_path / "student.json"))
    model = lsd.Diffusion.from_function(in_jax, process, "posterior", time_conditioned=False)
    key_B = sequence_keys(jax.random.key(3), B)
    tokens, fixed = np.full((B, L), 2), np.tile(np.arange(L) % 5 == 1, (B, 1))
    condition = lsd.Condition(jnp.asarray(tokens, jnp.int32), jnp.asarray(fixed)) if infill else None
    wanted = np.asarray(enumeration.draw(key_B, model, ours, B, condition=condition).tokens)
    given = {"tokens_BL": torch.from_numpy(tokens), "fixed_BL": torch.from_numpy(fixed)} if infill else {}
    noise = noise_of(student_torch, student, key_B, process, coupling)
    found = student_torch.sample(student, in_torch, B, noise=noise, **given).numpy()
    # A uniform within float32's rounding of a boundary may fall on either side, and steer what follows in its sequence.
    assert (found == wanted).all(-1).mean() > 0.98


@pytest.mark.parametrize(
    ("name", "output", "noise"),
    [
        ("absorbing", "score", lsd.Geometric()),
        ("absorbing", "log_posterior", lsd.Cosine()),
        ("uniform", "score", lsd.LogLinear()),
        ("uniform", "mean", lsd.Geometric()),
        ("uniform", "log_posterior", lsd.Cosine()),
    ],
)
def test_outputs_and_schedules(student_torch, tmp_path, name, output, noise):
    process = {"absorbing": lsd.Absorbing, "uniform": lsd.Uniform}[name](S, noise)
    normal = output == "log_posterior"
    net_jax = (lambda x, t: jax.nn.log_softmax(in_jax(x, t))) if normal else in_jax
    net_torch = (lambda x: in_torch(x).log_softmax(-1)) if normal else in_torch
    make(process, "euler", IID).save(tmp_path / "student.json")
    student = student_torch.load(str(tmp_path / "student.json"))
    model = lsd.Diffusion.from_function(net_jax, process, output)
    x = np.asarray(RNG.integers(0, process.num_states, (4, L)))
    if name == "absorbing":
        x[:] = S
    wanted = np.asarray(jax.jit(model.log_score)(jnp.asarray(x, jnp.int32), jnp.float32(0.45)))
    tokens = torch.from_numpy(x)
    found = student_torch.log_score_of(student, output, net_torch(tokens), tokens, 0.45).numpy()
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["absorbing", "uniform"])
def test_with_its_own_random_numbers_it_has_the_same_law(student_torch, name):
    """All sequences of two tokens, enumerated: the file's own generator against our sampler's exact distribution."""
    probs = np.random.default_rng(5).dirichlet(np.ones(9))
    model = enumeration.oracle(name, probs, 3, 2)
    ours = lsd.sampler("tweedie", 3).bound_to(model, 2)
    student, count = ours.record(), 40_000
    noised, log_score_of = {}, jax.jit(model.log_score)

    def network(tokens, time):
        t = float(time[0])
        if t not in noised:  # of every state once
            states = np.array(list(itertools.product(range(model.process.num_states), repeat=2)))
            log_score = np.asarray(log_score_of(jnp.asarray(states, jnp.int32), jnp.float32(t)))
            noised[t] = torch.from_numpy(log_score.copy()).reshape(model.process.num_states, -1, 2, 3)
        return noised[t][tokens[:, 0], tokens[:, 1]]

    generator = torch.Generator().manual_seed(0)
    found = student_torch.sample(student, network, count, "log_score", "time", generator=generator).numpy()
    drawn = np.asarray(enumeration.draw(jax.random.key(1), model, ours, count).tokens)
    share = lambda tokens: np.bincount(tokens[:, 0] * 3 + tokens[:, 1], minlength=9) / count
    assert (
        np.abs(share(found) - share(drawn)).sum() < 0.02
    )  # 9 cells of 40,000 samples: 0.012 is expected of equal laws


SHARES = (0.0, 0.25, 0.3, 0.45)  # of the lengths 0 ... 3


@functools.cache
def case_of_lengths(output):
    """A model of three positions, two tokens and the pad: a network that gives pads some probability at every state."""
    process = lsd.Absorbing(3, lsd.LogLinear(), SHARES)
    table = np.random.default_rng(7).normal(size=(4, 4, 4, 3, 3)).astype(np.float32)
    net_jax = lambda x, t: jnp.asarray(table)[x[:, 0], x[:, 1], x[:, 2]]
    net_torch = lambda x: torch.from_numpy(table)[x[:, 0], x[:, 1], x[:, 2]]
    return table, lsd.Diffusion.from_function(net_jax, process, output, time_conditioned=False), net_torch


@pytest.mark.parametrize(("output", "kernel"), [("posterior", "tweedie"), ("score", "euler")])
def test_of_lengths_it_has_the_same_law(student_torch, tmp_path, output, kernel):
    """Against the exact distribution of our sampler, by enumeration of all states."""
    _, model, network = case_of_lengths(output)
    ours = lsd.sampler(kernel, 3).bound_to(model, 3)
    ours.save(tmp_path / "student.json")
    student, count = student_torch.load(str(tmp_path / "student.json")), 40_000
    assert student["lengths"] == list(SHARES)
    drawn = student_torch.sample(student, network, count, output, generator=torch.Generator().manual_seed(0)).numpy()
    wanted = enumeration.exact_law(model, ours.kernel, ours.schedule, 3)
    found = enumeration.frequencies(drawn, 3)
    assert (wanted > 0).sum() == 14 and (found[wanted == 0] == 0).all()  # no pad before a token
    assert enumeration.total_variation(found, wanted) < 0.015  # 14 sequences of 40,000 samples: 0.007 is expected
    shares = np.bincount((drawn != 2).sum(1), minlength=4) / count
    np.testing.assert_allclose(shares, SHARES, atol=0.01)


@pytest.mark.parametrize(
    ("infill", "coupling", "coefficient", "distances", "top_p"),
    [(False, GOLDEN, "score", 2, 0.8), (True, lsd.Coupling("shared"), "log_score", 0, 1.0)],
)
def test_of_lengths_the_same_tokens_from_the_same_uniforms(
    student_torch, tmp_path, infill, coupling, coefficient, distances, top_p
):
    """Of a network that gives pads some probability. A condition gives three pads here, and no others come."""
    process = lsd.Absorbing(S, lsd.LogLinear(), (0.0, 0.0, *np.full(L - 1, 1 / (L - 1)).tolist()))
    ours = make(process, "tweedie", coupling, coefficient, distances, top_p)
    ours.save(tmp_path / "student.json")
    student = student_torch.load(str(tmp_path / "student.json"))
    model = lsd.Diffusion.from_function(in_jax, process, "posterior", time_conditioned=False)
    key_B, place = sequence_keys(jax.random.key(3), B), np.tile(np.arange(L), (B, 1))
    tokens, fixed = np.where(place < L - 3, 2, S - 1), (place % 5 == 1) | (place >= L - 3)
    condition = lsd.Condition(jnp.asarray(tokens, jnp.int32), jnp.asarray(fixed)) if infill else None
    wanted = np.asarray(enumeration.draw(key_B, model, ours, B, condition=condition).tokens)
    given = {"tokens_BL": torch.from_numpy(tokens), "fixed_BL": torch.from_numpy(fixed)} if infill else {}
    noise = noise_of(student_torch, student, key_B, process, coupling)
    found = student_torch.sample(student, in_torch, B, noise=noise, **given).numpy()
    assert (found == wanted).all(-1).mean() > 0.98
    length = np.full((B, 1), L - 3) if infill else (noise.prior().numpy() == S).sum(1, keepdims=True)
    np.testing.assert_array_equal(found == S - 1, place >= length)


def test_a_condition_gives_the_pads_too(student_torch):
    """No length is drawn: the free position takes a token, never the pad, in proportion to what the network says of it."""
    table, model, network = case_of_lengths("posterior")
    student, count = lsd.sampler("tweedie", 3).bound_to(model, 3).record(), 20_000

    class NoLength(student_torch.Noise):
        def length(self):
            raise AssertionError("the length was drawn")

    given = torch.tensor([1, 0, 2]).expand(count, 3), torch.tensor([True, False, True]).expand(count, 3)
    noise = NoLength(student, count, torch.Generator().manual_seed(1))
    drawn = student_torch.sample(student, network, count, "posterior", "none", *given, noise=noise).numpy()
    odds = np.exp(table[1, 3, 2, 1, :2])
    assert (drawn[:, [0, 2]] == [1, 2]).all() and (drawn[:, 1] < 2).all()
    assert (drawn[:, 1] == 0).mean() == pytest.approx(odds[0] / odds.sum(), abs=0.015)


def test_the_length_is_the_inverse_of_the_cumulative_shares(student_torch):
    student = lsd.sampler("tweedie", 3).bound_to(case_of_lengths("posterior")[1], 3).record()

    class Chosen(student_torch.Noise):
        def length(self):
            return torch.tensor([[2.0**-33], [0.24], [0.26], [0.54], [0.56], [1 - 2.0**-24]], dtype=torch.float64)

    assert (Chosen(student, 6).prior() == 3).sum(1).tolist() == [1, 1, 2, 2, 3, 3]
    assert Chosen(student, 6).prior()[0].tolist() == [3, 2, 2]


def test_lengths_that_do_not_fit_are_told(student_torch, tmp_path):
    lsd.sampler("tweedie", 3).bound_to(case_of_lengths("posterior")[1], 3).save(tmp_path / "student.json")
    text = (tmp_path / "student.json").read_text()
    for old, new, message in (
        ('"sequence_length": 3', '"sequence_length": 5', "'lengths' needs 6 shares"),
        ("0.45", "0.35", "'lengths' needs 4 shares .* that sum to one"),
        ('"process": "absorbing"', '"process": "uniform"', "'lengths' has a meaning for the absorbing process only"),
    ):
        assert old in text
        (tmp_path / "bad.json").write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=message):
            student_torch.load(str(tmp_path / "bad.json"))


def test_factors_are_the_table_that_is_their_product(student_torch):
    left, own = RNG.normal(size=(S, 2)), RNG.normal(size=(2, S))
    entries = [{"step": 1, "distance": 2, "left": left.tolist(), "own": own.tolist()}]
    (table,) = student_torch.tables_of({"potentials": entries}, 1).values()
    np.testing.assert_allclose(table, left @ own, rtol=1e-5)


def test_what_it_cannot_run_is_told(student_torch, tmp_path):
    process = lsd.Absorbing(S, lsd.LogLinear())
    make(process, "tweedie", GOLDEN).save(tmp_path / "student.json")
    text = (tmp_path / "student.json").read_text()
    for old, new, message in (
        ("lsd_jax.student/1", "other/3", "field 'format'"),
        ('"kernel": "tweedie"', '"kernel": "remdm_cap"', "kernel 'remdm_cap' is not implemented here"),
        ('"process": "absorbing"', '"process": "gaussian"', "process 'gaussian' is not implemented here"),
        ('"steps": 4', '"steps": 5', "'time_grid' does not fall"),
    ):
        (tmp_path / "bad.json").write_text(text.replace(old, new))
        with pytest.raises(ValueError, match=message):
            student_torch.load(str(tmp_path / "bad.json"))
    student = student_torch.load(str(tmp_path / "student.json"))
    with pytest.raises(ValueError, match="output='logits': choose one of"):
        student_torch.sample(student, in_torch, 2, output="logits")


def test_it_needs_no_jax():
    text = FILE.read_text()
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= {*sys.stdlib_module_names, "numpy", "torch"}


def test_the_script_of_the_docs_goes_from_torch_to_a_student_and_back(tmp_path):
    """docs/your_model.md, as a user pastes it, in a process of its own."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "your_model.md").read_text()
    code = next(code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "student_torch" in code)
    check = "assert tokens.shape == (8, 32) and 0 <= tokens.min() and tokens.max() < 16"
    (tmp_path / "script.py").write_text(f"{code}\n{check}\n")
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(lsd.__file__).parents[1])}
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
