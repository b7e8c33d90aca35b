"""The package's bounds and the pinned versions are of one mind."""

import pathlib
import tomllib

from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = (ROOT / "requirements.txt").read_text().splitlines()
PINNED = [Requirement(line) for line in LINES if line and not line.startswith("#")]


def test_every_dependency_is_pinned_within_its_bounds():
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(line) for line in (*PROJECT["dependencies"], *extras["images"], *extras["dev"])]
    versions = {pin.name: next(iter(pin.specifier)).version for pin in PINNED}
    for requirement in wanted:
        if requirement.name != PROJECT["name"]:
            assert requirement.specifier.contains(versions[requirement.name]), requirement


def test_every_pin_is_exact():
    assert all([clause.operator for clause in pin.specifier] == ["=="] for pin in PINNED)
