"""What a sampler does in time: the grid, what every step has learned, and the grids of papers."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.processes.potentials import Factors
from lsd_jax.processes.process import Process
from lsd_jax.processes.transition import Transition

COEFFICIENTS = ("score", "log_score")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StepParameters:
    """What is learned of a step: one value per step inside a schedule, a scalar inside a kernel. Zeros change nothing.

    Attributes:
        log_coefficient: logarithm of LSD's Phi.
        log_temperature: logarithm of the temperature of the token drawn; it never changes how many tokens jump.
        coefficient: "score" multiplies the score by Phi (Fu et al. 2025, eq. 5); "log_score" multiplies its logarithm
            (the authors' released code).
        log_potential: pair potentials (D, S, S) between the tokens of one step, or their factors (processes/potentials.py);
            (M, D, S, S) in a schedule; None draws them independently. Where positions jump many times D is 1.
        top_p: tokens are drawn from the smallest set that holds this share of the probability (Holtzman et al. 2020).
        threshold: of an adaptive event sampler, which reads that of the first step; None is the published one.
    """

    log_coefficient: jax.Array
    log_temperature: jax.Array
    coefficient: str = dataclasses.field(default="score", metadata={"static": True})
    log_potential: jax.Array | Factors | None = None
    top_p: float = dataclasses.field(default=1.0, metadata={"static": True})
    threshold: jax.Array | None = None

    def scale(self, log_score_BLS: jax.Array) -> jax.Array:
        """The log-score with the coefficient applied."""
        if self.coefficient == "log_score":
            return jnp.exp(self.log_coefficient) * log_score_BLS
        return self.log_coefficient + log_score_BLS

    def temper(self, log_destination_BLS: jax.Array) -> jax.Array:
        """Destination log-probabilities at the temperature; tokens outside the nucleus become impossible."""
        tempered_BLS = log_destination_BLS * jnp.exp(-self.log_temperature)  # XLA fuses a product, not a quotient
        return tempered_BLS if self.top_p >= 1 else nucleus(tempered_BLS, self.top_p)

    def couple(self, process: Process, transition: Transition) -> Transition:
        """The transition with the pair potentials, if there are any."""
        return transition if self.log_potential is None else process.coupled(transition, self.log_potential)


def neutral(steps: int | None = None) -> StepParameters:
    """Step parameters that change nothing: scalars, or (steps,)."""
    zeros = jnp.zeros(() if steps is None else steps)
    return StepParameters(zeros, zeros)


def nucleus(log_mass_BLS: jax.Array, top_p: float) -> jax.Array:
    """log_mass with -inf outside the smallest set of tokens that holds at least the share `top_p` of the probability.

    The set is found by bisection on the smallest probability kept, without a sort over the vocabulary.
    """
    probs_BLS = jax.nn.softmax(log_mass_BLS)
    low, high = jnp.zeros_like(probs_BLS[..., :1]), probs_BLS.max(-1, keepdims=True)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        enough = jnp.where(probs_BLS >= middle, probs_BLS, 0.0).sum(-1, keepdims=True) >= top_p
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low, _ = jax.lax.fori_loop(0, 24, halve, (low, high))
    return jnp.where(probs_BLS >= low, log_mass_BLS, -jnp.inf)


class Step(NamedTuple):
    """One step of a schedule, from time t to u < t; or several, stacked."""

    t: jax.Array
    u: jax.Array
    params: StepParameters


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Schedule:
    """The times and parameters of M steps: `time_grid` (M + 1,) falls from 1 to 0, its last interval is the denoising step."""

    time_grid: jax.Array
    params: StepParameters

    @property
    def steps(self) -> int:
        return self.time_grid.shape[0] - 1

    @property
    def inner(self) -> Step:
        """All steps but the denoising one, stacked: what a scan runs over."""
        last = self.steps - 1
        params = jax.tree.map(lambda leaf: leaf[:last], self.params)
        return Step(self.time_grid[:last], self.time_grid[1:-1], params)

    @property
    def last(self) -> Step:
        """The denoising step."""
        return self.step(self.steps - 1)

    def step(self, index: int) -> Step:
        """One step."""
        params = jax.tree.map(lambda leaf: leaf[index], self.params)
        return Step(self.time_grid[index], self.time_grid[index + 1], params)


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
        raise InputError(f"grid={name!r}: choose one of {FIXED_GRIDS}")
    times = _CURVES[name](np.arange(steps + 1) / steps)
    times[0], times[-1] = 1.0, 0.0
    return times


def nearest_indices(name: str, fine: int, steps: int) -> np.ndarray:
    """Indices (steps + 1,) into `fine` equal steps from 1 to 0: a fixed grid's times, each moved to the nearest free one.

    Raises:
        ValueError: more steps than the fine grid has.
    """
    if steps > fine:
        raise InputError(f"steps={steps}: grid_points={fine} are fewer")
    index = np.round((1 - fixed_grid(name, steps)) * fine).astype(int)
    order = np.arange(steps + 1)
    index = np.maximum.accumulate(index - order) + order  # at least one apart, from the left
    return np.minimum(index, fine - steps + order)  # and from the right


def log_temperature(temperature: float) -> float:
    """The logarithm of a temperature; 0 becomes 1e-6, at which the likeliest token wins by any margin that float32 holds."""
    return float(np.log(max(temperature, 1e-6)))


def uniform_schedule(steps: int, temperature: float = 1.0, top_p: float = 1.0) -> Schedule:
    """Equal steps from 1 to 0, with neutral parameters but for one temperature and nucleus."""
    params = neutral(steps)
    params = dataclasses.replace(
        params, log_temperature=params.log_temperature + log_temperature(temperature), top_p=top_p
    )
    return Schedule(jnp.asarray(np.linspace(1, 0, steps + 1), jnp.float32), params)
