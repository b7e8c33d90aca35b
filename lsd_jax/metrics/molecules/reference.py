"""What samples of molecules are held against, worked out of a set's SMILES once and kept in a folder."""

import hashlib
import pathlib
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
from absl import logging

from lsd_jax import agreement
from lsd_jax.errors import InputError
from lsd_jax.files import write_whole
from lsd_jax.metrics import fid
from lsd_jax.metrics.molecules import chemistry, facts, pieces
from lsd_jax.metrics.molecules import fcd as chemnet
from lsd_jax.models.chemnet import load

_FORM = 1  # of the files: a new number where they, or what is in them, changes
_LONG = 20_000  # molecules from which on the wait is announced

T = TypeVar("T")


class Reference(NamedTuple):
    """M molecules.

    Attributes:
        fingerprints: (M, 128) bytes of 8 bits each.
        properties: (M, 4), in the order of `properties.NAMES`.
        fragments: how often every BRICS fragment occurs.
        scaffolds: how often every scaffold of two rings or more occurs.
        chemnet: mean and covariance of ChemNet's features; None where FCD is not asked.
        filters: share of the molecules that MOSES' filters let pass; None where that is not asked.
    """

    fingerprints: np.ndarray
    properties: np.ndarray
    fragments: Counter[str]
    scaffolds: Counter[str]
    chemnet: fid.Gaussian | None
    filters: float | None

    @classmethod
    def of(cls, smiles: Sequence[str], folder: pathlib.Path, fcd: bool, filters: bool) -> "Reference":
        """The reference of canonical SMILES, read from the folder where an earlier call has left it.

        100,000 molecules take 10 to 20 minutes of one core, divided among the cores, and ChemNet about as long again (reckoned
        from 30,000). Those of MOSES' whole splits come with it: `stored.reference`.

        Args:
            smiles: two or more that RDKit reads.
            folder: where it is kept; made where it is missing.
            fcd, filters: whether the samples will be judged by them.

        Raises:
            FileNotFoundError, ValueError: RDKit, ChemNet or the filters' patterns are not installed, or there are too few
                molecules; one line.
        """
        if fcd:
            load()  # before the minutes that the rest takes
        if len(smiles) >= _LONG:
            logging.info("Molecules: %d are the reference; its first time takes minutes (%s)", len(smiles), folder)
        content = hashlib.sha256("\n".join(smiles).encode()).hexdigest()
        key = _digest(content, chemistry.version(), filters)
        found = _kept(folder / f"facts-{key}.npz", lambda: facts.describe(smiles, filters), facts.load, facts.save)
        if len(found.smiles) < chemnet.LEAST:
            raise InputError(f"molecules: a reference needs {chemnet.LEAST} molecules or more, not {len(found.smiles)}")
        gaussian = None
        if fcd:
            make = lambda: fid.fit(chemnet.features(smiles))
            gaussian = _kept(folder / f"chemnet-{_digest(content)}.npz", make, _read_gaussian, _write_gaussian)
        return cls(
            found.fingerprints,
            found.properties,
            pieces.count(found.fragments),
            pieces.count(found.scaffolds),
            gaussian,
            float(found.passes.mean()) if filters else None,
        )


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr((_FORM, *parts)).encode()).hexdigest()[:24]


def _kept(
    path: pathlib.Path,
    make: Callable[[], T],
    read: Callable[[pathlib.Path], T],
    write: Callable[[T, BinaryIO], None],
) -> T:
    """What a file holds; made and written where one process cannot read it: the others have to help with making it."""
    found: list[T] = []
    try:
        agreement.all_or_none(lambda: found.append(read(path)))
        return found[0]
    except (FileNotFoundError, InputError):
        value = make()
        write_whole(path, lambda file: write(value, file))
        return value


def _read_gaussian(path: pathlib.Path) -> fid.Gaussian:
    try:
        with path.open("rb") as file, np.load(file) as saved:
            return fid.Gaussian(saved["mean"], saved["covariance"])
    except FileNotFoundError:
        raise
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"molecules: {str(path)!r} is damaged: {error}") from None


def _write_gaussian(gaussian: fid.Gaussian, file: BinaryIO) -> None:
    np.savez(file, **gaussian._asdict())
