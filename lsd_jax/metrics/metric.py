"""What a table says of a metric: its name in records, its heading and its form. Every metric's file owns its columns."""

from typing import NamedTuple

Metrics = dict[str, tuple[float, float, float]]  # name -> (value, low, high)


class Column(NamedTuple):
    """One metric as tables and figures show it.

    Attributes:
        name: of the metric in records.
        heading: in a report, with its unit.
        form: of its numbers.
        short: its heading in a terminal; empty: `heading`.
        best: the value that no sampler can better: 0 of a divergence. None: the data's own value, or there is none.
        shown: whether tables show it; the others are recorded only.
    """

    name: str
    heading: str
    form: str = "{:.3f}"
    short: str = ""
    best: float | None = None
    shown: bool = True


# What a sampler says of given sequences. The weighted -log p compares samplers; the M-step ELBO, which averages -log p over paths
# instead of p, is an upper bound on it that is not equally tight for all.
LIKELIHOOD_COLUMNS = (
    Column("nll_bits", "−log p, weighted over K paths, bits per token", short="-log p"),
    Column("nll_quarter_bits", "−log p, K / 4 paths", short="K/4 paths"),
    Column("bound_bits", "M-step ELBO (a bound), bits per token", short="M-step ELBO"),
    Column(
        "gap_nats", "M-step ELBO above continuous-time ELBO, nats per sequence", "{:.2f}", "above ELBO", shown=False
    ),
    Column("path_kl_nats", "path KL to the teacher, nats per sequence", "{:.2f}", "path KL", 0.0),
)
