"""The statistics of MOSES' test splits that its wheel brings, by which MOSES itself judges: what `Reference.of` takes an hour for.

RDKit of 2019 wrote them; tests compare them with what the installed one says of some of the molecules. The file is a pickle, of
which arrays and counters alone are built: nothing in it is run.
"""

import collections
import importlib.metadata
import io
import pathlib
import pickle
import tokenize
import zipfile
from typing import Any

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics import fid
from lsd_jax.metrics.molecules.filters import INSTALL
from lsd_jax.metrics.molecules.reference import Reference

_FOLDER = "moses/dataset/data"
_PROPERTIES = ("logP", "SA", "QED", "weight")  # in the order of `properties.NAMES`
_KNOWN = {
    ("collections", "Counter"): collections.Counter,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): lambda kind, shape, dtype: np.ndarray.__new__(kind, shape, dtype),
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),
}
_DAMAGE = (AttributeError, KeyError, TypeError, ValueError, EOFError, SyntaxError, tokenize.TokenError)
_DAMAGE += (pickle.UnpicklingError, zipfile.BadZipFile)


def reference(part: str) -> Reference:
    """The reference of all molecules of "test" or "test_scaffolds"; the share that passes the filters is not among it.

    Raises:
        FileNotFoundError, ValueError: the wheel is not installed, or its file is damaged; one line.
    """
    path = pathlib.Path(str(_distribution().locate_file(f"{_FOLDER}/{part}_stats.npz")))
    try:
        with zipfile.ZipFile(path) as archive:
            saved = _read(archive.read("stats.npy"))
        return Reference(
            np.packbits(np.asarray(saved["SNN"]["fps"], np.uint8), axis=1),
            np.stack([np.asarray(saved[name]["values"], np.float64) for name in _PROPERTIES], axis=1),
            saved["Frag"]["frag"],
            saved["Scaf"]["scaf"],
            fid.Gaussian(*(np.asarray(saved["FCD"][name], np.float64) for name in ("mu", "sigma"))),
            None,
        )
    except FileNotFoundError:
        raise FileNotFoundError(f"path='moses': its statistics are not installed; run: {INSTALL}") from None
    except _DAMAGE as error:
        raise InputError(f"molecules: {str(path)!r} is damaged: {error}") from None


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"{module}.{name} is neither an array nor a counter")
        return _KNOWN[module, name]


def _read(raw: bytes) -> dict[str, Any]:
    """The one object of an .npy file of objects."""
    stream = io.BytesIO(raw)
    np.lib.format.read_magic(stream)
    np.lib.format.read_array_header_1_0(stream)
    return _Plain(stream).load().item()


def _distribution() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution("molsets")
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(f"path='moses': its statistics are not installed; run: {INSTALL}") from None
