"""Molecules whose first token says a property of theirs: the bin that their logP or QED lies in.

One network is then a model with a condition and without: where the first token is given, it is asked for such molecules; where it is
masked, it is not. Every sampler takes the token as a prompt, and `lsd.guided` weighs the condition (`docs/results/molecules.md`).
"""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from absl import logging

from lsd_jax.errors import InputError
from lsd_jax.keys import RowStream, generator
from lsd_jax.metrics.bootstrap import mean_interval
from lsd_jax.metrics.metric import Column, Metrics
from lsd_jax.metrics.molecules import chemistry
from lsd_jax.samplers.kernel import Condition
from lsd_jax.tasks.molecules import NAMED, Molecules
from lsd_jax.tasks.smiles import tokenize
from lsd_jax.tasks.task import Data, Judge

if TYPE_CHECKING:
    from rdkit.Chem import Mol

_IN_BIN = Column("in_bin", "valid, and in the bin that the first token says, share", short="in bin", best=1.0)


class _Labeled(Molecules):
    """SMILES strings with a bin before them, which `decode` leaves out; a sequence has a token more than `Molecules` has.

    A prompt is a value of the property, "logP=2.2": molecules have the lengths that training molecules of its bin have. Or a value
    and a molecule's writing, "logP=2.2 CC__O"; or a writing alone, of molecules of any bin.

    Attributes:
        edges: between the bins.
        value: the property of a molecule.
    """

    edges: ClassVar[tuple[float, ...]]
    value: ClassVar[Callable[["Mol"], float]]

    def __init__(self, data: Data, judge: Judge | None = None):
        super().__init__(data, judge)
        self.columns = (_IN_BIN, *self.columns)

    def _splits(self) -> dict[str, np.ndarray]:
        logging.info("working out %s of every molecule: minutes, for millions of them up to an hour", self.label)
        return super()._splits()

    def _measure(self, tokens_NL: np.ndarray, seed: int, resamples: int) -> Metrics:
        right_N = [self.bin_of(self.decode(row)) == self.vocabulary[row[0]] for row in tokens_NL]
        return {"in_bin": mean_interval(right_N, seed, resamples)} | super()._measure(tokens_NL, seed, resamples)

    @classmethod
    def bin_of(cls, smiles: str) -> str:
        """The token of a molecule's bin; empty where the string is no molecule."""
        with chemistry.rdkit("rdBase").BlockLogs():
            molecule = chemistry.read(smiles)
        return "" if molecule is None else cls.labels[np.searchsorted(cls.edges, cls.value(molecule), "right")]

    def _tokens(self, smiles: str) -> list[str]:
        return [self.bin_of(smiles), *self.cut(smiles)]

    def _condition(self, prompt: str, count: int) -> Condition:
        """As the class says.

        Raises:
            ValueError: a value that is no number, or that no training molecule has; or as `Molecules`.
        """
        asked, _, writing = prompt.partition(" ") if NAMED.match(prompt) else ("", "", prompt)
        if not asked:
            return self._given(tokenize(writing), prompt, count, ("_",))
        token = self._asked(asked, prompt)
        if writing:
            return self._given(tokenize(writing), prompt, count, (token,))
        train_NL = self.split("train")
        length_N = (train_NL[train_NL[:, 0] == self._index[token]] != self.vocab_size - 1).sum(1)
        if not len(length_N):
            held = [label for label in self.labels if (train_NL[:, 0] == self._index[label]).any()]
            raise InputError(
                f"prompt={prompt!r}: no molecule of the training split lies in the bin {token}; those that hold some are {' '.join(held)}"
            )
        # Every length as often as in training, whatever the count; in an order that says nothing.
        length_B = np.quantile(length_N, (np.arange(count) + 0.5) / count, method="inverted_cdf").astype(int)
        length_B = generator(0, RowStream.LENGTHS).permutation(length_B)
        fixed_BL = np.arange(self.length) >= length_B[:, None]
        fixed_BL[:, 0] = True
        tokens_BL = np.full((count, self.length), self.vocab_size - 1, np.int32)
        tokens_BL[:, 0] = self._index[token]
        return Condition(tokens_BL, fixed_BL)

    def _asked(self, asked: str, prompt: str) -> str:
        """The token of the bin of "logP=2.2"."""
        name, _, number = asked.partition("=")
        try:
            value = float(number) if name == self.label else np.nan
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise InputError(
                f"prompt={prompt!r}: write {self.label}=NUMBER, or {self.label}=NUMBER and a molecule, {self.label}={self.edges[6]:g} CC__O"
            )
        token = self.labels[np.searchsorted(self.edges, value, "right")]
        logging.info("%s: asked for the bin %s", asked, token)
        return token

    def remark(self, tokens_NL: np.ndarray) -> str:
        if not (said := super().remark(tokens_NL)):
            return ""
        right = sum(self.bin_of(self.decode(row)) == self.vocabulary[row[0]] for row in tokens_NL)
        return f"{said}, {right} in the bin of their first token"

    def _text(self, tokens: list[str]) -> str:
        return "".join(tokens[1:])


def bins(edges: tuple[float, ...]) -> tuple[str, ...]:
    """The tokens of the bins below, between and above the edges; a bin holds its lower edge."""
    middle = (f"<{low:g}..{high:g}>" for low, high in itertools.pairwise(edges))
    return (f"<..{edges[0]:g}>", *middle, f"<{edges[-1]:g}..>")


def _steps(first: float, step: float) -> tuple[float, ...]:
    return tuple(round(first + step * index, 2) for index in range(12))


class LogPMolecules(_Labeled):
    """The first token is the bin of Crippen's logP, 0.5 wide from -1.5 to 4."""

    label = "logP"
    edges = _steps(-1.5, 0.5)
    labels = bins(edges)

    @staticmethod
    def value(molecule: "Mol") -> float:
        return chemistry.rdkit("Chem.Crippen").MolLogP(molecule)


class QedMolecules(_Labeled):
    """The first token is the bin of the drug-likeness QED, 0.05 wide from 0.35 to 0.9."""

    label = "QED"
    edges = _steps(0.35, 0.05)
    labels = bins(edges)

    @staticmethod
    def value(molecule: "Mol") -> float:
        return chemistry.rdkit("Chem.QED").qed(molecule)
