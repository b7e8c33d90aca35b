"""Checks what the pages of results claim against finished runs, and prints their tables.

python -m lsd_jax.main --config=configs/text.py && python -m lsd_jax.main --config=configs/characters.py
python -m measurements.claims runs/text runs/characters
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
        "M=16 and 32 path KL at most 0.01 nats": max(value(rows, STUDENT, m, "path_kl_nats") for m in (16, 32)) <= 0.01,
    }


def subword_claims(rows: Sequence[Row]) -> dict[str, bool]:
    """What `configs/text.py` must show."""
    bits = lambda sampler, budget: value(rows, sampler, budget, "nll_bits")
    return {
        "M=4 beats Euler at 8": bits(STUDENT, 4) < bits("Euler", 8),
        "M=8 beats Euler at 16": bits(STUDENT, 8) < bits("Euler", 16),
        "M=8 beats the golden order at 8": bits(STUDENT, 8) < bits("golden order, cosine grid", 8),
        "M=16 is better than M=8": bits(STUDENT, 16) < bits(STUDENT, 8),
    }


def text_claims(rows: Sequence[Row]) -> dict[str, bool]:
    """What `configs/characters.py` must show."""

    def bits(sampler: str, budget: int) -> float:
        return value(rows, sampler, budget, "nll_bits")

    return {
        "M=4 beats Euler at 8": bits(STUDENT, 4) < bits("Euler", 8),
        "M=4 does not beat Euler at 16": bits(STUDENT, 4) > bits("Euler", 16),
        "M=8 beats Euler at 32": bits(STUDENT, 8) < bits("Euler", 32),
        "M=16 is better than M=8": bits(STUDENT, 16) < bits(STUDENT, 8),
    }


CLAIMS = {"countdown": countdown_claims, "text": text_claims, "subwords": subword_claims}


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
