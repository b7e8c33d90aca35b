"""Characters of a corpus: samples against held-out text, by n-grams, by a scorer of our own, and by their own repetition."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics import energy, mauve, ngram, repetition
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.counts import ngram_divergences
from lsd_jax.metrics.gen_ppl import gen_ppl_column, perplexity, perplexity_interval
from lsd_jax.metrics.metric import Metrics
from lsd_jax.metrics.scorer import load_scorer
from lsd_jax.samplers.kernel import Condition
from lsd_jax.tasks import alphabet, corpus, degenerate
from lsd_jax.tasks.task import Baseline, Data, Judge, Task

if TYPE_CHECKING:
    from lsd_jax.tasks.builder import Source


class _Reference(NamedTuple):
    """What real text scores: n-gram distributions, the properties' means, gen-PPL and features."""

    ngrams: Mapping[int, ngram.NGrams]
    best: Mapping[str, float]
    features_ND: np.ndarray | None


class Text(Task):
    """The U.S. State of the Union addresses, or a text file, in the 27 symbols of text8.

    `tv{n}`, `js{n}` (divergences of n-grams from the test split), `entropy_bits`, `rep{n}`, `longest_run`; with a scorer
    `gen_ppl`, `mauve_like` (from 20 samples on), `energy` and, with resamples, `energy_p`.

    Attributes:
        orders: n of the divergences' n-grams.
        repeats: n of the repetition rates.
        units: what the tokens are, in a message.
    """

    orders: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    repeats: ClassVar[tuple[int, ...]] = repetition.REPEATS
    units: ClassVar[str] = "27 symbols of text"

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        self._check_vocab_size()
        if judge and judge.protocol:
            raise InputError(f"protocol={judge.protocol!r}: GPT-2 does not read the {self.units}; leave it empty")
        self._scorer = None
        if judge and judge.scorer:
            self._scorer = load_scorer(judge.scorer, judge.batch_size, self.vocab_size)
        self._orders = [n for n in self.orders if n <= self.length]
        self._repeats = [n for n in self.repeats if n <= self.length]
        self.primary = f"tv{self._orders[:3][-1]}"
        judged = (mauve.MAUVE_LIKE, *energy.ENERGY_COLUMNS, gen_ppl_column()) if self._scorer else ()
        properties = (ngram.ENTROPY, *repetition.repetition_columns(self._repeats))
        self.columns = (*ngram.ngram_columns(self._orders), *judged, *properties)

    def _check_vocab_size(self) -> None:
        alphabet.check_vocab_size(self.name, self.vocab_size)

    @property
    def best(self) -> Mapping[str, float]:
        """0 of a divergence, 1 of MAUVE, and the test split's own gen-PPL and properties."""
        return {**super().best, **self._reference.best}

    def source(self) -> "Source":
        from lsd_jax.tasks.builder import Source

        path, normalize = self.data.path, self.data.normalize

        def make() -> dict[str, np.ndarray]:
            return corpus.split_chunks(corpus.read_corpus(path, normalize))

        return Source("text", corpus.corpus_variant(path, normalize), corpus.CHUNK, self.vocab_size, make)

    @functools.cached_property
    def _reference(self) -> _Reference:
        rows = self.split("test")
        ngrams = {order: ngram.ngram_distribution(rows, order, self.vocab_size) for order in self._orders}
        best, features, chosen = {}, None, rows[: (self.judge or Judge()).references or None]
        if self._scorer:
            scored, features = self._scorer.read(chosen)
            best["gen_ppl"] = perplexity(scored)
        best |= {name: float(values.mean()) for name, values in self._properties(chosen).items()}
        return _Reference(ngrams, best, features)

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        found = ngram_divergences(tokens_NL, self._reference.ngrams, self.vocab_size, seed, resamples)
        if self._scorer:
            scored, features = self._scorer.read(tokens_NL)
            found["gen_ppl"] = perplexity_interval(scored, seed, resamples)
            found |= self._of_features(features, seed, resamples)
        for name, values in self._properties(tokens_NL).items():
            found[name] = mean_interval(values, seed, resamples)
        return found

    def _of_features(self, features_ND: np.ndarray, seed: int, resamples: int) -> Metrics:
        """MAUVE-like and energy distance from the features of real text, where there are enough samples for them."""
        found, real = {}, self._reference.features_ND
        if min(len(features_ND), len(real)) >= mauve.MIN_ROWS:
            found["mauve_like"] = mauve.mauve_like(features_ND, real[: len(features_ND)], seed, resamples)
        if min(len(features_ND), len(real)) >= 2:
            between = energy.distances(features_ND, real)
            found["energy"] = energy.energy_interval(between, seed, resamples)
            if resamples:
                found["energy_p"] = (energy.energy_p_value(between, seed),) * 3
        return found

    def _properties(self, tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
        """What has no best value but the data's own, one number per sequence."""
        return {
            "entropy_bits": ngram.unigram_entropy(tokens_NL, self.vocab_size),
            **{f"rep{n}": repetition.repetition_rate(tokens_NL, n, self.vocab_size) for n in self._repeats},
            "longest_run": repetition.longest_run(tokens_NL),
        }

    def _condition(self, prompt: str, count: int) -> Condition:
        return alphabet.prompt_condition(prompt, count, self.length)

    def _decode(self, tokens_L: np.ndarray) -> str:
        return alphabet.decode(tokens_L)

    def baselines(self) -> dict[str, Baseline]:
        return degenerate.BASELINES

    def facts(self) -> dict[str, Any]:
        return {"scorer": self._scorer.identity} if self._scorer else {}
