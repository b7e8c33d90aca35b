"""Bias and variance of gradient estimators of score alignment, against the exact gradient on an enumerable toy.

python -m measurements.gradient_estimators --output=FILE.json

Sequences of 3 tokens out of 3 under the absorbing process, an exact denoiser, 3 Euler steps: 64 states, so that the
expected loss (Fu et al. 2025, eq. 6, with independent noise) and the path KL are sums, and autodiff of them is exact.
"""

import argparse
import functools
import itertools
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.distill.relaxed import relaxed_rollout
from lsd_jax.experiment.records import revision, write_json
from lsd_jax.experiment.report.tables import markdown_table
from lsd_jax.keys import sequence_keys
from lsd_jax.metrics.metric import Column
from lsd_jax.models.model import Diffusion
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.processes.absorbing import Absorbing
from lsd_jax.processes.draws import fine_uniform
from lsd_jax.processes.noise import LogLinear
from lsd_jax.processes.transition import Transition
from lsd_jax.samplers.kernel import transition_of
from lsd_jax.samplers.kernels.euler import EULER
from lsd_jax.samplers.sampler import Sampler
from lsd_jax.samplers.schedule import Schedule, Step, StepParameters
from lsd_jax.samplers.simulate import simulate

S, L, M = 3, 3, 3
PROCESS = Absorbing(S, LogLinear())
GRID = np.linspace(1, 0, M + 1, dtype=np.float32)
# The many-step teacher starts from all masks at time 1: a position is still masked with these probabilities.
SURVIVAL = np.asarray(PROCESS.mask_probability(GRID) / PROCESS.mask_probability(GRID[0]))
DATA, STATES = all_sequences(S, L), all_sequences(S + 1, L)
# Seeds of random distributions, and the log-coefficients at which gradients are taken.
CASES = ((0, (0.2, -0.3, 0.1)), (1, (0.2, -0.3, 0.1)), (2, (-0.4, 0.3, 0.0)), (3, (0.0, 0.0, 0.0)))
GROUP = 16
SHARPNESS = (0.5, 1.0, 2.0)
_CHUNK = 2**14
_COLUMNS = [
    Column("estimator", "estimator", "{}"),
    Column("step", "step", "{}"),
    Column("exact", "exact"),
    Column("mean", "mean"),
    Column("bias", "bias", "{:+.3f}"),
    Column("error", "its standard error"),
    Column("std", "std of one sequence", "{:.2f}"),
]


def random_distribution(seed: int) -> np.ndarray:
    """Probabilities (S^L,) of the sequences of DATA."""
    return np.random.default_rng(seed).dirichlet(np.full(S**L, 0.3)).astype(np.float32)


def denoiser(probs_D: jax.Array) -> Diffusion:
    """The exact denoiser of a distribution."""
    return Diffusion.from_function(enumerated_log_posterior(PROCESS, probs_D, L), PROCESS, "log_posterior")


def student_at(coefficient_M: jax.Array) -> Sampler:
    """The student: equal Euler steps and these log-coefficients."""
    return Sampler(Schedule(jnp.asarray(GRID), StepParameters(coefficient_M, jnp.zeros(M))), EULER, length=L)


def transition_at(probs_D: jax.Array, coefficient_M: jax.Array, x_BL: jax.Array, step: int) -> Transition:
    """The student's step from tokens, the denoising one included."""
    now = Step(GRID[step], GRID[step + 1], StepParameters(coefficient_M[step], jnp.zeros(())))
    # What the oracle says of a token it sees is log 0, unused, and its gradient not a number.
    return transition_of(EULER, denoiser(probs_D).masked(), x_BL, now, step == M - 1)


def scaled_score(log_score_BLS: jax.Array, masked_BL: jax.Array, step: int) -> jax.Array:
    """Scores of masked positions times expm1(sigma_bar), the root of the loss's weight."""
    log_scale = jnp.log(jnp.expm1(PROCESS.noise.sigma_bar(GRID[step])))
    return masked_BL[..., None] * jnp.exp(log_score_BLS + log_scale)


def score_at(probs_D: jax.Array, x_BL: jax.Array, step: int) -> jax.Array:
    """The scaled score (B, L, S) at tokens: the teacher's, or the student's but for its coefficient."""
    return scaled_score(denoiser(probs_D).log_score(x_BL, GRID[step]), x_BL == PROCESS.mask, step)


def teacher_distributions(probs_D: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
    """The teacher's distributions (64,) at the M + 1 times, and of pairs (64, 64) at each two times that follow each other."""
    masked_NL = STATES == PROCESS.mask
    agree_DNL = masked_NL[None] | (DATA[:, None] == STATES[None])
    by_time, pairs = [], []
    for k in range(M + 1):
        by_data_DNL = agree_DNL * np.where(masked_NL, SURVIVAL[k], 1 - SURVIVAL[k])[None]
        by_time.append(probs_D @ by_data_DNL.prod(-1))
        if k < M:
            kept = SURVIVAL[k + 1] / SURVIVAL[k]
            stay_NL = np.where(masked_NL, kept, 1 - kept)[None]
            move_NNL = np.where(masked_NL[:, None], stay_NL, ~masked_NL[None])
            both_DNN = (by_data_DNL[:, :, None] * move_NNL[None] * agree_DNL[:, None]).prod(-1)
            pairs.append(jnp.einsum("d,dnm->nm", probs_D, both_DNN))
    return by_time, pairs


def student_distributions(probs_D: jax.Array, coefficient_M: jax.Array) -> list[jax.Array]:
    """The student's distributions (64,) at the first M times."""
    states = jnp.asarray(STATES)
    by_time = [jnp.exp(PROCESS.prior_log_prob(states))]
    for k in range(M - 1):
        stay_NL, jump_NLS = transition_at(probs_D, coefficient_M, states, k).probabilities()
        table_NLV = jnp.pad(jump_NLS, ((0, 0), (0, 0), (0, 1))) + stay_NL[..., None] * jax.nn.one_hot(states, S + 1)
        by_time.append(by_time[-1] @ table_NLV[:, np.arange(L)[None], STATES].prod(-1))
    return by_time


def exact_alignment(probs_D: jax.Array, coefficient_M: jax.Array, fixed_states: bool = False) -> jax.Array:
    """Equation 6 summed over every pair of states: sum_k w_k E || Phi_k s_k(x_k) - s*_k(x*_k) ||^2.

    With `fixed_states` its gradient is the paper's, which leaves out that coefficients move the states.
    """
    by_time = student_distributions(probs_D, jax.lax.stop_gradient(coefficient_M) if fixed_states else coefficient_M)
    total = 0.0
    for k, (probs_N, teacher_N) in enumerate(zip(by_time, teacher_distributions(probs_D)[0])):
        score_NLS = score_at(probs_D, jnp.asarray(STATES), k)
        phi, square_N = jnp.exp(coefficient_M[k]), (score_NLS**2).sum((1, 2))
        own_LS, target_LS = (jnp.einsum("n,nls->ls", probs, score_NLS) for probs in (probs_N, teacher_N))
        total += phi**2 * (probs_N @ square_N) - 2 * phi * (own_LS * target_LS).sum() + teacher_N @ square_N
    return total


def exact_path_kl(probs_D: jax.Array, coefficient_M: jax.Array) -> jax.Array:
    """KL(teacher path || student path) at the grid's times, summed over every pair of states that follow each other."""
    by_time, pairs = teacher_distributions(probs_D)
    source, target = (index.ravel() for index in np.meshgrid(*[np.arange(len(STATES))] * 2, indexing="ij"))
    total = 0.0
    for k in range(M):
        joint, conditioned = pairs[k][source, target], by_time[k][source]
        transition = transition_at(probs_D, coefficient_M, jnp.asarray(STATES[source]), k)
        log_prob = transition.log_prob(jnp.asarray(STATES[target])).sum(-1)
        possible = joint > 0
        log_ratio = jnp.log(jnp.where(possible, joint / conditioned, 1.0)) - jnp.where(possible, log_prob, 0.0)
        total += (joint * log_ratio).sum()
    return total


class Batch(NamedTuple):
    """Independent sequences: their distribution and keys (B,), the student's states (M, B, L) with them, the teacher's (M + 1, B, L)."""

    probs_D: jax.Array
    key_B: jax.Array
    student_MBL: jax.Array
    teacher_MBL: jax.Array


def draw(key: jax.Array, batch: int, probs_D: jax.Array, coefficient_M: jax.Array) -> Batch:
    """The student's paths, and a many-step teacher's with noise of its own."""
    key_student, key_data, key_threshold = jax.random.split(key, 3)
    key_B = sequence_keys(key_student, batch)
    states = simulate(key_B, denoiser(probs_D), student_at(coefficient_M), batch, keep_states=True).states[:-1]
    x0_BL = jnp.asarray(DATA)[jax.random.categorical(key_data, jnp.log(probs_D), shape=(batch,))]
    masked = fine_uniform(key_threshold, (1, batch, L)) < SURVIVAL[:, None, None]
    return Batch(probs_D, key_B, states, jnp.where(masked, PROCESS.mask, x0_BL[None]))


def terms(coefficient_M: jax.Array, batch: Batch) -> jax.Array:
    """The terms (M, B) of the alignment loss at the drawn states."""
    total = []
    for k in range(M):
        own_BLS = jnp.exp(coefficient_M[k]) * score_at(batch.probs_D, batch.student_MBL[k], k)
        total.append(((own_BLS - score_at(batch.probs_D, batch.teacher_MBL[k], k)) ** 2).sum((1, 2)))
    return jnp.stack(total)


def log_probs(probs_D: jax.Array, coefficient_M: jax.Array, states: jax.Array) -> jax.Array:
    """log-probability of every step of paths (K + 1, B, L), (K, B)."""
    pairs = enumerate(itertools.pairwise(states))
    return jnp.stack([transition_at(probs_D, coefficient_M, x, k).log_prob(after).sum(-1) for k, (x, after) in pairs])


def detached(coefficient_M: jax.Array, batch: Batch) -> jax.Array:
    """The paper's surrogate (B,): the states are constants."""
    return terms(coefficient_M, batch).sum(0)


def unrolled(coefficient_M: jax.Array, batch: Batch, sharpness: float) -> jax.Array:
    """Straight-through surrogate (B,): the loss at the soft states, its mask included."""
    model, student = denoiser(batch.probs_D), student_at(coefficient_M)
    soft, log_scores = relaxed_rollout(batch.key_B, model, student, batch.student_MBL[0], sharpness)
    total = 0.0
    for k in range(M):
        own_BLS = scaled_score(coefficient_M[k] + log_scores[k], soft[k, ..., PROCESS.mask], k)
        total += ((own_BLS - score_at(batch.probs_D, batch.teacher_MBL[k], k)) ** 2).sum((1, 2))
    return total


def score_function(coefficient_M: jax.Array, batch: Batch) -> jax.Array:
    """Likelihood-ratio surrogate (B,): a step's log-probability times the losses after it, less the group's others'."""
    terms_MB = terms(coefficient_M, batch)
    after = jnp.cumsum(jax.lax.stop_gradient(terms_MB)[::-1], 0)[::-1][1:].reshape(M - 1, -1, GROUP)
    advantage = (after - (after.sum(-1, keepdims=True) - after) / (GROUP - 1)).reshape(M - 1, -1)
    return terms_MB.sum(0) + (advantage * log_probs(batch.probs_D, coefficient_M, batch.student_MBL)).sum(0)


def path_kl(coefficient_M: jax.Array, batch: Batch) -> jax.Array:
    """-log p_student(teacher path), (B,)."""
    return -log_probs(batch.probs_D, coefficient_M, batch.teacher_MBL).sum(0)


Loss = Callable[[jax.Array, jax.Array], jax.Array]
Surrogate = Callable[[jax.Array, Batch], jax.Array]


def estimators() -> dict[str, tuple[Surrogate, Loss]]:
    """Per-sequence surrogates, whose gradients are the estimates, and the exact losses they are estimates for."""
    soft = {f"unrolled, sharpness {s:g}": functools.partial(unrolled, sharpness=s) for s in SHARPNESS}
    alignment = {"detached (paper)": detached, **soft, "score function, leave-one-out": score_function}
    return {name: (fn, exact_alignment) for name, fn in alignment.items()} | {"path KL": (path_kl, exact_path_kl)}


def cosine(a: np.ndarray, b: np.ndarray) -> float | None:
    """The cosine of the angle between two vectors; None where one is zero."""
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms > 1e-8 else None


def finite_differences(loss: Loss, probs_D: np.ndarray, point_M: np.ndarray, step: float = 1e-2) -> np.ndarray:
    """Central differences (M,)."""
    moves = step * np.eye(M, dtype=np.float32)
    return np.array([float(loss(probs_D, point_M + move) - loss(probs_D, point_M - move)) for move in moves]) / (
        2 * step
    )


def group_means(surrogate: Surrogate, sequences: int) -> Callable[[jax.Array, jax.Array, jax.Array], np.ndarray]:
    """A function of (key, distribution, point) -> estimates (G, M), averaged over groups of 16 sequences.

    Groups are independent where sequences are not, so errors come from them.
    """

    @jax.jit
    def chunk(key, probs_D, point_M):
        batch = draw(key, min(_CHUNK, sequences), probs_D, point_M)
        # Forward mode: three numbers in, one estimate per sequence out.
        return jax.jacfwd(surrogate)(point_M, batch).reshape(-1, GROUP, M).mean(1)

    def run(key, probs_D, point_M):
        keys = jax.random.split(key, -(-sequences // _CHUNK))
        return np.concatenate([np.asarray(chunk(k, probs_D, point_M), np.float64) for k in keys])

    return run


def summary(groups_GM: np.ndarray, exact_M: np.ndarray, fixed_M: np.ndarray) -> dict[str, Any]:
    """Mean, bias, its standard error and the deviation of one sequence's estimate, (M,) each, and cosines.

    `fixed_M` is the part of the exact gradient that leaves the states where they are.
    """
    mean_M, deviation_M = groups_GM.mean(0), groups_GM.std(0, ddof=1)
    return {
        "mean": mean_M.tolist(),
        "bias": (mean_M - exact_M).tolist(),
        "error": (deviation_M / np.sqrt(len(groups_GM))).tolist(),
        "std": (deviation_M * np.sqrt(GROUP)).tolist(),
        "cosine": cosine(mean_M, exact_M),
        "through_states": cosine(mean_M - fixed_M, exact_M - fixed_M),
    }


def run(sequences: int, seed: int) -> list[dict[str, Any]]:
    """Every estimator in every case, beside its exact loss and gradient."""
    fixed_gradient = jax.jit(jax.grad(functools.partial(exact_alignment, fixed_states=True), 1))
    results = []
    for name, (surrogate, loss) in estimators().items():
        measure, exact, value = group_means(surrogate, sequences), jax.jit(jax.value_and_grad(loss, 1)), jax.jit(loss)
        for probs_seed, point in CASES:
            probs_D, point_M = random_distribution(probs_seed), np.array(point, np.float32)
            loss_value, exact_M = exact(probs_D, point_M)
            exact_M = np.asarray(exact_M, np.float64)
            fixed_M = np.asarray(fixed_gradient(probs_D, point_M), np.float64)
            result = {
                "estimator": name,
                "law": probs_seed,
                "log_coefficient": point,
                "exact_loss": float(loss_value),
                "exact": exact_M.tolist(),
                "finite_differences": finite_differences(value, probs_D, point_M).tolist(),
                **summary(measure(jax.random.key(seed), probs_D, point_M), exact_M, fixed_M),
            }
            if surrogate in (detached, path_kl):
                result["through_states"] = None  # the one has no such part, the other another loss
            results.append(result)
    return results


def tables(results: list[dict[str, Any]]) -> str:
    """The first case by coordinate, and the cosines of all cases."""
    names = ("exact", "mean", "bias", "error", "std")
    first = [result for result in results if result["law"] == CASES[0][0]]
    rows = [
        {"estimator": result["estimator"], "step": k} | {n: result[n][k] for n in names}
        for result in first
        for k in range(M)
    ]
    columns = [Column("estimator", "cosine with the exact gradient", "{}")]
    columns += [Column(f"cosine{seed}", f"distribution {seed}") for seed, _ in CASES]
    columns += [Column(f"through_states{seed}", f"distribution {seed}, through the states") for seed, _ in CASES]
    cosines = {result["estimator"]: {"estimator": result["estimator"]} for result in results}
    for result in results:
        for kind in ("cosine", "through_states"):
            cosines[result["estimator"]][f"{kind}{result['law']}"] = result[kind]
    return markdown_table(rows, _COLUMNS) + "\n\n" + markdown_table(list(cosines.values()), columns)


def main(argv: list[str] | None = None) -> None:
    """Prints the tables and writes the record."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--sequences", type=int, default=2**16, help=f"per case: a multiple of {GROUP} or of {_CHUNK}")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.sequences % (GROUP if args.sequences < _CHUNK else _CHUNK):
        parser.error(f"--sequences={args.sequences}: give a multiple of {GROUP} below {_CHUNK}, or of {_CHUNK}")
    results = run(args.sequences, args.seed)
    print(tables(results))
    record = {
        "command": " ".join(["python -m measurements.gradient_estimators", *argv]),
        "seed": args.seed,
        "revision": revision(),
        "sequences": args.sequences,
        "results": results,
    }
    write_json(args.output, record)


if __name__ == "__main__":
    main()
