"""ChemNet, the network whose features the Frechet ChemNet distance compares (Mayr et al. 2018; Preuer et al. 2018).

Two convolutions and two LSTMs over the characters of a canonical SMILES string, 350 places whatever its length: the second LSTM
ends on the padding, so another length gives other features. As `fcd_torch` 1.0.7 runs it, which MOSES uses: a string ends at
its first ".", or after 349 characters.
"""

import functools
import importlib.util
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.models.image_features import FeatureNetwork
from lsd_jax.models.pretrained.files import read_tensors
from lsd_jax.models.tensors import fit

WIDTH = 512  # features
LENGTH = 350  # places
INSTALL = "pip install --no-deps fcd-torch==1.0.7"
_SYMBOLS = "C N O H F Cl P B Br S I Si # ( ) + - 1 2 3 4 5 6 7 8 = [ ] @ c n o s X .".split()
_INDEX = {symbol: index for index, symbol in enumerate(_SYMBOLS)}
_PAD = len(_SYMBOLS)  # no symbol: a place of zeros
_SECOND = frozenset("ril")  # they end a symbol of two letters: Br, Si, Cl
_WHEELS = ("fcd_torch", "fcd")  # packages that bring the same weights
_FILE = "ChemNet_v0.13_pretrained.pt"
_SHAPES = {
    "0.1.0.weight": (32, len(_SYMBOLS), 4),
    "1.1.0.weight": (32, 32, 4),
    "2.1.0.weight_ih_l0": (512, 32),
    "2.1.0.weight_hh_l0": (512, 128),
    "2.1.0.bias_ih_l0": (512,),
    "2.1.0.bias_hh_l0": (512,),
    "3.1.0.weight_ih_l0": (2048, 128),
    "3.1.0.weight_hh_l0": (2048, 512),
    "3.1.0.bias_ih_l0": (2048,),
    "3.1.0.bias_hh_l0": (2048,),
}


def weights_file() -> pathlib.Path:
    """Where an installed wheel keeps the weights, found without running any code of it.

    Raises:
        FileNotFoundError: none is installed; the message has the command.
    """
    for package in _WHEELS:
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            if (path := pathlib.Path(place) / _FILE).is_file():
                return path
    raise FileNotFoundError(f"fcd=True: ChemNet is not installed; run: {INSTALL}")


@functools.lru_cache(maxsize=1)  # one object is one compilation
def load() -> FeatureNetwork:
    """The network on tokens (B, 350) of `tokenize`.

    Raises:
        FileNotFoundError, ValueError: not installed, or another network; one line.
    """
    path = weights_file()
    try:
        params = jax.device_put(fit(read_tensors(path), _SHAPES))
    except ValueError as error:
        raise InputError(f"fcd=True: {str(path)!r} is not ChemNet; run: {INSTALL}: {error}") from None
    return FeatureNetwork("ChemNet v0.13", features, params, WIDTH)


def tokenize(smiles: Sequence[str]) -> np.ndarray:
    """Canonical SMILES strings as places (n, 350) of symbols 0 .. 34, uint8; 35 pads."""
    tokens_NL = np.full((len(smiles), LENGTH), _PAD, np.uint8)
    for row_L, text in zip(tokens_NL, smiles):
        found = _symbols(text)
        row_L[: len(found)] = found
    return tokens_NL


def _symbols(text: str) -> list[int]:
    text, place, found = text + ".", 0, []
    while not found or (text[place] != "." and len(found) < LENGTH - 1):
        size = 2 if text[place + 1 : place + 2] in _SECOND else 1
        found.append(_INDEX.get(text[place : place + size], _INDEX["X"]))
        place += size
    return [*found, _INDEX["."]]


def features(params: dict[str, jax.Array], tokens_BL: jax.Array) -> jax.Array:
    """The activations (B, 512) that FCD compares."""
    x_BLC = jax.nn.one_hot(tokens_BL, len(_SYMBOLS)) / len(_SYMBOLS)
    x_BLC = _convolution(x_BLC, params["0.1.0.weight"], (1, 1))
    x_BLC = _convolution(x_BLC, params["1.1.0.weight"], (1, 2))
    # Both read their input backwards and write what they read in the order of reading: the second starts at the molecule's
    # beginning and ends on the padding.
    _, hidden_LBC = _lstm(params, "2.1.0", x_BLC.transpose(1, 0, 2)[::-1])
    last_BC, _ = _lstm(params, "3.1.0", hidden_LBC[::-1])
    return last_BC


def _convolution(x_BLC: jax.Array, weight: jax.Array, padding: tuple[int, int]) -> jax.Array:
    layout = ("NWC", "OIW", "NWC")
    return jax.nn.selu(
        jax.lax.conv_general_dilated(x_BLC, weight, (2,), [padding], dimension_numbers=layout, precision="highest")
    )


def _lstm(params: dict[str, jax.Array], name: str, x_LBC: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The last state (B, H) and all states (L, B, H) of an LSTM with PyTorch's order of gates."""
    inner, outer = params[f"{name}.weight_ih_l0"], params[f"{name}.weight_hh_l0"]
    weight = jnp.concatenate([inner, outer], 1).T
    bias_1G = (params[f"{name}.bias_ih_l0"] + params[f"{name}.bias_hh_l0"])[None]

    def step(state: tuple[jax.Array, jax.Array], x_BC: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        hidden_BH, cell_BH = state
        gates_BG = jnp.matmul(jnp.concatenate([x_BC, hidden_BH], 1), weight, precision="highest") + bias_1G
        write_BH, keep_BH, new_BH, read_BH = jnp.split(gates_BG, 4, 1)
        cell_BH = jax.nn.sigmoid(keep_BH) * cell_BH + jax.nn.sigmoid(write_BH) * jnp.tanh(new_BH)
        hidden_BH = jax.nn.sigmoid(read_BH) * jnp.tanh(cell_BH)
        return (hidden_BH, cell_BH), hidden_BH

    zeros_BH = jnp.zeros((x_LBC.shape[1], outer.shape[1]))
    (last_BH, _), hidden_LBH = jax.lax.scan(step, (zeros_BH, zeros_BH), x_LBC)
    return last_BH, hidden_LBH
