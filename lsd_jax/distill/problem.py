"""What plans are measured on: teacher paths and what an order and a grid cost on them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax import parallel
from lsd_jax.distill import cost_table as search
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.keys import sequence_keys
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.potentials import Factors
from lsd_jax.samplers.bridge import reveal_thresholds
from lsd_jax.samplers.coupling import IID, Coupling
from lsd_jax.samplers.kernel import Kernel
from lsd_jax.samplers.likelihood import PathCosts, all_orders, nats_along
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import Schedule, neutral

_JUDGED_ORDERS = 2  # of every unseen path
_SEQUENCES = 16  # at most so many in each of several orders
_TABLE = 1024  # orders: of a coupling with more, random ones are drawn


class Plan(NamedTuple):
    """A student's coupling, its M + 1 times, what the search measured, and potentials (M, D, S, S), or their factors, if there are any."""

    coupling: Coupling
    times: np.ndarray
    metrics: dict[str, Any]
    log_potential: np.ndarray | Factors | None = None


class Problem(NamedTuple):
    """What a cost is measured on."""

    model: Diffusion
    kernel: Kernel
    tokens: np.ndarray
    keys: jax.Array

    @property
    def sequences(self) -> int:
        """How many of them `path_costs` takes: each once, of problems that judge."""
        return len(self.tokens[self._some])

    @property
    def _some(self) -> slice:
        return slice(0, _SEQUENCES * _JUDGED_ORDERS, _JUDGED_ORDERS)

    def table(self, coupling: Coupling, times: np.ndarray) -> np.ndarray:
        return search.cost_table(self.model, self.kernel, coupling, self.tokens, self.keys, times)

    def cost(self, coupling: Coupling, times: np.ndarray) -> float:
        """Nats per sequence: the M-step ELBO of the kernel itself on a grid, in the coupling's order.

        Where positions jump many times the table is that ELBO, and grids read the same noise: their differences are not noise.
        """
        process, length = self.model.process, self.tokens.shape[1]
        if not process.jumps_once:
            return search.path_cost(self.table(coupling, times), np.arange(len(times)))
        thresholds = np.asarray(reveal_thresholds(self.keys, process, coupling, length))
        return float(self._along(self.keys, self.tokens, thresholds, times).mean())

    def path_costs(self, coupling: Coupling, times: np.ndarray, orders: int) -> PathCosts:
        """-log p of some of the sequences under the kernel on a grid, in each order of a coupling, or in `orders` random ones of them.

        A few sequences in many orders tell couplings apart: the same sequences are compared.
        """
        length = self.tokens.shape[1]
        rows, keys = self.tokens[self._some], self.keys[self._some]
        found = all_orders(self.model, self._sampler(coupling, times), _TABLE)
        if exact := found is not None and len(found) <= orders:
            chosen = found
        elif found is not None:
            chosen = found[np.random.default_rng(0).permutation(len(found))[:orders]]
        else:
            chosen = np.asarray(coupling.thresholds(sequence_keys(self.keys[0], orders), length))
        repeated = jnp.repeat(keys, len(chosen)), np.repeat(rows, len(chosen), 0), np.tile(chosen, (len(rows), 1))
        return PathCosts(self._along(*repeated, times).reshape(len(rows), -1), exact)

    def _sampler(self, coupling: Coupling, times: np.ndarray) -> Sampler:
        schedule = Schedule(jnp.asarray(times, jnp.float32), neutral(len(times) - 1))
        return Sampler(schedule, self.kernel, coupling, self.tokens.shape[1])

    def _along(self, keys: jax.Array, tokens: np.ndarray, thresholds: np.ndarray, times: np.ndarray) -> np.ndarray:
        """-log p (n,) of sequences, each in the order of its thresholds (n, L).

        The order goes in as an array, so that all orders share one compilation.
        """
        logits_bytes = 4 * self.model.process.vocab_size * tokens.shape[1]
        size = max(parallel.PASS_BYTES // logits_bytes, 1) * parallel.data_mesh().size
        arrays = keys, tokens.astype(np.int32), thresholds
        return nats_along(self.model, self._sampler(IID, times), arrays, min(size, len(self.tokens)))


def problems(model: Diffusion, kernel: Kernel, paths: TeacherPaths, draws: int) -> tuple[Problem, Problem]:
    """What plans are fitted on, and what they are judged on: the last quarter of the paths, each in several orders.

    Fewer than four paths per device leave no quarter: plans are then judged in other orders of the same paths.
    """
    devices = parallel.data_mesh().size
    count = len(paths.states) // 4 // devices * devices
    fitted = paths.part(slice(len(paths.states) - count))
    if count:
        judged = paths.part(slice(len(paths.states) - count, None)).repeated(_JUDGED_ORDERS)
    else:
        judged = paths.repeated(_JUDGED_ORDERS, first=draws)
    return Problem(model, kernel, *fitted.repeated(draws)), Problem(model, kernel, *judged)
