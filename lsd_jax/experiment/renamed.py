"""Earlier names of config fields and values on the command line: they keep being read."""

from absl import logging

# Earlier field or (field, value) -> today's.
_FIELDS = {
    "student.neighbours": "student.potentials",
    "distill.precision": "distill.reverse_share",
    "model.parameterization": "model.output",
}
_VALUES = {
    ("distill.objective", "dial"): "kl_mix",
    ("student.grid", "greedy"): "halving",
    ("evaluation.bootstrap", "True"): ("evaluation.resamples", "200"),
    ("evaluation.bootstrap", "False"): ("evaluation.resamples", "0"),
}


def renamed(arguments: list[str]) -> list[str]:
    """The arguments with `--config.FIELD=VALUE` of earlier versions in today's names; a line in the log tells."""
    return [_renamed(argument) if argument.startswith("--config.") else argument for argument in arguments]


def _renamed(argument: str) -> str:
    field, equals, value = argument.removeprefix("--config.").partition("=")
    new = _VALUES.get((field, value), value)
    name, new = new if isinstance(new, tuple) else (_FIELDS.get(field, field), new)
    found = f"--config.{name}{equals}{new}"
    if found != argument:
        logging.warning("%s is now called %s", argument, found)
    return found
