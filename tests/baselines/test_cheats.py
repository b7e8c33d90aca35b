import numpy as np
import pytest

from configs import text
from lsd_jax.baselines import cheats
from lsd_jax.data import loader
from lsd_jax.data.alphabet import decode
from lsd_jax.evaluation import draw_samples
from lsd_jax.experiment import backbone_of, process_of
from lsd_jax.metrics import suite

COUNT, LENGTH = 160, 128
# What people report, and which way they read it.
NAIVE = {"gen_ppl": min, "rep4": min, "rep8": min, "longest_run": min, "entropy_bits": max, "tv1": min, "tv4": min}


def test_top_k_draws_the_frequent_tokens_as_often_as_the_text():
    training = np.repeat(np.arange(20), np.arange(1, 21))[None].astype(np.uint8)  # token v occurs v + 1 times
    tokens = cheats.top_k_iid(np.random.default_rng(0), training, 500, 100)
    assert tokens.min() == 8 and tokens.max() == 19  # the twelve most frequent
    assert np.mean(tokens == 19) == pytest.approx(20 / sum(range(9, 21)), abs=0.01)


def test_periodic_repeats_a_snippet_that_joins_with_itself():
    rng = np.random.default_rng(0)
    training = rng.integers(0, 4, (300, 40)).astype(np.uint8)
    tokens = cheats.periodic(rng, training, 20, 50)
    np.testing.assert_array_equal(tokens[:, 12:], tokens[:, :-12])
    corpus = " ".join("".join(map(str, row)) for row in training)
    common = np.bincount(training.ravel()).argmax()
    for row in tokens:
        starts = [i for i in range(12) if row[i] == common and "".join(map(str, row[i : i + 13])) in corpus]
        assert starts
    with pytest.raises(ValueError, match="places apart"):
        cheats.periodic(rng, np.arange(40, dtype=np.uint8)[None], 1, 50)


@pytest.mark.parametrize("length", [10, 11])
def test_mirror_reads_the_same_backwards_and_its_first_half_is_training_text(length):
    rng = np.random.default_rng(0)
    training = np.arange(30)[None].repeat(3, 0).astype(np.uint8)
    tokens = cheats.mirror(rng, training, 40, length)
    assert tokens.shape == (40, length)
    half = (length + 1) // 2
    assert (np.diff(tokens[:, :half].astype(int)) == 1).all()
    backwards = tokens[:, :half][:, ::-1]
    np.testing.assert_array_equal(tokens[:, half:], backwards[:, : length - half])
    with pytest.raises(ValueError, match="training sequences"):
        cheats.mirror(rng, training[:, :3], 1, length)


@pytest.fixture(scope="module")
def task():
    return suite.make_task(text.get_config(), references=512)


def rows_of(task, samples):
    real = task.real(np.random.default_rng(0), COUNT)
    return {name: suite.suite(task, tokens, resamples=0) for name, tokens in {"real": real, **samples}.items()}


def check(rows, best):
    """Every cheat beats real text on something people report, and loses to it on most of the suite and overall."""
    overall = dict(zip(rows, suite.overall_rank(list(rows.values()), best)))
    for name in rows.keys() - {"real"}:
        value = lambda row, metric: rows[row][metric][0]  # noqa: E731
        won = [m for m, better in NAIVE.items() if better(value(name, m), value("real", m)) != value("real", m)]
        assert won, name
        lost = [abs(value(name, m) - aim) > abs(value("real", m) - aim) for m, aim in best.items()]
        assert np.mean(lost) > 0.8, (name, lost)
        assert overall["real"] < overall[name], overall


def test_cheats_win_single_metrics_and_lose_the_suite(task):
    training = loader.load_split(text.get_config().data, "train")
    samples = {name: draw(np.random.default_rng(1), training, COUNT, LENGTH) for name, draw in cheats.CHEATS.items()}
    for tokens in samples.values():
        assert tokens.shape == (COUNT, LENGTH) and set(decode(tokens[0])) <= set(" abcdefghijklmnopqrstuvwxyz")
    rows = rows_of(task, samples)
    assert rows["periodic text"]["gen_ppl"][0] < rows["real"]["gen_ppl"][0]
    check(rows, task.best)


@pytest.mark.slow
def test_low_temperature_wins_gen_ppl_and_loses_the_suite(task, tmp_path):
    import jax

    config = text.get_config()
    sampler = cheats.low_temperature(process_of(config), LENGTH, 32)
    assert sampler.nfe == 32
    tokens = draw_samples(backbone_of(config, tmp_path).model, sampler, jax.random.key(0), COUNT, 32)
    rows = rows_of(task, {"low temperature": tokens})
    assert rows["low temperature"]["gen_ppl"][0] < rows["real"]["gen_ppl"][0]
    check(rows, task.best)
