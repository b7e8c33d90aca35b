"""Plans a student before any gradient: its order and its time grid, for every M, by path-KL cost tables.

A candidate order gets its own table; the cheapest order and grid win, for each M on its own. A *sweep* reveals one residue
class of positions modulo M after the other: M parallel left-to-right (or right-to-left) passes. A *learned* order is a
pattern found by local search from the best candidate, kept only if it is cheaper on paths that the search has not seen.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from lsd_jax.distill import cost_table as search
from lsd_jax.distill.jys import jys_grids
from lsd_jax.distill.settings import StudentSettings
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers import orders
from lsd_jax.samplers import schedule as fixed_grids
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Kernel

GRIDS = ("optimal", "halving", "jys", "profile", *fixed_grids.FIXED_GRIDS)
HALVING = ("halving", "jys")
ORDERS = ("fixed", "auto", "learned")


class Plan(NamedTuple):
    """A student's coupling, its M + 1 times, what the search measured, and potentials (M, D, S, S) if there are any."""

    coupling: Coupling
    times: np.ndarray
    metrics: dict[str, Any]
    log_potential: np.ndarray | None = None


class Problem(NamedTuple):
    """What a cost is measured on."""

    model: Diffusion
    kernel: Kernel
    tokens: np.ndarray
    keys: jax.Array

    def table(self, coupling: Coupling, times: np.ndarray) -> np.ndarray:
        return search.cost_table(self.model, self.kernel, coupling, self.tokens, self.keys, times)

    def cost(self, coupling: Coupling, times: np.ndarray) -> float:
        """Nats per sequence of one grid."""
        return search.path_cost(self.table(coupling, times), np.arange(len(times)))

    def part(self, part: slice) -> "Problem":
        """The same on some of the sequences."""
        return self._replace(tokens=self.tokens[part], keys=self.keys[part])


def make_plans(
    model: Diffusion,
    kernel: Kernel,
    paths: TeacherPaths,
    settings: StudentSettings,
    steps: Sequence[int],
    denoising_cost: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[int, Plan]:
    """The plan of every M in `steps`.

    Args:
        denoising_cost: what a last step with potentials costs that starts at each of the given times, nats per sequence on
            `paths`. It may pay to denoise nearly from noise: steps of next to no size before it are then candidates too.

    Raises:
        ValueError: a grid that halves, and an M that is no power of two.
    """
    check_halving(settings.grid, steps)
    process, coupling = model.process, settings.coupling
    if settings.grid in fixed_grids.FIXED_GRIDS and settings.order == "fixed":
        return {m: Plan(coupling, fixed_grids.fixed_grid(settings.grid, m), {}) for m in steps}
    tokens, keys = paths.repeated(settings.draws)
    problem = Problem(model, kernel, tokens, keys)
    points = min(settings.grid_points, paths.steps)
    times = equal = np.linspace(1, 0, points + 1)
    if denoising_cost is not None:
        times = np.union1d(equal, 1 - np.linspace(0, 1 / points, max(steps) + 1))[::-1]
    plans: dict[int, Plan] = {}
    for candidate in _candidates(coupling, settings):
        table = problem.table(candidate, times)
        if denoising_cost is not None:
            table[:, -1] = np.minimum(table[:, -1], denoising_cost(times[:-1]))
        own = search.path_cost(table, np.arange(len(times)))
        if settings.grid == "jys":  # off the candidate times
            grids = jys_grids(model, candidate, tokens, keys, max(steps))
            costs = {m: problem.cost(candidate, grids[m]) for m in steps}
        else:
            indices = _grids(table, times, process, settings.grid, steps)
            grids = {m: times[indices[m]] for m in steps}
            costs = {m: search.path_cost(table, indices[m]) for m in steps}
        for m in steps:
            cost = costs[m]
            if m not in plans or cost < plans[m].metrics["cost_nats"]:
                among = np.flatnonzero(np.isin(times, equal))
                uniform = search.path_cost(table, among[search.uniform_indices(points, m)])
                metrics = {
                    "cost_nats": cost,
                    "grid_path_kl_nats": cost - own,
                    "uniform_grid_path_kl_nats": uniform - own,
                }
                plans[m] = Plan(candidate, grids[m], metrics)
    if settings.order != "fixed":
        plans = {m: _better_sweep(problem, plan, m) for m, plan in plans.items()}
    if settings.order == "learned":
        plans = {m: _learned(problem, plan, settings.order_trials) for m, plan in plans.items()}
    if settings.refine and settings.grid == "optimal":
        plans = {m: _refined(problem, plan, 1 / points) for m, plan in plans.items()}
    return plans


def check_halving(grid: str, steps: Sequence[int]) -> None:
    """Raises ValueError where a grid that halves is asked for an M that is no power of two."""
    if grid in HALVING and (missing := [m for m in steps if m < 1 or m & (m - 1)]):
        raise ValueError(
            f"grid={grid!r}: halves the grid, so every M must be a power of two; steps={missing} holds no power of two"
        )


def _candidates(coupling: Coupling, settings: StudentSettings) -> list[Coupling]:
    if settings.order == "fixed":
        return [coupling]
    names = orders.PLANE if coupling.shape else ("golden", "van_der_corput")
    return [dataclasses.replace(coupling, name="low_discrepancy", generator=name, pattern=()) for name in names]


def _grids(table, times, process, method: str, steps: list[int]) -> dict[int, np.ndarray]:
    """Fine-grid indices for every M by the named method."""
    if method == "optimal":
        return search.shortest_paths(table, max(steps))
    if method == "halving":
        return search.halving_paths(table, max(steps))
    if method == "profile":
        share = np.asarray(process.mask_probability(np.asarray(times, np.float32)))
        return {m: search.profile_indices(table, share[:-1] - share[1:], m) for m in steps}
    return {m: fixed_grids.nearest_indices(method, len(times) - 1, m) for m in steps}


def _better_sweep(problem: Problem, plan: Plan, steps: int) -> Plan:
    times = class_times(problem.model.process, np.ones(steps) / steps)
    for pattern in (tuple(range(steps)), (0, *range(steps - 1, 0, -1))):
        coupling = Coupling("low_discrepancy", "pattern", pattern)
        cost = problem.cost(coupling, times)
        logging.info(
            "M=%d: %.2f nats by %s, %.2f by a sweep", steps, plan.metrics["cost_nats"], plan.coupling.generator, cost
        )
        if cost < plan.metrics["cost_nats"]:
            plan = Plan(coupling, times, {"cost_nats": cost})
    return plan


def class_times(process: Process, shares: np.ndarray) -> np.ndarray:
    """The times between which the given shares of all positions are revealed."""
    first = float(process.mask_probability(np.float32(1.0)))
    masked = first * np.clip(1 - np.cumsum(shares), 0, 1)
    inner = np.asarray(process.noise.inverse(-np.log1p(-masked[:-1].astype(np.float32))), np.float64)
    return np.concatenate([[1.0], inner, [0.0]])


def _learned(problem: Problem, plan: Plan, trials: int) -> Plan:
    """Local search over which class (step of the student) every residue of a period belongs to."""
    count = len(problem.tokens) // 4 * 3
    fitted, unseen = problem.part(slice(count)), problem.part(slice(count, None))
    rng = np.random.default_rng(len(plan.times))
    steps, process = len(plan.times) - 1, problem.model.process
    classes = classes_of(plan, process, problem.tokens.shape[1])
    if len(np.unique(classes)) < steps:  # too few positions for a class per step
        return plan
    cost = start = fitted.cost(*class_plan(classes, steps, process))
    for _ in range(trials):
        trial = _moved(rng, classes, steps)
        if len(np.unique(trial)) < steps:
            continue
        found = fitted.cost(*class_plan(trial, steps, process))
        if found < cost:
            classes, cost = trial, found
    coupling, times = class_plan(classes, steps, process)
    gain = unseen.cost(plan.coupling, plan.times) - unseen.cost(coupling, times)
    logging.info("M=%d: learned order %.2f -> %.2f nats, on unseen paths %.2f less", steps, start, cost, gain)
    if gain <= 0:
        return plan._replace(metrics=plan.metrics | {"order_gain_nats": 0.0})
    return Plan(coupling, times, plan.metrics | {"cost_nats": problem.cost(coupling, times), "order_gain_nats": gain})


def _moved(rng: np.random.Generator, classes: np.ndarray, steps: int) -> np.ndarray:
    """A neighbor: two residues swapped, or one moved to another step."""
    moved = classes.copy()
    a, b = rng.integers(len(classes), size=2)
    if rng.random() < 0.6:
        b = (a + rng.integers(-4, 5)) % len(classes) if rng.random() < 0.5 else b
        moved[a], moved[b] = moved[b], moved[a]
    else:
        moved[a] = np.clip(moved[a] + rng.choice([-1, 1]), 0, steps - 1)
    return moved


def classes_of(plan: Plan, process: Process, length: int) -> np.ndarray:
    """The step in which each residue of the plan's period (or each position, for a Kronecker order) is revealed."""
    ends = np.asarray(process.mask_probability(np.asarray(plan.times[1:], np.float32)))
    ends = ends / float(process.mask_probability(np.float32(1.0)))
    if plan.coupling.generator == "pattern":
        # Repeated, so that a move changes one residue of many.
        rank = np.tile(plan.coupling.pattern, max(1, 16 // len(plan.coupling.pattern)))
        threshold = 1 - (rank + 0.5) / len(plan.coupling.pattern)
    else:
        threshold = np.asarray(plan.coupling.thresholds(jax.random.key(0)[None], length))[0]
    return np.searchsorted(-ends, -threshold, side="left")


def class_plan(classes: np.ndarray, steps: int, process: Process) -> tuple[Coupling, np.ndarray]:
    """The pattern and the times that reveal class k in step k; inside a class the golden ratio orders."""
    spread = np.arange(len(classes)) * orders.STRIDES["golden"] % 1
    rank = np.argsort(np.argsort(classes + spread))
    shares = np.bincount(classes, minlength=steps) / len(classes)
    return Coupling("low_discrepancy", "pattern", tuple(int(r) for r in rank)), class_times(process, shares)


def _refined(problem: Problem, plan: Plan, width: float) -> Plan:
    """The grid moved off the teacher's grid: shortest path over finer times around it, kept if unseen paths agree."""
    if problem.model.process.jumps_once and plan.coupling.generator == "pattern":
        return plan  # its times are those between its classes
    count = len(problem.tokens) // 4 * 3
    fitted, unseen = problem.part(slice(count)), problem.part(slice(count, None))
    finer = search.zoom(plan.times, width)
    times = finer[search.shortest_paths(fitted.table(plan.coupling, finer), len(plan.times) - 1)[len(plan.times) - 1]]
    gain = unseen.cost(plan.coupling, plan.times) - unseen.cost(plan.coupling, times)
    if gain <= 0:
        return plan._replace(metrics=plan.metrics | {"refine_gain_nats": 0.0})
    return Plan(plan.coupling, times, plan.metrics | {"refine_gain_nats": gain})
