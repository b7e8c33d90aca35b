"""The metrics of MOSES (Polykovskiy et al. 2020), as its code computes them, of SMILES strings.

`valid` is the share of strings that RDKit reads; `unique` is of the first 10,000 valid ones, `novelty` of the distinct valid
ones, all else of all valid ones, copies included. A reference's name adds a suffix: none for "test", `_sf` for "scaffolds".
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from lsd_jax.errors import InputError
from lsd_jax.metrics import fid
from lsd_jax.metrics.bootstrap import mean_interval, resample_weights, shifted_interval
from lsd_jax.metrics.metric import Column, Metrics
from lsd_jax.metrics.molecules import chemistry, pieces, similarity
from lsd_jax.metrics.molecules import fcd as chemnet
from lsd_jax.metrics.molecules.facts import Facts, describe
from lsd_jax.metrics.molecules.properties import NAMES
from lsd_jax.metrics.molecules.reference import Reference
from lsd_jax.metrics.wasserstein import wasserstein

_SUFFIXES = {"test": "", "scaffolds": "_sf"}
_MOST_RESAMPLES = 200  # of what is no mean

_SAMPLES = (
    Column("valid", "valid, share", best=1.0),
    Column("unique", "distinct among the first 10,000 valid, share", short="unique", best=1.0),
    Column("unique_1k", "distinct among the first 1,000 valid, share", short="unique@1k", best=1.0, shown=False),
    Column("novelty", "not in the training set, share of the distinct", short="novelty"),
)
_FCD = Column("fcd", "Frechet ChemNet distance", short="FCD", best=0.0)
_AGAINST = (
    Column("snn", "similarity to the nearest reference molecule (SNN)", short="SNN"),
    Column("frag", "fragments, cosine", short="Frag", best=1.0),
    Column("scaf", "scaffolds, cosine", short="Scaf"),
)
_DIVERSITY = (
    Column("intdiv1", "internal diversity", short="IntDiv"),
    Column("intdiv2", "internal diversity, p = 2", short="IntDiv2", shown=False),
)
_FILTERS = Column("filters", "pass MOSES' filters, share", short="filters")
_DISTANCES = (
    Column("logp_w1", "logP, Wasserstein-1", short="logP W1", best=0.0),
    Column("sa_w1", "synthetic accessibility, Wasserstein-1", short="SA W1", best=0.0),
    Column("qed_w1", "QED, Wasserstein-1", "{:.4f}", "QED W1", 0.0),
    Column("weight_w1", "weight, Wasserstein-1, Da", "{:.2f}", "weight W1", 0.0),
)


def columns(fcd: bool, filters: bool, scaffolds: bool) -> tuple[Column, ...]:
    """The columns of what `measure` gives, with or without ChemNet, the filters, and a reference of unseen scaffolds."""
    against = (*([_FCD] if fcd else []), *_AGAINST)
    unseen = [
        column._replace(
            name=f"{column.name}_sf", heading=f"{column.heading}, unseen scaffolds", short=f"{column.short}/SF"
        )
        for column in against
    ]
    return (
        *_SAMPLES,
        *against,
        *(unseen if scaffolds else ()),
        *_DIVERSITY,
        *([_FILTERS] if filters else []),
        *_DISTANCES,
    )


def measure(
    smiles: Sequence[str],
    references: Mapping[str, Reference],
    training: Collection[str],
    *,
    fcd: bool,
    filters: bool,
    seed: int,
    resamples: int,
) -> Metrics:
    """name -> (value, low, high) of sampled strings, with 95 % bootstrap intervals over samples.

    A metric that the valid molecules do not define is left out: FCD of fewer than two, scaffolds where none has two rings,
    all but `valid` where none is valid.

    Args:
        smiles: sampled strings, invalid ones included.
        references: "test", and "scaffolds" where there is such a split.
        training: canonical SMILES of the training set; best a set.
        fcd: whether to compute it; the references hold ChemNet's statistics then.
        filters: whether to apply MOSES' filters.
        seed: of the resamples, which are the same ones for all metrics of the valid molecules.
        resamples: of every interval; FCD takes 20 of them, what else is no mean 200. 0: low = high = value.

    Raises:
        FileNotFoundError, ValueError: RDKit, ChemNet or the filters' patterns are not installed, or a reference without ChemNet's
            statistics; one line.
    """
    if fcd and (lacking := [name for name, reference in references.items() if reference.chemnet is None]):
        raise InputError(f"fcd=True: the reference {lacking[0]!r} was made without it; make it with fcd=True")
    valid, found = of_strings(smiles, training, seed, resamples)
    facts = _facts(valid, filters) if valid else None
    if facts is None or not facts.smiles:
        return found
    if filters:
        found["filters"] = mean_interval(facts.passes, seed, resamples)
    weights_RN = _weights(len(facts.smiles), seed, resamples)
    diversity = similarity.internal_diversity(facts.fingerprints, weights_RN)
    found |= {f"intdiv{p}": _interval(values, most=1.0) for p, values in zip((1, 2), diversity)}
    for name, reference in references.items():
        found |= _against(reference, _SUFFIXES[name], facts, weights_RN, seed, resamples)
    found |= _distances(references["test"], facts, weights_RN)
    if fcd and len(facts.smiles) >= chemnet.LEAST:
        found |= chemnet.distances(chemnet.features(facts.smiles), gaussians(references), seed, resamples)
    return found


def gaussians(references: Mapping[str, Reference]) -> dict[str, fid.Gaussian | None]:
    """The metric that is a distance from each reference -> ChemNet's statistics of it."""
    return {f"fcd{_SUFFIXES[name]}": reference.chemnet for name, reference in references.items()}


def of_strings(
    smiles: Sequence[str], training: Collection[str], seed: int, resamples: int
) -> tuple[list[str], Metrics]:
    """The canonical valid strings, and what they alone tell: `valid`, `unique`, `unique_1k`, `novelty`, with intervals."""
    written = chemistry.canonical(smiles)
    valid = [text for text in written if text is not None]
    found = {"valid": mean_interval([text is not None for text in written], seed, resamples)}
    if valid:
        found["unique"] = mean_interval(chemistry.unique(valid, 10_000), seed, resamples)
        found["unique_1k"] = mean_interval(chemistry.unique(valid, 1_000), seed, resamples)
        found["novelty"] = mean_interval(chemistry.novel(valid, training), seed, resamples)
    return valid, found


def _facts(valid: Sequence[str], filters: bool) -> Facts:
    """The facts of canonical strings, copies included, each worked out once."""
    distinct = describe(list(dict.fromkeys(valid)), filters)
    place = {text: row for row, text in enumerate(distinct.smiles)}
    return distinct.take([place[text] for text in valid if text in place])


def _against(
    reference: Reference, suffix: str, facts: Facts, weights_RN: np.ndarray, seed: int, resamples: int
) -> Metrics:
    nearest_N = similarity.nearest(facts.fingerprints, reference.fingerprints)
    found = {f"snn{suffix}": mean_interval(nearest_N, seed, resamples)}
    frag = pieces.cosines(facts.fragments, reference.fragments, weights_RN)
    scaf = pieces.cosines(facts.scaffolds, reference.scaffolds, weights_RN)
    drawn = {f"frag{suffix}": frag, f"scaf{suffix}": scaf}
    return found | {name: _interval(values, most=1.0) for name, values in drawn.items() if values is not None}


def _distances(reference: Reference, facts: Facts, weights_RN: np.ndarray) -> Metrics:
    columns = zip(NAMES, facts.properties.T, reference.properties.T)
    return {f"{name}_w1": _interval(wasserstein(values, wanted, weights_RN)) for name, values, wanted in columns}


def _weights(count: int, seed: int, resamples: int) -> np.ndarray:
    """Ones, and how often every molecule is drawn in every resample, (resamples + 1, count)."""
    return np.concatenate([np.ones((1, count)), resample_weights(count, seed, min(resamples, _MOST_RESAMPLES))])


def _interval(values_R: np.ndarray, most: float = np.inf) -> tuple[float, float, float]:
    """Of what is never below zero: cosines, diversities, distances."""
    return shifted_interval(float(values_R[0]), values_R[1:], least=0.0, most=most)
