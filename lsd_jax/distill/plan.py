"""Plans a student before any gradient: its order and its time grid, for every M, by the path KL.

A cost table over candidate times proposes a grid for each candidate order by its shortest path. Fixed grids, sweeps and the plan
of the next smaller M, its widest steps halved, stand beside it: a grid fitted to a few dozen paths can lose to an untuned one.
The cheapest on paths that nothing was fitted on wins, by the M-step ELBO of the student's own kernel. A *sweep* reveals one
residue class of positions modulo M after the other: M parallel left-to-right (or right-to-left) passes. A *learned* order is a
pattern found by local search from the best candidate, kept only if it is cheaper on unseen paths. At the end a sweep, or two
orders *mixed*, each sequence taking one of them, may take the place of what won: that is judged by -log p, which bounds cannot tell.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import logging

from lsd_jax.distill import cost_table as search
from lsd_jax.distill.jys import jys_grids
from lsd_jax.distill.problem import Plan, Problem, problems
from lsd_jax.distill.settings import StudentSettings
from lsd_jax.distill.teacher import TeacherPaths
from lsd_jax.errors import InputError
from lsd_jax.models.model import Diffusion
from lsd_jax.processes.process import Process
from lsd_jax.samplers import orders
from lsd_jax.samplers import schedule as fixed_grids
from lsd_jax.samplers.coupling import Coupling
from lsd_jax.samplers.kernel import Kernel
from lsd_jax.samplers.likelihood import PathCosts

GRIDS = ("optimal", "halving", "jys", "profile", *fixed_grids.FIXED_GRIDS)
HALVING = ("halving", "jys")
ORDERS = ("fixed", "auto", "learned")
_ORDERS = 16  # of a sequence and a pattern, for its -log p
_LEAST = 8  # sequences that may choose an order by their -log p
_UNTUNED = ("uniform", "cosine")  # grids that stand beside the fitted one


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
            `paths`. It may pay to denoise nearly from noise: steps of next to no size before it are then candidates too. Grids
            are then judged by the table alone.

    Raises:
        ValueError: a grid that halves, and an M that is no power of two.
    """
    check_halving(settings.grid, steps)
    process, coupling = model.process, settings.coupling
    if settings.grid in fixed_grids.FIXED_GRIDS and settings.order == "fixed":
        return {m: Plan(coupling, fixed_grids.fixed_grid(settings.grid, m), {}) for m in steps}
    points = min(settings.grid_points, paths.steps)
    times = np.linspace(1, 0, points + 1)
    if denoising_cost is not None:
        times = np.union1d(times, 1 - np.linspace(0, 1 / points, max(steps) + 1))[::-1]
        table = Problem(model, kernel, *paths.repeated(settings.draws)).table(coupling, times)
        table[:, -1] = np.minimum(table[:, -1], denoising_cost(times[:-1]))
        grids = _grids(table, times, process, settings.grid, steps)
        return {m: Plan(coupling, times[grids[m]], {"cost_nats": search.path_cost(table, grids[m])}) for m in steps}
    fitted, unseen = problems(model, kernel, paths, settings.draws)
    proposals = _proposals(fitted, settings, times, steps)
    reference = unseen.cost(proposals[min(steps)][0].coupling, times)  # every step of the candidate times
    refitted = {}
    if not process.jumps_once and settings.grid != "jys":  # smooth divergences overfit little: all paths serve the grid
        table = Problem(model, kernel, *paths.repeated(settings.draws)).table(coupling, times)
        refitted = _grids(table, times, process, settings.grid, steps)
    plans: dict[int, Plan] = {}
    single: dict[int, Plan] = {}  # those of least path KL, which has no use for a mixture
    for m in sorted(steps):
        offered = proposals[m]
        # An order reveals few distinct things, which a fitted grid can overfit; the divergences of the other processes are smooth.
        if single and settings.grid == "optimal" and process.jumps_once:
            fewer = single[max(single)]
            offered = [*offered, Plan(fewer.coupling, split_times(process, fewer.times, m), {"source": "fewer steps"})]
        plan = _cheapest(unseen, offered, m)
        if refitted and plan.metrics["source"] == f"{settings.grid} grid":
            plan = plan._replace(times=times[refitted[m]])
        if settings.order == "learned":
            plan = _learned(fitted, unseen, plan, settings.order_trials)
        if settings.refine and settings.grid == "optimal":
            plan = _refined(fitted, unseen, plan, 1 / points)
        if single and plan.metrics["cost_nats"] > single[max(single)].metrics["cost_nats"] + 1e-6:
            logging.warning("M=%d costs more on unseen paths than M=%d: more paths would help", m, max(single))
        single[m] = plan
        plans[m] = _likelier(unseen, plan) if settings.order != "fixed" and process.jumps_once else plan
        plans[m].metrics["unseen_path_kl_nats"] = plans[m].metrics["cost_nats"] - reference
    return plans


def _proposals(
    fitted: Problem, settings: StudentSettings, times: np.ndarray, steps: Sequence[int]
) -> dict[int, list[Plan]]:
    """Candidate plans of every M: the order with the cheapest fitted grid, that with the cheapest untuned one, and sweeps."""
    process, found = fitted.model.process, {m: {} for m in steps}

    def offer(m: int, source: str, coupling: Coupling, own: np.ndarray, cost: float) -> None:
        if source not in found[m] or cost < found[m][source][1]:
            found[m][source] = Plan(coupling, own, {"source": source}), cost

    for coupling in _candidates(settings.coupling, settings):
        if settings.grid == "jys":  # off the candidate times
            grids = jys_grids(fitted.model, coupling, fitted.tokens, fitted.keys, max(steps))
            for m in steps:
                offer(m, "jys grid", coupling, grids[m], fitted.cost(coupling, grids[m]))
            continue
        table = fitted.table(coupling, times)
        indices = _grids(table, times, process, settings.grid, steps)
        for m in steps:
            if (gain := search.path_kl(table, indices[m])) < -1e-3 * len(fitted.tokens[0]):
                logging.warning(
                    "M=%d: a fitted grid costs %.3g nats less than every step on the paths that it was fitted on: overfitted. Unseen "
                    "paths choose the plan, untuned grids among it; more teacher.paths, or fewer student.grid_points, help",
                    *(m, -gain),
                )
            offer(m, f"{settings.grid} grid", coupling, times[indices[m]], search.path_cost(table, indices[m]))
            for name in _UNTUNED if settings.grid == "optimal" and process.jumps_once else ():
                cost = search.path_cost(table, fixed_grids.nearest_indices(name, len(times) - 1, m))
                offer(m, "untuned grid", coupling, fixed_grids.fixed_grid(name, m), cost)
    for m in steps if settings.order != "fixed" else ():
        equal = class_times(process, np.ones(m) / m)
        for name, pattern in (("left", tuple(range(m))), ("right", (0, *range(m - 1, 0, -1)))):
            offer(m, f"{name} sweep", Coupling("low_discrepancy", "pattern", pattern), equal, 0.0)
    return {m: [plan for plan, _ in own.values()] for m, own in found.items()}


def _cheapest(unseen: Problem, offered: Sequence[Plan], steps: int) -> Plan:
    costs = [unseen.cost(plan.coupling, plan.times) for plan in offered]
    best = offered[int(np.argmin(costs))]
    for plan, cost in zip(offered, costs):
        name = plan.coupling.generator if plan.coupling.name == "low_discrepancy" else plan.coupling.name
        logging.info("M=%d: %.3f nats on unseen paths, %s in %s order", steps, cost, plan.metrics["source"], name)
    return best._replace(metrics=best.metrics | {"cost_nats": min(costs)})


def split_times(process: Process, times: np.ndarray, steps: int) -> np.ndarray:
    """A grid of more steps: the widest steps are halved, by the share of positions that they reveal."""
    left = list(np.asarray(process.mask_share(np.asarray(times)), np.float64))
    left[-1] = 0.0  # the last step reveals all that is left
    while len(left) <= steps:
        widest = int(np.argmax(-np.diff(left)))
        left.insert(widest + 1, (left[widest] + left[widest + 1]) / 2)
    return class_times(process, -np.diff(left))


def check_halving(grid: str, steps: Sequence[int]) -> None:
    """Raises ValueError where a grid that halves is asked for an M that is no power of two."""
    if grid in HALVING and (missing := [m for m in steps if m < 1 or m & (m - 1)]):
        raise InputError(
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


def _likelier(unseen: Problem, plan: Plan) -> Plan:
    """The plan; or a sweep, or a mixture of two orders, where unseen sequences are more probable under it by a standard error.

    Path KL never prefers a mixture: its bound is the mean of its orders' bounds. Its likelihood gains from every order that
    suits a sequence better than the others do. One order is simpler than two, so a mixture has to be better than every single
    one. The gains in the metrics are those of the sequences that chose.
    """
    steps, process = len(plan.times) - 1, unseen.model.process
    if steps == 1 or unseen.sequences < _LEAST:  # there is nothing to order, or few would choose by chance
        return plan
    equal = class_times(process, np.ones(steps) / steps)
    sweeps = list(dict.fromkeys([tuple(range(steps)), (0, *range(steps - 1, 0, -1))]))  # one with two steps
    own = plan.coupling.pattern if plan.coupling.generator == "pattern" else ()
    pairs = [(tuple(sweeps), equal)] if len(sweeps) > 1 else []
    if own and _from_zero(own) not in sweeps and _from_zero(own[::-1]) != _from_zero(own):
        pairs.append(((own, own[::-1]), plan.times))

    @functools.cache
    def alone(row: tuple[int, ...], times: tuple[float, ...]) -> PathCosts:
        return unseen.path_costs(_pattern(row), np.asarray(times), _ORDERS)

    def together(rows: Sequence[tuple[int, ...]], times: np.ndarray) -> PathCosts:
        each = [alone(row, tuple(times)) for row in rows]
        return PathCosts(np.concatenate([costs.nats_NK for costs in each], 1), all(costs.exact for costs in each))

    best, gains = plan, {}
    costs = together([own], plan.times) if own else unseen.path_costs(plan.coupling, plan.times, _ORDERS)
    for kind, offered in (("sweep", [((row,), equal) for row in sweeps]), ("mixture", pairs)):
        found = [(together(*pair), pair) for pair in offered]
        means = [float(other.weighted().mean()) for other, _ in found]
        told = ", ".join(f"{mean:.3f}" for mean in means)
        logging.info("M=%d: -log p of unseen sequences %.3f, %ss %s", steps, costs.weighted().mean(), kind, told)
        gains[f"{kind}_gain_nats"] = 0.0
        if found:
            other, (rows, times) = found[int(np.argmin(means))]
            gains[f"{kind}_gain_nats"] = _clear_gain(costs, other)
        if gains[f"{kind}_gain_nats"]:
            metrics = {"source": kind, "cost_nats": unseen.cost(_pattern(*rows), times)}
            best, costs = Plan(_pattern(*rows), times, metrics), other
    return best._replace(metrics=best.metrics | gains)


def _clear_gain(costs: PathCosts, other: PathCosts) -> float:
    """By how many nats others are below; 0 where that is not above a standard error.

    With some of the orders a weighted mean is too high. What all orders would take off the first is taken off: about as much as
    all those that are there take off the mean of half of them.
    """
    nats = costs.weighted()
    if not costs.exact:
        nats = 2 * nats - costs.weighted(costs.nats_NK.shape[1] // 2)
    gains = nats - other.weighted()
    return float(gains.mean()) if len(gains) > 1 and gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)) else 0.0


def _pattern(*rows: tuple[int, ...]) -> Coupling:
    return Coupling("low_discrepancy", "pattern", rows if len(rows) > 1 else rows[0])


def _from_zero(pattern: tuple[int, ...]) -> tuple[int, ...]:
    """The cyclic shift that starts with 0: all shifts are one order."""
    start = pattern.index(0)
    return pattern[start:] + pattern[:start]


def class_times(process: Process, shares: np.ndarray) -> np.ndarray:
    """The times between which the given shares of all positions are revealed."""
    first = float(process.mask_probability(np.float32(1.0)))
    masked = first * np.clip(1 - np.cumsum(shares), 0, 1)
    inner = np.asarray(process.noise.inverse(-np.log1p(-masked[:-1].astype(np.float32))), np.float64)
    return np.concatenate([[1.0], inner, [0.0]])


def _learned(fitted: Problem, unseen: Problem, plan: Plan, trials: int) -> Plan:
    """Local search over which class (step of the student) every residue of a period belongs to."""
    rng = np.random.default_rng(len(plan.times))
    steps, process = len(plan.times) - 1, fitted.model.process
    classes = classes_of(plan, process, fitted.tokens.shape[1])
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
    own = unseen.cost(coupling, times)
    gain = unseen.cost(plan.coupling, plan.times) - own
    logging.info("M=%d: learned order %.2f -> %.2f nats, on unseen paths %.2f less", steps, start, cost, gain)
    if gain <= 0:
        return plan._replace(metrics=plan.metrics | {"order_gain_nats": 0.0})
    return Plan(coupling, times, plan.metrics | {"cost_nats": own, "order_gain_nats": gain})


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
        pattern = np.atleast_2d(plan.coupling.pattern)[0]  # of a mixture, the first order
        # Repeated, so that a move changes one residue of many.
        rank = np.tile(pattern, max(1, 16 // len(pattern)))
        threshold = 1 - (rank + 0.5) / len(pattern)
    else:
        threshold = np.asarray(plan.coupling.thresholds(jax.random.key(0)[None], length))[0]
    return np.searchsorted(-ends, -threshold, side="left")


def class_plan(classes: np.ndarray, steps: int, process: Process) -> tuple[Coupling, np.ndarray]:
    """The pattern and the times that reveal class k in step k; inside a class the golden ratio orders."""
    spread = np.arange(len(classes)) * orders.STRIDES["golden"] % 1
    rank = np.argsort(np.argsort(classes + spread))
    shares = np.bincount(classes, minlength=steps) / len(classes)
    return Coupling("low_discrepancy", "pattern", tuple(int(r) for r in rank)), class_times(process, shares)


def _refined(fitted: Problem, unseen: Problem, plan: Plan, width: float) -> Plan:
    """The grid moved off the teacher's grid: shortest path over finer times around it, kept if unseen paths agree."""
    if fitted.model.process.jumps_once and plan.coupling.generator == "pattern":
        return plan  # its times are those between its classes
    finer = search.zoom(plan.times, width)
    times = finer[search.shortest_paths(fitted.table(plan.coupling, finer), len(plan.times) - 1)[len(plan.times) - 1]]
    own = unseen.cost(plan.coupling, times)
    gain = unseen.cost(plan.coupling, plan.times) - own
    if gain <= 0:
        return plan._replace(metrics=plan.metrics | {"refine_gain_nats": 0.0})
    return Plan(plan.coupling, times, plan.metrics | {"cost_nats": own, "refine_gain_nats": gain})
