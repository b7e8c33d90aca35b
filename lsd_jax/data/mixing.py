"""The share of the uniform law that keeps every transition of an exactly known chain positive."""

import numpy as np


def blend(law: np.ndarray, mix: float) -> np.ndarray:
    """Laws along the last axis, mixed with a share `mix` of the uniform law.

    Raises:
        ValueError: `mix` outside [0, 1].
    """
    if not 0 <= mix <= 1:
        raise ValueError(f"config.data.mix={mix}: a share between 0 and 1 is needed")
    return (1 - mix) * law + mix / law.shape[-1]
