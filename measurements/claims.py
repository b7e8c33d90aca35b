"""Checks what the README claims against finished runs, and prints their tables.

python -m lsd_jax.main --config=configs/countdown.py && python -m lsd_jax.main --config=configs/text.py
python -m measurements.claims runs/countdown runs/text
"""

import pathlib
import sys
from collections.abc import Sequence

from lsd_jax.experiment.records import DATA, Row, flatten, read_json

STUDENT = "path-KL student"


def read(workdir: pathlib.Path) -> tuple[list[Row], str]:
    """The rows of a finished run's report and the name of its data.

    Raises:
        FileNotFoundError: the run has no report.
    """
    rows = [flatten(row) for row in read_json(workdir / "report" / "metrics.json")]
    return rows, read_json(workdir / "config.json")["config"]["data"]["name"]


def value(rows: Sequence[Row], sampler: str, budget: int, metric: str) -> float:
    """The middle value of one metric of one row."""
    return next(row[metric][0] for row in rows if row["sampler"] == sampler and row["budget"] == budget)


def countdown_claims(rows: Sequence[Row]) -> dict[str, bool]:
    """What `configs/countdown.py` must show."""
    data = value(rows, DATA, 0, "wrong_per_transition")
    eight = value(rows, STUDENT, 8, "wrong_per_transition")
    return {
        "M=8 token error at most 1.3 times the data's": eight <= 1.3 * data,
        "M=8 below 256 Euler steps": eight < value(rows, "Euler", 256, "wrong_per_transition"),
        "8 Euler steps have over 20 times the data's": value(rows, "Euler", 8, "wrong_per_transition") > 20 * data,
        "M=16 path KL under 0.1 nat": value(rows, STUDENT, 16, "path_kl_nats") < 0.1,
    }


def text_claims(rows: Sequence[Row]) -> dict[str, bool]:
    """What `configs/text.py` must show."""

    def above(sampler: str, budget: int) -> float:
        return value(rows, sampler, budget, "gap_nats")

    limit = value(rows, DATA, 0, "bound_bits")
    return {
        "M=4 within 3 nats of Euler at 16": above(STUDENT, 4) < above("Euler", 16) + 3,
        "M=8 M-step ELBO within 1 % of the continuous-time ELBO": value(rows, STUDENT, 8, "bound_bits") < 1.01 * limit,
        "M=8 beats Euler at 32": above(STUDENT, 8) < above("Euler", 32),
        "M=16 is below the continuous-time ELBO": above(STUDENT, 16) < 0,
    }


CLAIMS = {"countdown": countdown_claims, "text": text_claims}


def main(folders: list[str]) -> int:
    """Prints tables and claims of every run; 1 if a claim fails."""
    failed = 0
    for folder in map(pathlib.Path, folders):
        rows, name = read(folder)
        print((folder / "report" / "tables.md").read_text(encoding="utf-8"))
        for claim, holds in CLAIMS[name](rows).items():
            print("holds" if holds else "FAILS", "-", claim)
            failed += not holds
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
