"""Molecules as SELFIES (Krenn et al. 2020, arXiv 1905.13741): every string of these tokens that has an atom is a molecule.

Branches and rings name their own length instead of being closed by a partner, so that tokens that are drawn independently of each
other never leave one open. Only metrics of the molecule itself compare this writing with SMILES: a likelihood is that of a writing.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import ClassVar

from lsd_jax.errors import InputError
from lsd_jax.metrics.molecules import chemistry
from lsd_jax.tasks.molecules import Molecules

# The tokens of the two published sets, by their characters' codes; a file of the user's gives its own.
VOCABULARIES = {
    "moses": tuple(
        "[#Branch1] [#Branch2] [#C] [#N] [=Branch1] [=Branch2] [=C] [=N] [=O] [=Ring1] [=Ring2] [=S] [Br] [Branch1] [Branch2] [C] "
        "[Cl] [F] [H] [NH1] [N] [O] [P] [Ring1] [Ring2] [S]".split()
    ),
    "qm9": tuple(
        "[#Branch1] [#Branch2] [#C] [#N] [=Branch1] [=Branch2] [=C] [=N+1] [=NH1+1] [=NH2+1] [=N] [=O] [=Ring1] [Branch1] "
        "[Branch2] [C-1] [CH1-1] [C] [F] [N+1] [N-1] [NH1+1] [NH1] [NH2+1] [NH3+1] [N] [O-1] [O] [Ring1] [Ring2]".split()
    ),
}


class Selfies(Molecules):
    """The same sets of molecules, files and metrics as `Molecules`, written as SELFIES; `decode` gives SMILES.

    A prompt is SELFIES with "_" for a free token.
    """

    vocabularies: ClassVar[Mapping[str, tuple[str, ...]]] = VOCABULARIES

    @staticmethod
    def cut(smiles: str) -> list[str]:
        """The tokens of a molecule; none where SELFIES cannot write it, such as an atom of more bonds than it allows."""
        package = _selfies()
        try:
            return list(package.split_selfies(package.encoder(smiles)))
        except package.EncoderError:
            return []

    def _unclosed(self, tokens: list[str]) -> str:
        del tokens
        return ""  # nothing is closed in this writing

    def _smiles(self, part: str) -> list[str]:
        """Canonical, as metrics take them: what SELFIES gives back is in Kekule's form."""
        return [smiles for smiles in chemistry.canonical(super()._smiles(part)) if smiles]

    def _text(self, tokens: list[str]) -> str:
        """SMILES, or the tokens as they are where some are still masked."""
        written = "".join(tokens)
        return written if "_" in tokens else _selfies().decoder(written)


def _selfies() -> ModuleType:
    try:
        return importlib.import_module("selfies")
    except ImportError:
        raise InputError("selfies: the package is not installed; run: pip install selfies") from None
