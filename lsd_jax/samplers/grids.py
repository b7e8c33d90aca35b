"""Time grids that are not searched for: what papers use."""

from collections.abc import Callable

import numpy as np

# Time after a share r of the steps, falling from 1 to 0.
_CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "uniform": lambda r: 1 - r,
    "cosine": lambda r: np.cos(0.5 * np.pi * r),  # MaskGIT (Chang et al. 2022, section 3.3), MD4 (Shi et al. 2024)
    "square": lambda r: 1 - r**2,  # MaskGIT; like the next two, dense near the noise
    "cubic": lambda r: 1 - r**3,  # MaskGIT
    "sqrt": lambda r: np.sqrt(1 - r),
    "quadratic": lambda r: (1 - r) ** 2,  # DDIM (Song et al. 2021, appendix D.2): dense near the data
}
FIXED_GRIDS = tuple(_CURVES)


def fixed_grid(name: str, steps: int) -> np.ndarray:
    """`steps` + 1 times (float64) falling from 1 to 0.

    Raises:
        ValueError: unknown name.
    """
    if name not in _CURVES:
        raise ValueError(f"config.student.grid={name!r}: choose one of {FIXED_GRIDS}")
    times = _CURVES[name](np.arange(steps + 1) / steps)
    times[0], times[-1] = 1.0, 0.0
    return times


def nearest_indices(name: str, fine: int, steps: int) -> np.ndarray:
    """Indices (steps + 1,) into `fine` equal steps from 1 to 0: a fixed grid's times, each moved to the nearest free one.

    Raises:
        ValueError: more steps than the fine grid has.
    """
    if steps > fine:
        raise ValueError(f"config.student.steps={steps}: config.student.grid_points={fine} are fewer")
    index = np.round((1 - fixed_grid(name, steps)) * fine).astype(int)
    order = np.arange(steps + 1)
    index = np.maximum.accumulate(index - order) + order  # at least one apart, from the left
    return np.minimum(index, fine - steps + order)  # and from the right
