"""The ranges of a config's numbers: one table, read before anything else is done with a config."""

import math
from typing import Any

import ml_collections

from lsd_jax.errors import InputError

_ANY = math.inf
# Field -> the least and the largest value.
_RANGES = {
    "seed": (0, 2**31 - 1),
    "seeds": (0, 2**31 - 1),
    "cpu_devices": (0, 1024),
    "parameter_shards": (1, _ANY),
    "nfe": (1, _ANY),
    "data.sequence_length": (1, _ANY),
    "data.vocab_size": (2, _ANY),
    "data.shape": (1, _ANY),
    "data.mix": (0, 1),
    "model.dim": (1, _ANY),
    "model.depth": (1, _ANY),
    "model.heads": (1, _ANY),
    "model.mlp_ratio": (1, _ANY),
    "training.steps": (1, _ANY),
    "training.batch_size": (1, _ANY),
    "training.microbatch": (0, _ANY),
    "training.warmup_steps": (0, _ANY),
    "training.decay_share": (0, 1),
    "training.weight_decay": (0, _ANY),
    "training.ema_decay": (0, 1),
    "training.checkpoint_every": (1, _ANY),
    "training.validate_every": (1, _ANY),
    "training.validation_sequences": (1, _ANY),
    "training.given_labels": (0, 1),
    "teacher.steps": (1, _ANY),
    "teacher.paths": (1, _ANY),
    "student.steps": (1, _ANY),
    "student.temperature": (0, _ANY),
    "student.threshold": (0, _ANY),
    "student.grid_points": (2, _ANY),
    "student.draws": (1, _ANY),
    "student.order_trials": (0, _ANY),
    "student.potentials": (0, _ANY),
    "student.coupling.pattern": (0, _ANY),
    "student.coupling.shape": (1, _ANY),
    "distill.steps": (0, _ANY),
    "distill.batch_size": (1, _ANY),
    "distill.draws": (1, _ANY),
    "distill.checkpoint_every": (1, _ANY),
    "distill.reverse_share": (0, 1),
    "distill.alignment.radius": (0, 1),
    "evaluation.num_samples": (1, _ANY),
    "evaluation.batch_size": (1, _ANY),
    "evaluation.held_out": (0, _ANY),
    "evaluation.weighted": (0, _ANY),
    "evaluation.paths": (1, _ANY),
    "evaluation.reference_steps": (0, _ANY),
    "evaluation.temperatures": (0, _ANY),
    "evaluation.resamples": (0, _ANY),
    "evaluation.references": (0, _ANY),
    "evaluation.floor_draws": (0, _ANY),
    "verify.perplexity": (0, _ANY),
    "verify.tolerance": (0, _ANY),
    "verify.sequences": (1, _ANY),
    "report.frontier_steps": (1, _ANY),
}
_ABOVE_ZERO = ("training.learning_rate", "distill.learning_rate", "process.rate_sigma", "process.q_sigma")
_REAL = ("evaluation.temperatures",)  # lists of real numbers; all other lists above hold whole numbers
_FRACTIONS = {
    "data.mix",
    "student.temperature",
    "student.threshold",
    "distill.reverse_share",
    "distill.alignment.radius",
    "verify.perplexity",
}
_FRACTIONS |= {
    "verify.tolerance",
    *(f"training.{name}" for name in ("decay_share", "weight_decay", "ema_decay", "given_labels")),
}
_WHOLE = _RANGES.keys() - _FRACTIONS
_MOST_TOKENS = 2**31  # of teacher paths: they are kept in memory at two times at once


def check_values(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError where a number of the config is outside its range, or an entry of a study is none; one line."""
    for field, (least, most) in _RANGES.items():
        value = _value(config, field)
        several = isinstance(value, tuple | list)
        if not several and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"config.{field}={value!r}: must be a number")
        if not several and isinstance(value, float) and field in _WHOLE:
            raise InputError(f"config.{field}={value!r}: must be a whole number")
        if several and field == "student.coupling.pattern":  # one row of ranks, or several
            value = [rank for row in value for rank in (row if isinstance(row, tuple | list) else (row,))]
        for number in value if several else (value,):
            whole = isinstance(number, int) and not isinstance(number, bool)
            if several and not (whole or (isinstance(number, float) and field in _REAL)):
                raise InputError(f"config.{field}={value!r}: {number!r} is not a number")
            if not (math.isfinite(number) and least <= number <= most):
                allowed = f"{least} or more" if most == _ANY else f"from {least} to {most}"
                raise InputError(f"config.{field}={value!r}: must be {allowed}")
    for field in _ABOVE_ZERO:
        if not 0 < (value := _value(config, field)) < _ANY:
            raise InputError(f"config.{field}={value!r}: must be above 0")
    if config.teacher.paths * config.data.sequence_length > _MOST_TOKENS:
        raise InputError(
            f"config.teacher.paths={config.teacher.paths}: with sequence_length={config.data.sequence_length} more than "
            f"{_MOST_TOKENS} tokens, which do not fit in memory"
        )
    for field in ("tasks", "samplers"):
        for entry in config[field]:
            if not _is_entry(entry):
                raise InputError(f"config.{field}: {entry!r} is no entry; write variant(NAME, section__field=VALUE)")
    try:
        config.stream.format(name="", slug="", steps=1, seed=0)
    except (KeyError, IndexError, ValueError):
        raise InputError(
            f"config.stream={config.stream!r}: may hold {{name}}, {{slug}}, {{steps}} and {{seed}} only"
        ) from None


def _value(config: ml_collections.ConfigDict, field: str) -> Any:
    for name in field.split("."):
        config = config[name]
    return config


def _is_entry(entry: Any) -> bool:
    """Whether it is (name, (field, value) pairs, random stream)."""
    if not isinstance(entry, tuple | list) or len(entry) != 3 or not isinstance(entry[0], str):
        return False
    return all(isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str) for pair in entry[1])
