"""Checks what the README claims against finished runs, and prints its tables.

python -m lsd_jax.main --config=configs/countdown.py && python -m lsd_jax.main --config=configs/text.py
python -m benchmarks.claims runs/countdown runs/text
"""

import json
import pathlib
import sys
from typing import Any

from lsd_jax.report.tables import markdown_table

STUDENT = "LSD+ student (ours)"
_TEXT = [
    ("sampler", "sampler", "{}"),
    ("nfe", "NFE", "{}"),
    ("bound_bits", "M-step bound, bits/char", "{:.3f}"),
    ("tv3", "3-gram TV", "{:.3f}"),
    ("entropy_bits", "entropy, bits", "{:.3f}"),
    ("gen_ppl", "gen-PPL, own scorer", "{:.2f}"),
]
_COUNTDOWN = [
    ("sampler", "sampler", "{}"),
    ("nfe", "NFE", "{}"),
    ("path_kl_nats", "path KL, nats/seq", "{:.2f}"),
    ("wrong_per_transition", "token error", "{:.4f}"),
    ("transition_tv", "bigram TV", "{:.4f}"),
    ("entropy_bits", "entropy, bits", "{:.3f}"),
]


def read(workdir: pathlib.Path) -> tuple[list[dict[str, Any]], str]:
    """The rows of a finished run's report and the name of its data."""
    rows = json.loads((workdir / "report" / "metrics.json").read_text())
    rows = [{name: tuple(v) if isinstance(v, list) else v for name, v in row.items()} for row in rows]
    return rows, json.loads((workdir / "config.json").read_text())["data"]["name"]


def value(rows: list[dict[str, Any]], sampler: str, nfe: int, metric: str) -> float:
    """The middle value of one metric of one row."""
    return next(row[metric][0] for row in rows if row["sampler"] == sampler and row["nfe"] == nfe)


def countdown_claims(rows: list[dict[str, Any]]) -> dict[str, bool]:
    """What `configs/countdown.py` must show."""
    data = value(rows, "data", 0, "wrong_per_transition")
    eight = value(rows, STUDENT, 8, "wrong_per_transition")
    return {
        "M=8 token error at most 1.3 times the data's": eight <= 1.3 * data,
        "M=8 below 256 Euler steps": eight < value(rows, "Euler", 256, "wrong_per_transition"),
        "8 Euler steps have over 20 times the data's": value(rows, "Euler", 8, "wrong_per_transition") > 20 * data,
        "M=16 path KL under 0.1 nat": value(rows, STUDENT, 16, "path_kl_nats") < 0.1,
    }


def text_claims(rows: list[dict[str, Any]]) -> dict[str, bool]:
    """What `configs/text.py` must show."""
    bound = lambda sampler, nfe: value(rows, sampler, nfe, "bound_bits")  # noqa: E731
    paired = lambda sampler, nfe: value(rows, sampler, nfe, "gap_nats")  # noqa: E731
    return {
        "M=4 within 3 nats of Euler at 16": paired(STUDENT, 4) < paired("Euler", 16) + 3,
        "M=8 bound within 1 % of the many-step bound": bound(STUDENT, 8) < 1.01 * bound("data", 0),
        "M=8 beats Euler at 32": paired(STUDENT, 8) < paired("Euler", 32),
        "M=16 is below the many-step bound": paired(STUDENT, 16) < 0,
    }


def main(folders: list[str]) -> int:
    """Prints tables and claims of every run; 1 if a claim fails."""
    failed = 0
    for folder in folders:
        rows, name = read(pathlib.Path(folder))
        columns, claims = (_TEXT, text_claims(rows)) if name == "text" else (_COUNTDOWN, countdown_claims(rows))
        print(markdown_table(rows, columns), "\n")
        for claim, holds in claims.items():
            print("holds" if holds else "FAILS", "-", claim)
            failed += not holds
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
