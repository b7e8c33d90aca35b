"""The command line's arguments: configs by name, earlier names of fields, and mistakes in one line each."""

import pathlib
import re
import sys

from absl import flags, logging

from lsd_jax.errors import InputError

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"

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


def located(arguments: list[str]) -> list[str]:
    """The arguments with `--config=NAME` or `--config=configs/NAME.py` of a shipped config as the path of its file.

    Raises:
        ValueError: no such file, and no shipped config of this name.
    """
    found = list(arguments)
    for index, argument in enumerate(arguments):
        if argument == "--config" and index + 1 < len(arguments):
            found[index + 1] = _file_of(arguments[index + 1])
        elif argument.startswith("--config="):
            found[index] = "--config=" + _file_of(argument.removeprefix("--config="))
    return found


def _file_of(given: str) -> str:
    path, colon, variant = given.partition(":")
    if pathlib.Path(path).is_file():
        return given
    name = path.removeprefix("configs/").removesuffix(".py")
    shipped = sorted(file.stem for file in CONFIGS.glob("*.py") if "def get_config" in file.read_text("utf-8"))
    if name not in shipped:
        raise InputError(f"--config={given}: no such file, and no config of this name ships: {', '.join(shipped)}")
    return f"{CONFIGS / name}.py{colon}{variant}"


def parse(arguments: list[str]) -> list[str]:
    """Parses the flags of the command line, as absl does; a mistake ends the program with one line that names the flag."""
    try:
        sys.argv = [arguments[0], *renamed(located(arguments[1:]))]  # ml_collections looks there for overrides
        return flags.FLAGS(sys.argv)
    except (flags.Error, AttributeError, InputError, KeyError, TypeError, OSError, SyntaxError) as error:
        raise SystemExit(f"error: {_reason(error, arguments)}") from None


def _reason(error: Exception, arguments: list[str]) -> str:
    """One line for what absl and ml_collections tell in many."""
    config = next((argument for argument in arguments if argument.startswith("--config=")), "--config")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, AttributeError | KeyError) and (field := re.search(r"'(\w+)\\?'", lines[0])):
        named = [argument for argument in arguments if re.match(rf"--config\.(.*\.)?{field[1]}\b", argument)]
        meant = re.search(r'Did you mean "(\w+)"', str(error))
        hint = f"; did you mean {meant[1]!r}?" if meant else ""
        return f"{(named or [config])[0].partition('=')[0]}: {config} has no field {field[1]!r}{hint}"
    if "get_config() takes 0 positional arguments" in lines[-1]:
        return f"{config}: this config has no variants; leave out what follows the colon"
    if "Traceback" in str(error):  # raised inside the config's own file
        return f"{config}: {lines[-1].removeprefix('ValueError: ')}"
    if "must have a value other than None" in lines[-1]:
        return "--config is missing: name a file or a shipped config, for example --config=text"
    return lines[0] if isinstance(error, flags.Error | InputError) else f"{config}: {type(error).__name__}: {lines[0]}"
