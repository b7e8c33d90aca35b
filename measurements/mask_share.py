"""How a masked network predicts real sequences at every share of masks, and what a temperature would add there.

python -m measurements.mask_share --config=antibody --output=FILE.json

Of each test sequence a share of the tokens is masked at random. Per share: nats per masked token as the network says it, the same at
the temperature that is best on the validation split, and how often its likeliest token is the true one. The mean over shares from 0
to 1 is the continuous-time bound on -log p per token.
"""

import argparse
import functools
import importlib
import pathlib
import sys
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from lsd_jax.experiment import build
from lsd_jax.experiment.records import environment, revision, write_json
from lsd_jax.models.model import Diffusion

SHARES = (0.05, 0.1, 0.15, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
TEMPERATURES = np.round(np.geomspace(0.5, 5.0, 33), 3)
BATCH = 8


@jax.jit
def _scored(model: Diffusion, tokens_BL: jax.Array, masked_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Nats (B, T) of the masked tokens at every temperature, and how many of them (B,) are the likeliest."""
    x_BL = jnp.where(masked_BL, model.process.mask, tokens_BL)
    log_prob_BLS = jax.nn.log_softmax(model.log_score(x_BL, jnp.float32(0.5)))

    def nats(temperature: jax.Array) -> jax.Array:
        sharp_BLS = jax.nn.log_softmax(log_prob_BLS / temperature)
        chosen_BL = jnp.take_along_axis(sharp_BLS, tokens_BL[..., None], -1)[..., 0]
        return -jnp.where(masked_BL, chosen_BL, 0.0).sum(-1)

    right_BL = masked_BL & (log_prob_BLS.argmax(-1) == tokens_BL)
    return jax.lax.map(nats, jnp.asarray(TEMPERATURES, jnp.float32)).T, right_BL.sum(-1)


def at_share(model: Diffusion, tokens_NL: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nats per masked token (N, T) and the share of right guesses (N,) where `share` of every sequence is masked."""
    rng, length = np.random.default_rng(seed), tokens_NL.shape[1]
    count = max(1, round(share * length))
    masked_NL = np.argsort(rng.random(tokens_NL.shape), -1) < count
    nats, right = [], []
    for start in range(0, len(tokens_NL), BATCH):
        found = _scored(model, tokens_NL[start : start + BATCH], masked_NL[start : start + BATCH])
        nats.append(found[0])
        right.append(found[1])
    return np.concatenate(nats) / count, np.concatenate(right) / count


def measure(model: Diffusion, validation_NL: np.ndarray, test_NL: np.ndarray, seed: int) -> list[dict[str, float]]:
    """One row per share; the temperature is chosen on validation sequences, everything else is of test sequences."""
    rows = []
    for share in SHARES:
        tuned, _ = at_share(model, validation_NL, share, seed)
        best = int(tuned.mean(0).argmin())
        nats, right = at_share(model, test_NL, share, seed + 1)
        plain, sharp = nats[:, int(np.argmin(np.abs(TEMPERATURES - 1)))], nats[:, best]
        error = functools.partial(np.std, ddof=1)
        rows.append(
            {
                "share": share,
                "nats": float(plain.mean()),
                "standard_error": float(error(plain) / np.sqrt(len(plain))),
                "best_temperature": float(TEMPERATURES[best]),
                "nats_at_it": float(sharp.mean()),
                "difference_error": float(error(plain - sharp) / np.sqrt(len(plain))),
                "right": float(right.mean()),
            }
        )
        print(
            "{share:5.2f} masked: {nats:.3f} +- {standard_error:.3f} nats, right {right:.3f}; ".format(**rows[-1]),
            end="",
        )
        print("T={best_temperature:.2f}: {nats_at_it:.3f}".format(**rows[-1]), flush=True)
    return rows


def draw(rows: list[dict[str, float]], vocab_size: int, path: pathlib.Path) -> None:
    """Nats per masked token against the share of masks."""
    from matplotlib.figure import Figure

    figure = Figure((5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    shares = [row["share"] for row in rows]
    axes.plot(shares, [row["nats"] for row in rows], "o-", color="#0072B2", label="as the network says it")
    axes.plot(shares, [row["nats_at_it"] for row in rows], "s--", color="#D55E00", label="at its best temperature")
    axes.axhline(np.log(vocab_size), color="black", linewidth=1, linestyle=":", label="knowing nothing")
    axes.set_xlabel("share of tokens masked")
    axes.set_ylabel("nats per masked token")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def bound(rows: list[Mapping[str, float]], name: str) -> float:
    """The mean of a row's entry over all shares from 0 to 1, by the trapezoidal rule; the first share stands for those below it."""
    shares = np.array([0.0, *[row["share"] for row in rows]])
    values = np.array([rows[0][name], *[row[name] for row in rows]])
    return float(((values[1:] + values[:-1]) / 2 * np.diff(shares)).sum())


def main(argv: list[str] | None = None) -> int:
    """Prints the rows, and writes the record and, beside it, the figure."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", required=True, help="a shipped config, by name, of a masked network without a time input"
    )
    parser.add_argument("--output", required=True, type=pathlib.Path, help="JSON file to write")
    parser.add_argument("--sequences", type=int, default=64, help="test sequences, and as many for validation")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    config = importlib.import_module(f"lsd_jax.configs.{args.config}").get_config()
    task = build.task_of(config, judged=False)
    model = build.model_of(config, pathlib.Path(), task)
    splits = [task.split(part)[: args.sequences].astype(np.int32) for part in ("validation", "test")]
    rows = measure(model, *splits, args.seed)
    bounds = {"nats": bound(rows, "nats"), "nats_at_it": bound(rows, "nats_at_it")}
    print(
        "continuous-time bound, nats per token: {nats:.3f}, at the best temperatures {nats_at_it:.3f}".format(**bounds)
    )
    record = {
        "command": " ".join(["python -m measurements.mask_share", *argv]),
        "revision": revision(),
        "environment": environment(),
        "network": model.identity._asdict(),
        "sequences": args.sequences,
        "seed": args.seed,
        "bound": bounds,
        "rows": rows,
    }
    write_json(args.output, record)
    draw(rows, task.vocab_size, args.output.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
