"""Bias and variance of gradient estimators of score alignment, against the exact gradient on an enumerable toy.

python -m benchmarks.gradient_estimators --output=FILE.json

Sequences of 3 tokens out of 3 under the absorbing process, an exact denoiser, 3 Euler steps: 64 states, so that the
expected loss (Fu et al. 2025, eq. 6, with independent noise) and the path KL are sums, and autodiff of them is exact.
"""

import argparse
import functools
import itertools
import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.distill.relaxed import relaxed_rollout
from lsd_jax.models.oracle import all_sequences, enumerated_log_posterior
from lsd_jax.models.score_fn import LogScoreFn, posterior_score_fn
from lsd_jax.processes.noise import make_noise
from lsd_jax.processes.score import make_process
from lsd_jax.report.tables import markdown_table
from lsd_jax.samplers import get_kernel
from lsd_jax.samplers.coupling import Coupling, sequence_keys
from lsd_jax.samplers.kernel import Knobs, denoise
from lsd_jax.samplers.simulate import Schedule, simulate
from lsd_jax.samplers.transition import Transition, fine_uniform
from lsd_jax.workflow import revision

S, L, M = 3, 3, 3
PROCESS = make_process("absorbing", S, make_noise("loglinear"))
KERNEL, COUPLING = get_kernel("euler"), Coupling("iid")
GRID = np.linspace(1, 0, M + 1, dtype=np.float32)
# The many-step teacher starts from all masks at time 1: a position is still masked with these probabilities.
SURVIVAL = np.asarray(PROCESS.mask_probability(GRID) / PROCESS.mask_probability(GRID[0]))
DATA, STATES = all_sequences(S, L), all_sequences(S + 1, L)
# Seeds of random laws, and the log-coefficients at which gradients are taken.
CASES = ((0, (0.2, -0.3, 0.1)), (1, (0.2, -0.3, 0.1)), (2, (-0.4, 0.3, 0.0)), (3, (0.0, 0.0, 0.0)))
GROUP = 16
SHARPNESS = (0.5, 1.0, 2.0)
_CHUNK = 2**14
_COLUMNS = [
    ("estimator", "estimator", "{}"),
    ("step", "step", "{}"),
    ("exact", "exact", "{:.3f}"),
    ("mean", "mean", "{:.3f}"),
    ("bias", "bias", "{:+.3f}"),
    ("error", "its standard error", "{:.3f}"),
    ("std", "std of one sequence", "{:.2f}"),
]


def random_law(seed: int) -> np.ndarray:
    """Probabilities (S^L,) of the sequences of DATA."""
    return np.random.default_rng(seed).dirichlet(np.full(S**L, 0.3)).astype(np.float32)


def denoiser(law_D: jax.Array) -> LogScoreFn:
    """The exact log-score of a law."""
    return posterior_score_fn(PROCESS, enumerated_log_posterior(PROCESS, law_D, L))


def schedule_at(coefficient_M: jax.Array) -> Schedule:
    """The student: equal steps and these log-coefficients."""
    return Schedule(jnp.asarray(GRID), Knobs(coefficient_M, jnp.zeros(M)))


def transition_at(law_D: jax.Array, coefficient_M: jax.Array, x_BL: jax.Array, step: int) -> Transition:
    """The student's step from tokens, the denoising one included."""
    knobs = Knobs(coefficient_M[step], jnp.zeros(()))
    # What the oracle says of a token it sees is log 0, unused, and its gradient not a number.
    score_fn = lambda x, t: jnp.where((x == PROCESS.mask)[..., None], denoiser(law_D)(x, t), 0.0)  # noqa: E731
    if step == M - 1:
        return denoise(PROCESS, score_fn, x_BL, GRID[step], knobs)
    return KERNEL.step(PROCESS, score_fn, x_BL, GRID[step], GRID[step + 1], knobs)


def scaled_score(log_score_BLS: jax.Array, masked_BL: jax.Array, step: int) -> jax.Array:
    """Scores of masked positions times expm1(sigma_bar), the root of the loss's weight."""
    log_scale = jnp.log(jnp.expm1(PROCESS.noise.sigma_bar(GRID[step])))
    return masked_BL[..., None] * jnp.exp(log_score_BLS + log_scale)


def score_at(law_D: jax.Array, x_BL: jax.Array, step: int) -> jax.Array:
    """The scaled score (B, L, S) at tokens: the teacher's, or the student's but for its coefficient."""
    return scaled_score(denoiser(law_D)(x_BL, GRID[step]), x_BL == PROCESS.mask, step)


def teacher_laws(law_D: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
    """The teacher's laws (64,) at the M + 1 times, and of pairs (64, 64) at each two neighbouring times."""
    masked_NL = STATES == PROCESS.mask
    agree_DNL = masked_NL[None] | (DATA[:, None] == STATES[None])
    laws, pairs = [], []
    for k in range(M + 1):
        by_data_DNL = agree_DNL * np.where(masked_NL, SURVIVAL[k], 1 - SURVIVAL[k])[None]
        laws.append(law_D @ by_data_DNL.prod(-1))
        if k < M:
            kept = SURVIVAL[k + 1] / SURVIVAL[k]
            stay_NL = np.where(masked_NL, kept, 1 - kept)[None]
            move_NNL = np.where(masked_NL[:, None], stay_NL, ~masked_NL[None])
            both_DNN = (by_data_DNL[:, :, None] * move_NNL[None] * agree_DNL[:, None]).prod(-1)
            pairs.append(jnp.einsum("d,dnm->nm", law_D, both_DNN))
    return laws, pairs


def student_laws(law_D: jax.Array, coefficient_M: jax.Array) -> list[jax.Array]:
    """The student's laws (64,) at the first M times."""
    states = jnp.asarray(STATES)
    laws = [jnp.exp(PROCESS.prior_log_prob(states))]
    for k in range(M - 1):
        stay_NL, jump_NLS = transition_at(law_D, coefficient_M, states, k).probabilities()
        table_NLV = jnp.pad(jump_NLS, ((0, 0), (0, 0), (0, 1))) + stay_NL[..., None] * jax.nn.one_hot(states, S + 1)
        laws.append(laws[-1] @ table_NLV[:, np.arange(L)[None], STATES].prod(-1))
    return laws


def exact_alignment(law_D: jax.Array, coefficient_M: jax.Array, fixed_states: bool = False) -> jax.Array:
    """Equation 6 summed over every pair of states: sum_k w_k E || Phi_k s_k(x_k) - s*_k(x*_k) ||^2.

    With `fixed_states` its gradient is the paper's, which leaves out that coefficients move the states.
    """
    laws = student_laws(law_D, jax.lax.stop_gradient(coefficient_M) if fixed_states else coefficient_M)
    total = 0.0
    for k, (law_N, teacher_N) in enumerate(zip(laws, teacher_laws(law_D)[0])):
        score_NLS = score_at(law_D, jnp.asarray(STATES), k)
        phi, square_N = jnp.exp(coefficient_M[k]), (score_NLS**2).sum((1, 2))
        own_LS, target_LS = (jnp.einsum("n,nls->ls", law, score_NLS) for law in (law_N, teacher_N))
        total += phi**2 * (law_N @ square_N) - 2 * phi * (own_LS * target_LS).sum() + teacher_N @ square_N
    return total


def exact_path_kl(law_D: jax.Array, coefficient_M: jax.Array) -> jax.Array:
    """KL(teacher path || student path) at the grid's times, summed over every pair of neighbouring states."""
    laws, pairs = teacher_laws(law_D)
    source, target = (index.ravel() for index in np.meshgrid(*[np.arange(len(STATES))] * 2, indexing="ij"))
    total = 0.0
    for k in range(M):
        joint, conditioned = pairs[k][source, target], laws[k][source]
        transition = transition_at(law_D, coefficient_M, jnp.asarray(STATES[source]), k)
        log_prob = transition.log_prob(jnp.asarray(STATES[target])).sum(-1)
        possible = joint > 0
        log_ratio = jnp.log(jnp.where(possible, joint / conditioned, 1.0)) - jnp.where(possible, log_prob, 0.0)
        total += (joint * log_ratio).sum()
    return total


class Batch(NamedTuple):
    """Independent sequences: the law and keys (B,), the student's states (M, B, L) with them, the teacher's (M + 1, B, L)."""

    law_D: jax.Array
    key_B: jax.Array
    student_MBL: jax.Array
    teacher_MBL: jax.Array


def draw(key: jax.Array, batch: int, law_D: jax.Array, coefficient_M: jax.Array) -> Batch:
    """The student's paths, and a many-step teacher's with noise of its own."""
    key_student, key_data, key_threshold = jax.random.split(key, 3)
    key_B = sequence_keys(key_student, batch)
    args = (key_B, PROCESS, KERNEL, denoiser(law_D), schedule_at(coefficient_M), COUPLING, batch, L)
    states = simulate(*args, keep_states=True).states[:-1]
    x0_BL = jnp.asarray(DATA)[jax.random.categorical(key_data, jnp.log(law_D), shape=(batch,))]
    masked = fine_uniform(key_threshold, (1, batch, L)) < SURVIVAL[:, None, None]
    return Batch(law_D, key_B, states, jnp.where(masked, PROCESS.mask, x0_BL[None]))


def terms(coefficient_M: jax.Array, batch: Batch) -> jax.Array:
    """The terms (M, B) of the alignment loss at the drawn states."""
    total = []
    for k in range(M):
        own_BLS = jnp.exp(coefficient_M[k]) * score_at(batch.law_D, batch.student_MBL[k], k)
        total.append(((own_BLS - score_at(batch.law_D, batch.teacher_MBL[k], k)) ** 2).sum((1, 2)))
    return jnp.stack(total)


def log_probs(law_D: jax.Array, coefficient_M: jax.Array, states: jax.Array) -> jax.Array:
    """log-probability of every step of paths (K + 1, B, L), (K, B)."""
    pairs = enumerate(itertools.pairwise(states))
    return jnp.stack([transition_at(law_D, coefficient_M, x, k).log_prob(after).sum(-1) for k, (x, after) in pairs])


def detached(coefficient_M: jax.Array, batch: Batch) -> jax.Array:
    """The paper's surrogate (B,): the states are constants."""
    return terms(coefficient_M, batch).sum(0)


def unrolled(coefficient_M: jax.Array, batch: Batch, sharpness: float) -> jax.Array:
    """Straight-through surrogate (B,): the loss at the soft states, its mask included."""
    score_fn, schedule = denoiser(batch.law_D), schedule_at(coefficient_M)
    start_BL = batch.student_MBL[0]
    args = (batch.key_B, PROCESS, KERNEL, score_fn, schedule, COUPLING, start_BL, sharpness)
    soft, log_scores = relaxed_rollout(*args)
    total = 0.0
    for k in range(M):
        own_BLS = scaled_score(coefficient_M[k] + log_scores[k], soft[k, ..., PROCESS.mask], k)
        total += ((own_BLS - score_at(batch.law_D, batch.teacher_MBL[k], k)) ** 2).sum((1, 2))
    return total


def score_function(coefficient_M: jax.Array, batch: Batch) -> jax.Array:
    """Likelihood-ratio surrogate (B,): a step's log-probability times the losses after it, less the group's others'."""
    terms_MB = terms(coefficient_M, batch)
    after = jnp.cumsum(jax.lax.stop_gradient(terms_MB)[::-1], 0)[::-1][1:].reshape(M - 1, -1, GROUP)
    advantage = (after - (after.sum(-1, keepdims=True) - after) / (GROUP - 1)).reshape(M - 1, -1)
    return terms_MB.sum(0) + (advantage * log_probs(batch.law_D, coefficient_M, batch.student_MBL)).sum(0)


def path_kl(coefficient_M: jax.Array, batch: Batch) -> jax.Array:
    """-log p_student(teacher path), (B,)."""
    return -log_probs(batch.law_D, coefficient_M, batch.teacher_MBL).sum(0)


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


def finite_differences(loss: Loss, law_D: np.ndarray, point_M: np.ndarray, step: float = 1e-2) -> np.ndarray:
    """Central differences (M,)."""
    moves = step * np.eye(M, dtype=np.float32)
    return np.array([float(loss(law_D, point_M + move) - loss(law_D, point_M - move)) for move in moves]) / (2 * step)


def group_means(surrogate: Surrogate, sequences: int) -> Callable[[jax.Array, jax.Array, jax.Array], np.ndarray]:
    """A function of (key, law, point) -> estimates (G, M), averaged over groups of 16 sequences.

    Groups are independent where sequences are not, so errors come from them.
    """

    @jax.jit
    def chunk(key, law_D, point_M):
        batch = draw(key, min(_CHUNK, sequences), law_D, point_M)
        # Forward mode: three numbers in, one estimate a sequence out.
        return jax.jacfwd(surrogate)(point_M, batch).reshape(-1, GROUP, M).mean(1)

    def run(key, law_D, point_M):
        keys = jax.random.split(key, -(-sequences // _CHUNK))
        return np.concatenate([np.asarray(chunk(k, law_D, point_M), np.float64) for k in keys])

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
        for law_seed, point in CASES:
            law_D, point_M = random_law(law_seed), np.array(point, np.float32)
            loss_value, exact_M = exact(law_D, point_M)
            exact_M = np.asarray(exact_M, np.float64)
            fixed_M = np.asarray(fixed_gradient(law_D, point_M), np.float64)
            result = {
                "estimator": name,
                "law": law_seed,
                "log_coefficient": point,
                "exact_loss": float(loss_value),
                "exact": exact_M.tolist(),
                "finite_differences": finite_differences(value, law_D, point_M).tolist(),
                **summary(measure(jax.random.key(seed), law_D, point_M), exact_M, fixed_M),
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
    columns = [("estimator", "cosine with the exact gradient", "{}")]
    columns += [(f"cosine{law}", f"law {law}", "{:.3f}") for law, _ in CASES]
    columns += [(f"through_states{law}", f"law {law}, through the states", "{:.3f}") for law, _ in CASES]
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
    parser.add_argument("--sequences", type=int, default=2**16, help=f"a case's: a multiple of {GROUP} or of {_CHUNK}")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.sequences % (GROUP if args.sequences < _CHUNK else _CHUNK):
        parser.error(f"--sequences={args.sequences}: give a multiple of {GROUP} below {_CHUNK}, or of {_CHUNK}")
    results = run(args.sequences, args.seed)
    print(tables(results))
    record = {
        "command": " ".join(["python -m benchmarks.gradient_estimators", *argv]),
        "seed": args.seed,
        "revision": revision(),
        "sequences": args.sequences,
        "results": results,
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
