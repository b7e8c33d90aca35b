"""Data drawn from an exactly known Markov chain: which chains there are, how they are drawn, and their TFDS builder."""

import hashlib

import ml_collections
import numpy as np
import tensorflow_datasets as tfds

from lsd_jax.data import bigram, countdown, toy

CHAINS = ("countdown", "bigram", "toy")
SPLITS = {"train": (0, 20_000), "validation": (1, 2_000), "test": (2, 2_000)}  # seed offset, sequences


def chain_of(data: ml_collections.ConfigDict) -> tuple[np.ndarray, np.ndarray]:
    """The initial law (S,) and transition matrix (S, S) of a config's `data` section, float64.

    Raises:
        ValueError, FileNotFoundError: a field that does not fit the chain, or data without a known one.
    """
    if data.name == "countdown":
        return countdown.transition_matrix(data.vocab_size, data.mix)
    if data.name == "bigram":
        return bigram.transition_matrix(data.mix, data.path, data.normalize)
    if data.name == "toy":
        if data.sequence_length != toy.LENGTH:
            raise ValueError(f"config.data.sequence_length={data.sequence_length}: toy has {toy.LENGTH} tokens")
        return toy.transition_matrix(data.vocab_size, data.mix)
    raise ValueError(f"config.data.name={data.name!r} has no exactly known law; {CHAINS} have")


def sample_chain(
    rng: np.random.Generator, initial: np.ndarray, transition: np.ndarray, count: int, length: int
) -> np.ndarray:
    """Draws `count` sequences (count, length) of a Markov chain, uint8, by inverse CDF in float64."""
    cumulative = np.cumsum(transition, 1)
    tokens = np.empty((count, length), np.uint8)
    # Rounding may leave the last sum a little below one.
    first = np.searchsorted(np.cumsum(initial), rng.random(count), side="right")
    tokens[:, 0] = np.minimum(first, len(initial) - 1)
    for i in range(1, length):
        rows = cumulative[tokens[:, i - 1]]
        tokens[:, i] = np.minimum((rows <= rng.random(count)[:, None]).sum(1), len(initial) - 1)
    return tokens


class Chain(tfds.core.GeneratorBasedBuilder):
    """Sequences of a Markov chain; 24,000 of them in three splits drawn with different seeds."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, name: str, chain: tuple[np.ndarray, np.ndarray], length: int, seed: int = 0, **kwargs):
        self._chain, self._length, self._seed = chain, length, seed
        digest = hashlib.sha256(b"".join(part.astype(np.float64).tobytes() for part in chain)).hexdigest()[:12]
        config = tfds.core.BuilderConfig(name=f"{name}_s{len(chain[0])}_l{length}_{digest}_seed{seed}")
        super().__init__(config=config, file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        feature = tfds.features.Tensor(shape=(self._length,), dtype=np.uint8)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"tokens": feature}), description=__doc__
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(*setting) for split, setting in SPLITS.items()}

    def _generate_examples(self, offset: int, count: int):
        rng = np.random.default_rng([self._seed, offset])
        for index, tokens in enumerate(sample_chain(rng, *self._chain, count, self._length)):
            yield index, {"tokens": tokens}
