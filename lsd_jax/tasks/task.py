"""A task: one kind of data, its splits, its metrics with their columns, and how a person sees a sample.

A new domain is a class of this kind in a file of its own, and its name in `registry.TASKS`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.keys import RowStream, generator
from lsd_jax.metrics.metric import Column, Metrics
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers.kernel import Condition

if TYPE_CHECKING:
    from lsd_jax.tasks.builder import Source

Baseline = Callable[[np.random.Generator, np.ndarray, int, int], np.ndarray]  # (rng, train, count, length) -> tokens


@dataclasses.dataclass(frozen=True)
class Data:
    """Which data, and how it is cut into sequences.

    Attributes:
        name: of the task, a key of registry.TASKS.
        path: text, subwords, bigram, proteins: a text file instead of what ships. cifar10: its archive. tokens: a text or .npy
            file, or empty for no data at all. molecules, molecules_logp, molecules_qed, selfies: "moses", "qm9" or a file of SMILES.
        tokenizer: tokens: a shipped name, a file, a folder or a repository of the hub; empty: samples print as numbers.
            subwords: a tokenizer's JSON file instead of what ships.
        normalize: text, subwords, bigram: whether a file is reduced to the 27 symbols instead of refused.
        sequence_length: tokens per sequence.
        vocab_size: number of data tokens. proteins: 20, or 21 with a pad for sequences of several lengths.
        shape: images: (channels, height, width).
        mix: countdown, bigram, toy: share of the uniform distribution in every transition.
    """

    name: str = "text"
    path: str = ""
    tokenizer: str = ""
    normalize: bool = False
    sequence_length: int = 128
    vocab_size: int = 27
    shape: tuple[int, ...] = ()
    mix: float = 0.003

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(self.shape))  # a list, from a JSON file
        for field, least in (("sequence_length", 1), ("vocab_size", 2)):
            if getattr(self, field) < least:
                raise InputError(f"{field}={getattr(self, field)}: must be {least} or more")


@dataclasses.dataclass(frozen=True)
class Judge:
    """The networks that samples are judged by.

    Attributes:
        scorer: text, subwords, tokens: weights of the autoregressive scorer; empty: no gen-PPL, and no features of text. proteins: a
            second masked language model.
        protocol: empty: a scorer of our own. "jys", "mdlm": GPT-2, by the conventions of these papers.
        features: images: the Frechet distance's feature network, a shipped name or a file.
        feature_statistics: its reference, an .npz with `mu` and `sigma`; empty: the training split.
        batch_size: sequences per batch, over all devices.
        references: text, proteins, molecules: test sequences that stand for real data; 0: all of them.
    """

    scorer: str = ""
    protocol: str = ""
    features: str = ""
    feature_statistics: str = ""
    batch_size: int = 64
    references: int = 1024


class Task:
    """One kind of data. A subclass gives `source`, `_measure`, `columns` and `primary`, and what else it has.

    Attributes:
        name, vocab_size, length, shape: those of the data; `shape` is () but for images.
        columns: of every metric that `measure` may return.
        primary: the metric that figures show.
        best: metric -> the value that no sampler can better: 0 of a divergence, the data's own of a property.
        has_data: whether there are sequences to hold samples against.
        reads_file: whether `Data.path` means something to it.
        labels: tokens of which one stands first in every sequence, and nowhere else; in the vocabulary they stand before the
            pad, which such a task has.
        image_shape: the (channels, height, width) that the data must have; () but for images.
    """

    columns: tuple[Column, ...] = ()
    primary: str = ""
    has_data: bool = True
    image_shape: ClassVar[tuple[int, ...]] = ()
    reads_file: ClassVar[bool] = True
    labels: ClassVar[tuple[str, ...]] = ()

    def __init__(self, data: Data, judge: Judge | None = None):
        """Checks the settings and loads the judge's networks; the data set is prepared when it is first asked for.

        Raises:
            ValueError, FileNotFoundError: a setting that does not fit, in one line that begins with it.
        """
        self.data, self.judge = data, judge
        self.name, self.vocab_size = data.name, data.vocab_size
        self.length, self.shape = data.sequence_length, data.shape
        if data.shape != self.image_shape:
            raise InputError(f"shape={data.shape}: {data.name} has {self.image_shape or 'no images'}")
        if data.path and not self.reads_file:
            raise InputError(f"path={data.path!r}: {data.name} reads no file; leave it empty")
        if judge and judge.features and not self.image_shape:
            raise InputError(f"features={judge.features!r}: it is for images, not for {data.name}")
        if judge and judge.feature_statistics and not judge.features:
            raise InputError(
                f"feature_statistics={judge.feature_statistics!r}: name features too, the network that they are of"
            )

    @classmethod
    def padded(cls, data: Data) -> bool:
        """Whether sequences of such data have lengths of their own, up to `sequence_length`; the last token is then the pad."""
        del data
        return False

    @property
    def lengths(self) -> tuple[float, ...]:
        """The share of the sequences of each length 0, 1, ..., L, where the last token pads them; () where all have L tokens."""
        return ()

    @property
    def best(self) -> Mapping[str, float]:
        """metric -> its best value, from the columns."""
        return {column.name: column.best for column in self.columns if column.best is not None}

    def source(self) -> "Source":
        """What prepares the data set. Without one, a task has `prepare`, `split` and `batches` of its own."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Makes the data set ready, so that bad input is found before long work.

        Raises:
            ValueError, FileNotFoundError: unusable data, in one line that begins with the setting.
        """
        from lsd_jax.tasks import builder

        builder.check_length(self.source(), self.length)
        builder.prepared(self.source())

    def split(self, part: str) -> np.ndarray:
        """All sequences (n, L) of "train", "validation" or "test", cut without overlap, in a fixed shuffled order.

        Raises:
            ValueError, FileNotFoundError: no such split, or unusable data.
        """
        from lsd_jax.tasks import builder

        return builder.read_split(self.source(), part, self.length)

    def batches(self, batch_size: int, seed: int) -> Iterator[np.ndarray]:
        """An endless grain iterator of int32 (batch, L): random crops of the training split, this process's rows of each batch."""
        from lsd_jax.tasks import builder

        return builder.read_batches(self.source(), self.length, batch_size, seed)

    def remark(self, tokens_NL: np.ndarray) -> str:
        """What a person should know of drawn sequences (n, L) at a glance; empty where there is nothing."""
        del tokens_NL
        return ""

    def real(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Sequences (count, L) of the data's own distribution: drawn without replacement from the validation split.

        Raises:
            ValueError: more than there are.
        """
        rows = self._validation
        if count > len(rows):
            raise InputError(f"{count} real sequences are wanted, the validation split holds {len(rows)}")
        return rows[rng.choice(len(rows), count, replace=False)]

    @functools.cached_property
    def _validation(self) -> np.ndarray:
        return self.split("validation")

    def data_row(self, seed: int, count: int) -> np.ndarray:
        """Real sequences (count, L) that tables show beside samples: of validation, since the test split is the reference."""
        del seed
        return self._validation[:count]

    def measure(self, tokens: np.ndarray, seed: int = 0, resamples: int = 200) -> Metrics:
        """name -> (value, low, high) of all that samples alone tell, with 95 % bootstrap intervals over sequences.

        No number of it is to be read alone: degenerate baselines win single ones. What a perfect sampler scores at the same
        number of samples is `floor`. Without resamples low and high are the value.

        Raises:
            ValueError: tokens outside the vocabulary (a mask left over), or too few sequences.
        """
        tokens_NL = np.asarray(tokens)
        if tokens_NL.ndim != 2 or not np.issubdtype(tokens_NL.dtype, np.integer) or not tokens_NL.size:
            raise InputError(f"tokens={tokens_NL.dtype} {tokens_NL.shape}: must be integers of shape (n, L)")
        if wrong := tokens_NL[(tokens_NL < 0) | (tokens_NL >= self.vocab_size)][:1].tolist():
            raise InputError(f"tokens={wrong[0]}: the data's are 0 ... {self.vocab_size - 1}")
        if tokens_NL.shape[1] != self.length:
            raise InputError(f"tokens={tokens_NL.shape}: sequences of this task have {self.length} tokens")
        return self._measure(tokens_NL, seed, resamples)

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        raise NotImplementedError

    def exact_log_prob(self, tokens_NL: np.ndarray) -> np.ndarray | None:
        """log p (n,) in nats under the data's exact distribution; None where it is not known."""
        del tokens_NL
        return None

    def oracle(self, process: Process) -> Diffusion:
        """The exact denoiser of the data's distribution.

        Raises:
            ValueError: the distribution is not known.
        """
        del process
        raise InputError(f"name={self.name!r}: no exact denoiser, since its distribution is not known")

    def condition(self, prompt: str, count: int) -> Condition:
        """A prompt as `count` rows of given tokens.

        Raises:
            ValueError: no prompts for this kind of data, or one that does not fit.
        """
        if count < 1:
            raise InputError(f"count={count}: must be 1 or more")
        return self._condition(prompt, count)

    def _condition(self, prompt: str, count: int) -> Condition:
        del count
        raise InputError(f"prompt={prompt!r}: a prompt needs characters, and {self.name} has none")

    def decode(self, tokens_L: np.ndarray) -> str:
        """A sequence as one line for a person; a mask reads "_".

        Raises:
            ValueError: not one sequence of integers.
        """
        tokens_L = np.asarray(tokens_L)
        if tokens_L.ndim != 1 or not np.issubdtype(tokens_L.dtype, np.integer):
            raise InputError(f"tokens_L={tokens_L.dtype} {tokens_L.shape}: must be one sequence of integers, (L,)")
        return self._decode(tokens_L)

    def _decode(self, tokens_L: np.ndarray) -> str:
        return " ".join("_" if token >= self.vocab_size else str(token) for token in tokens_L)

    def token_name(self, token: int) -> str:
        """How a figure names one of the data's tokens."""
        return self.decode(np.array([token]))

    @property
    def token_names(self) -> tuple[str, ...]:
        """The names of all of the data's tokens, by which another vocabulary is compared with this one."""
        return tuple(self.token_name(token) for token in range(self.vocab_size))

    def images(self, tokens_NL: np.ndarray) -> np.ndarray | None:
        """Sequences as images (n, height, width, channels), uint8; None of data that are read."""
        del tokens_NL
        return None

    def drawing(self, tokens_NL: np.ndarray) -> str:
        """An SVG element that shows sequences beside their text; empty of data that are read or are images."""
        del tokens_NL
        return ""

    def properties(self, tokens_NL: np.ndarray) -> dict[str, np.ndarray]:
        """Numbers that single sequences have, for histograms beside real data's: heading -> values (n,). {}: there are none."""
        del tokens_NL
        return {}

    def baselines(self) -> dict[str, Baseline]:
        """Degenerate baselines by name: samplers that need no network and must lose on the metrics as a whole."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What a record says of the judges: "scorer": its identity, "features": the network's name."""
        return {}


def floor(task: Task, count: int, draws: int = 20, seed: int = 0) -> Metrics:
    """The plug-in floor: (mean, low, high) of every metric over `draws` real samples of `count` sequences.

    A divergence of finitely many samples is above zero even for an exact sampler; low and high are the 95 % range of one
    such sample's value.
    """
    rng = generator(seed, RowStream.FLOOR)
    found = [task.measure(task.real(rng, count), seed + index, 0) for index in range(draws)]
    values = {name: np.array([metrics[name][0] for metrics in found]) for name in found[0]}
    return {name: (float(v.mean()), *map(float, np.quantile(v, [0.025, 0.975]))) for name, v in values.items()}
