"""Data drawn from an exactly known Markov chain: countdown, bigram and toy. Samples are held against the chain itself."""

import functools
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.keys import RowStream, generator
from lsd_jax.metrics import chain, ngram
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.counts import Statistic, count_events, count_intervals, divergences
from lsd_jax.metrics.metric import Metrics
from lsd_jax.models.model import Diffusion, Identity
from lsd_jax.models.oracle import LogPosteriorFn, enumerated_log_posterior, markov_log_posterior
from lsd_jax.processes.process import Process
from lsd_jax.samplers.kernel import Condition
from lsd_jax.tasks import alphabet, chain_laws, degenerate
from lsd_jax.tasks.task import Baseline, Data, Judge, Task

if TYPE_CHECKING:
    from lsd_jax.tasks.builder import Source

SPLITS = {"train": (0, 20_000), "validation": (1, 2_000), "test": (2, 2_000)}  # seed offset, sequences
_LAGS = (1, 2, 4, 8)


class Chain(Task):
    """A Markov chain: `lag{k}_tv`, `transition_kl_nats`, `chain_nats` (cost under the chain, nats per token), `entropy_bits`.

    A subclass gives `chain`. A scorer is not read: the exact distribution says all that it could.
    """

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        for field in ("scorer", "protocol"):
            if judge and getattr(judge, field):
                raise InputError(
                    f"{field}={getattr(judge, field)!r}: {data.name} is judged by its exact law; leave it empty"
                )
        self.initial, self.transition = self.chain()
        self._lags = [lag for lag in _LAGS if lag < self.length]
        pairs = (chain.TRANSITION_KL, *chain.lag_columns(self._lags)) if self._lags else ()
        self.columns = (*pairs, chain.CHAIN_NATS, ngram.ENTROPY)
        self.primary = "lag1_tv" if self._lags else "chain_nats"

    def chain(self) -> chain_laws.Chain:
        """The first token's distribution (S,) and the transition matrix (S, S).

        Raises:
            ValueError, FileNotFoundError: a setting that does not fit the chain.
        """
        raise NotImplementedError

    @property
    def best(self) -> Mapping[str, float]:
        """0 of a divergence, and the chain's own mean cost."""
        return {**super().best, "chain_nats": self._entropy_rate}

    @functools.cached_property
    def _entropy_rate(self) -> float:
        from scipy.special import xlogy  # where it is used: it takes a third of a second to import

        first = -np.sum(xlogy(self.initial, self.initial))
        if self.length == 1:
            return float(first)
        joint = chain.exact_lag_distribution(self.initial, self.transition, self.length, 1)
        return float((first - (self.length - 1) * np.sum(xlogy(joint, self.transition))) / self.length)

    @functools.cached_property
    def _exact_pairs(self) -> dict[int, np.ndarray]:
        """lag -> the exact distribution (S * S,) of tokens so many places apart."""
        return {
            lag: chain.exact_lag_distribution(self.initial, self.transition, self.length, lag).ravel()
            for lag in self._lags
        }

    def source(self) -> "Source":
        from lsd_jax.tasks.builder import Source

        digest = hashlib.sha256(self.initial.tobytes() + self.transition.tobytes()).hexdigest()[:12]
        variant = f"{self.name}_s{self.vocab_size}_l{self.length}_{digest}_seed0"

        def make() -> dict[str, np.ndarray]:
            return {
                split: self.real(np.random.default_rng([0, offset]), count) for split, (offset, count) in SPLITS.items()
            }

        return Source("chain", variant, self.length, self.vocab_size, make)

    def real(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Fresh draws (count, L) of the chain."""
        return chain_laws.sample_chain(rng, self.initial, self.transition, count, self.length)

    def data_row(self, seed: int, count: int) -> np.ndarray:
        """Fresh draws (count, L) of the chain."""
        return self.real(generator(seed, RowStream.REAL), count)

    def exact_log_prob(self, tokens_NL: np.ndarray) -> np.ndarray:
        return chain.exact_log_prob(tokens_NL, self.initial, self.transition)

    def oracle(self, process: Process) -> Diffusion:
        """The exact denoiser, by forward-backward.

        Raises:
            ValueError: mix=0, at which contexts can contradict themselves.
        """
        return self._as_model(markov_log_posterior(process, self.initial, self.transition), process)

    def _as_model(self, log_posterior: LogPosteriorFn, process: Process) -> Diffusion:
        identity = Identity("oracle", f"{self.name} mix={self.data.mix:g}", "")
        # Of a mask only the tokens around it tell anything, whatever the time.
        timed = not process.jumps_once
        return Diffusion.from_function(log_posterior, process, "log_posterior", identity, time_conditioned=timed)

    def _by_sequence(self, tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics that are means of one number per sequence."""
        return {
            "chain_nats": -self.exact_log_prob(tokens_NL) / self.length,
            "entropy_bits": ngram.unigram_entropy(tokens_NL, self.vocab_size),
        }

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        means = self._by_sequence(tokens_NL)
        found = {name: mean_interval(values, seed, resamples) for name, values in means.items()}
        size = self.vocab_size
        for lag, exact in self._exact_pairs.items():
            counted = count_events(chain.lag_pairs(tokens_NL, lag, size))
            statistics: dict[str, Statistic] = {
                f"lag{lag}_tv": divergences(counted, ngram.NGrams(np.arange(size**2), exact))["tv"]
            }
            if lag == 1:
                statistics["transition_kl_nats"] = functools.partial(_transition_kls, counted.ids, self.transition)
            found |= count_intervals(counted, statistics, seed, resamples)
        return found


class Countdown(Chain):
    """Countdown (JYS, Park et al. 2024): a chain's metrics, and three ways to count violations of its grammar."""

    reads_file = False

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        self.columns = (*chain.COUNTDOWN_COLUMNS, *self.columns)

    def chain(self) -> chain_laws.Chain:
        return chain_laws.countdown(self.vocab_size, self.data.mix)

    def _by_sequence(self, tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
        return super()._by_sequence(tokens_NL) | chain.countdown_errors_by_sequence(tokens_NL)


class Bigram(Chain):
    """A chain of letters with the bigrams of the training text; it reads and prints like text."""

    def chain(self) -> chain_laws.Chain:
        alphabet.check_vocab_size(self.name, self.vocab_size)
        return chain_laws.bigram(self.data.mix, self.data.path, self.data.normalize)

    def _condition(self, prompt: str, count: int) -> Condition:
        return alphabet.prompt_condition(prompt, count, self.length)

    def _decode(self, tokens_L: np.ndarray) -> str:
        return alphabet.decode(tokens_L)

    def baselines(self) -> dict[str, Baseline]:
        return degenerate.BASELINES


class Toy(Chain):
    """Two tokens, few enough to enumerate: `exact_tv`, `exact_kl_nats` from the joint distribution, `entropy_bits`.

    `transition_kl_nats` is what of the KL the second token owes, given the first.
    """

    reads_file = False

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        self.columns = (*chain.EXACT_COLUMNS, ngram.ENTROPY, chain.TRANSITION_KL)
        self.primary = "exact_tv"

    def chain(self) -> chain_laws.Chain:
        if self.length != chain_laws.TOY_LENGTH:
            raise InputError(f"sequence_length={self.length}: toy has {chain_laws.TOY_LENGTH} tokens")
        return chain_laws.toy(self.vocab_size, self.data.mix)

    @property
    def best(self) -> Mapping[str, float]:
        """0 of the divergences of both tokens together."""
        return {column.name: 0.0 for column in chain.EXACT_COLUMNS}

    def oracle(self, process: Process) -> Diffusion:
        """The exact denoiser, by enumeration."""
        return self._as_model(enumerated_log_posterior(process, self._joint, self.length), process)

    @functools.cached_property
    def _joint(self) -> np.ndarray:
        """The probabilities (S * S,), in the order of `models.oracle.all_sequences`."""
        return (self.initial[:, None] * self.transition).ravel()

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        joint = self._joint
        counted = count_events(ngram.ngram_ids(tokens_NL, self.length, self.vocab_size))
        statistics: dict[str, Statistic] = {
            "exact_tv": divergences(counted, ngram.NGrams(np.arange(len(joint)), joint))["tv"],
            "exact_kl_nats": functools.partial(_kl, joint[counted.ids][None]),
            "transition_kl_nats": functools.partial(_transition_kls, counted.ids, self.transition),
        }
        entropy = mean_interval(ngram.unigram_entropy(tokens_NL, self.vocab_size), seed, resamples)
        return count_intervals(counted, statistics, seed, resamples) | {"entropy_bits": entropy}


def _transition_kls(ids: np.ndarray, transition: np.ndarray, probs_RK: np.ndarray) -> np.ndarray:
    joints = np.zeros((len(probs_RK), transition.size))
    joints[:, ids] = probs_RK
    return chain.transition_kls(joints.reshape(-1, *transition.shape), transition)


def _kl(exact_1K: np.ndarray, probs_RK: np.ndarray) -> np.ndarray:
    return (probs_RK * np.log(np.where(probs_RK > 0, probs_RK / exact_1K, 1))).sum(1)
