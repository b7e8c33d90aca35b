"""All that samples alone can tell of a sampler, in one call, for each kind of task.

No number of it is to be read alone: `baselines.cheats` win single ones. What a perfect sampler scores at the same sample
size is `floor`. The M-step bound, which needs the sampler and not only its samples, is in `metrics.bound`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections
import numpy as np
import scipy.stats

from lsd_jax import experiment
from lsd_jax.data import loader
from lsd_jax.data.chain import sample_chain
from lsd_jax.metrics import chain, energy, events, mauve, ngram, repetition
from lsd_jax.metrics.bootstrap import mean_interval, resample_weights, shifted_interval
from lsd_jax.metrics.features import read_sequences
from lsd_jax.models import weights
from lsd_jax.models.ddit import DDiT

Metrics = dict[str, tuple[float, float, float]]  # name -> (value, low, high)

LAGS = (1, 2, 4, 8)
ORDERS = (1, 2, 3, 4)
REPEATS = (4, 8)


class Task(NamedTuple):
    """What samples are held against.

    Attributes:
        kind: "chain", "toy" or "text".
        vocab_size: tokens are 0 ... vocab_size - 1.
        measure: (tokens, seed, resamples) -> Metrics.
        real: (rng, count) -> sequences of the data's own law (count, L).
        best: metric -> the value that no sampler can better: 0 of a divergence, the data's own of a property.
    """

    kind: str
    vocab_size: int
    measure: Callable[[np.ndarray, int, int], Metrics]
    real: Callable[[np.random.Generator, int], np.ndarray]
    best: Mapping[str, float]


def suite(task: Task, tokens: np.ndarray, seed: int = 0, resamples: int = 200) -> Metrics:
    """name -> (value, low, high) of samples (N, L): 95 % intervals over sequences; without resamples, values alone.

    chain: `lag{k}_tv`, `transition_kl_nats`, `chain_nats` (cost under the chain, nats a token), `entropy_bits`; the error
    counts of `metrics.chain` on countdown.
    toy: `exact_tv`, `exact_kl_nats`: plug-in divergences from the enumerated law; `entropy_bits`.
    text: `tv{n}`, `js{n}`, `mauve_like`, `energy`, `energy_p`, `gen_ppl`, `entropy_bits`, `rep{n}`, `longest_run`.

    Raises:
        ValueError: tokens outside the vocabulary (a mask left over), or too few sequences.
    """
    if tokens.size and tokens.max() >= task.vocab_size:
        raise ValueError(f"samples hold token {tokens.max()}; the data's are 0 ... {task.vocab_size - 1}")
    return task.measure(tokens, seed, resamples)


def floor(task: Task, count: int, draws: int = 20, seed: int = 0) -> Metrics:
    """The plug-in floor: (mean, low, high) of every metric over `draws` samples of the data's own law, `count` each.

    A divergence of finitely many samples is above zero even for an exact sampler; low and high are the 95 % range of one
    such sample's value. Text is drawn from the validation split.
    """
    rng = np.random.default_rng([seed, 11])
    found = [suite(task, task.real(rng, count), seed + index, 0) for index in range(draws)]
    values = {name: np.array([metrics[name][0] for metrics in found]) for name in found[0]}
    return {name: (float(v.mean()), *map(float, np.quantile(v, [0.025, 0.975]))) for name, v in values.items()}


def overall_rank(rows: Sequence[Metrics], best: Mapping[str, float]) -> np.ndarray:
    """Each row's mean rank (n,) over the metrics in `best`, 1 the nearest to the best value; ties share their rank.

    Raises:
        ValueError: a row lacks a metric.
    """
    missing = sorted({name for name in best for row in rows if name not in row})
    if missing:
        raise ValueError(f"rows to rank lack {', '.join(missing)}")
    return np.mean([ranks(rows, name, value) for name, value in best.items()], 0)


def ranks(rows: Sequence[Metrics], name: str, best: float) -> np.ndarray:
    """Each row's rank (n,) by one metric, 1 the nearest to `best`."""
    return scipy.stats.rankdata([abs(row[name][0] - best) for row in rows])


def make_task(config: ml_collections.ConfigDict, references: int = 1024) -> Task:
    """The task of a config: its exact law, or on text the test split, of which `references` sequences give features.

    Raises:
        ValueError, FileNotFoundError: an unusable data set, or text without `config.evaluation.scorer`.
    """
    length, vocab = config.data.sequence_length, config.data.vocab_size
    if experiment.has_exact_chain(config):
        law = experiment.chain_of(config)
        real = lambda rng, count: sample_chain(rng, *law, count, length)
        if config.data.name == "toy":
            return toy_task((law[0][:, None] * law[1]).ravel(), vocab, real)
        return chain_task(law, length, real, grammar=config.data.name == "countdown")
    if not config.evaluation.scorer:
        raise ValueError("config.evaluation.scorer is empty: the text suite reads likelihood and features from it")
    sizes, params, _ = weights.load(weights.resolve(config.evaluation.scorer))
    read = functools.partial(read_sequences, DDiT(sizes), params, batch_size=config.evaluation.batch_size)
    held_back = loader.load_split(config.data, "validation")
    real = lambda rng, count: held_back[_choose(rng, len(held_back), count)]
    return text_task(loader.load_split(config.data, "test"), vocab, read, real, references)


def chain_task(law: tuple[np.ndarray, np.ndarray], length: int, real, grammar: bool) -> Task:
    """Samples against a known chain (initial law, transition matrix); `grammar` adds countdown's error counts."""
    initial, transition = law
    size = len(initial)
    lags = [lag for lag in LAGS if lag < length]
    exact = {lag: chain.exact_lag_law(initial, transition, length, lag).ravel() for lag in lags}

    def measure(tokens: np.ndarray, seed: int, resamples: int) -> Metrics:
        of_means = {
            "chain_nats": -chain.exact_log_prob(tokens, initial, transition) / length,
            "entropy_bits": ngram.unigram_entropy(tokens, size),
            **(chain.countdown_errors_by_sequence(tokens) if grammar else {}),
        }
        found = {name: mean_interval(values, seed, resamples) for name, values in of_means.items()}
        for lag in lags:
            counted = events.count_events(chain.lag_pairs(tokens, lag, size))
            reference = ngram.NGrams(np.arange(size**2), exact[lag])
            statistics = {f"lag{lag}_tv": events.divergences(counted, reference)["tv"]}
            if lag == 1:
                statistics["transition_kl_nats"] = functools.partial(_transition_kls, counted.ids, transition)
            found |= events.law_intervals(counted, statistics, seed, resamples)
        return found

    best = {"transition_kl_nats": 0.0, **{f"lag{lag}_tv": 0.0 for lag in lags}}
    best["chain_nats"] = _entropy_rate(initial, transition, length)
    return Task("chain", size, measure, real, best)


def toy_task(law_K: np.ndarray, vocab_size: int, real) -> Task:
    """Samples against a law on every sequence, in the order of `models.oracle.all_sequences`."""

    def measure(tokens: np.ndarray, seed: int, resamples: int) -> Metrics:
        counted = events.count_events(ngram.ngram_ids(tokens, tokens.shape[1], vocab_size))
        statistics = {
            "exact_tv": events.divergences(counted, ngram.NGrams(np.arange(len(law_K)), law_K))["tv"],
            "exact_kl_nats": lambda laws: _kl(laws, law_K[counted.ids][None]),
        }
        entropy = mean_interval(ngram.unigram_entropy(tokens, vocab_size), seed, resamples)
        return events.law_intervals(counted, statistics, seed, resamples) | {"entropy_bits": entropy}

    return Task("toy", vocab_size, measure, real, {"exact_tv": 0.0, "exact_kl_nats": 0.0})


def text_task(reference: np.ndarray, vocab_size: int, read, real, references: int) -> Task:
    """Samples against real text; `read` gives (-log p, features) of sequences by an autoregressive scorer."""
    laws = {order: ngram.ngram_law(reference, order, vocab_size) for order in ORDERS}
    chosen = reference[:references]
    nats, features = read(chosen)

    def measure(tokens: np.ndarray, seed: int, resamples: int) -> Metrics:
        found: Metrics = {}
        for order, law in laws.items():
            counted = events.count_events(ngram.ngram_ids(tokens, order, vocab_size))
            statistics = events.divergences(counted, law)
            named = {f"{name}{order}": statistic for name, statistic in statistics.items()}
            found |= events.law_intervals(counted, named, seed, resamples)
        cost, own = read(tokens)
        found["gen_ppl"] = _perplexity(cost / tokens.shape[1], seed, resamples)
        found["mauve_like"] = mauve.mauve_like(own, features[: len(own)], seed, resamples)
        between = energy.distances(own, features)
        found["energy"] = energy.energy_interval(between, seed, resamples)
        if resamples:
            found["energy_p"] = (energy.energy_p_value(between, seed),) * 3
        for name, values in _properties(tokens, vocab_size).items():
            found[name] = mean_interval(values, seed, resamples)
        return found

    divergences = {f"{name}{order}": 0.0 for order in ORDERS for name in ("tv", "js")}
    own = {name: float(values.mean()) for name, values in _properties(chosen, vocab_size).items()}
    perplexity = float(np.exp(nats.mean() / chosen.shape[1]))
    best = {**divergences, "mauve_like": 1.0, "energy": 0.0, "gen_ppl": perplexity, **own}
    return Task("text", vocab_size, measure, real, best)


def _properties(tokens: np.ndarray, vocab_size: int) -> dict[str, np.ndarray]:
    """What has no best value but the data's own, a number a sequence."""
    repeats = {f"rep{n}": repetition.repetition_rate(tokens, n, vocab_size) for n in REPEATS}
    entropy = ngram.unigram_entropy(tokens, vocab_size)
    return {"entropy_bits": entropy, **repeats, "longest_run": repetition.longest_run(tokens)}


def _perplexity(nats_a_token: np.ndarray, seed: int, resamples: int) -> tuple[float, float, float]:
    drawn = resample_weights(len(nats_a_token), seed, resamples) @ nats_a_token / len(nats_a_token)
    return shifted_interval(float(np.exp(nats_a_token.mean())), np.exp(drawn))


def _transition_kls(ids: np.ndarray, transition: np.ndarray, laws_RK: np.ndarray) -> np.ndarray:
    joints = np.zeros((len(laws_RK), transition.size))
    joints[:, ids] = laws_RK
    return chain.transition_kls(joints.reshape(-1, *transition.shape), transition)


def _kl(laws_RK: np.ndarray, exact_1K: np.ndarray) -> np.ndarray:
    return (laws_RK * np.log(np.where(laws_RK > 0, laws_RK / exact_1K, 1))).sum(1)


def _entropy_rate(initial: np.ndarray, transition: np.ndarray, length: int) -> float:
    """The chain's own mean cost, nats a token."""
    first = -np.sum(initial * np.log(initial))
    if length == 1:
        return float(first / length)
    joint = chain.exact_lag_law(initial, transition, length, 1)
    return float((first - (length - 1) * np.sum(joint * np.log(transition))) / length)


def _choose(rng: np.random.Generator, available: int, count: int) -> Any:
    if count > available:
        raise ValueError(f"{count} real sequences are wanted, the validation split holds {available}")
    return rng.choice(available, count, replace=False)
