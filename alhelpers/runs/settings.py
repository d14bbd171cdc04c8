"""The settings of a sweep: from a grid or a list, checked, each named by a hash of what it runs."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alhelpers.runs.parameters import Parameter, ParameterError, check
from alhelpers.runs.runner import parameters_of, read_notebook

#: Of a hash in hexadecimal: two of a million runs have the same name with a probability below one in ten million.
_DIGITS = 16

Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Setting:
    """One run: the parameters as given, all of them with the defaults, and its name."""

    given: dict[str, Any]
    values: dict[str, Any]
    name: str


def settings_of(notebook: Path, grid: Grid) -> list[Setting]:
    """Return the settings of a grid of lists, or of a list of parameter sets.

    Raises ParameterError if there are none, one comes twice, or a parameter is unknown or of another type.
    """
    parameters = parameters_of(notebook)
    version = code_version(notebook)
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    settings: dict[str, Setting] = {}
    for given in _expanded(grid):
        check(parameters, given, where=notebook.name)
        values = defaults | given
        name = _hash([version, _comparable(parameters, values)])
        if name in settings:
            raise ParameterError(
                f"the settings {settings[name].given} and {given} of {notebook.name} are the same run: leave one out"
            )
        settings[name] = Setting(given, values, name)
    return list(settings.values())


def _expanded(grid: Grid) -> list[dict[str, Any]]:
    if not isinstance(grid, Mapping):
        settings = list(grid)
        wrong = [entry for entry in settings if not isinstance(entry, Mapping)]
        if wrong:
            raise ParameterError(f"a list of settings must hold a dict for each run, not {wrong[0]!r}")
        if not settings:
            raise ParameterError("the list of settings is empty: it must hold at least one")
        return [dict(entry) for entry in settings]
    for name, values in grid.items():
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Sequence):
            raise ParameterError(
                f"the grid must hold a list of values for {name!r}, not {values!r}: a single one is [{values!r}]"
            )
        if not values:
            raise ParameterError(
                f"the grid's list for {name!r} is empty: leave it out, or list at least one value"
            )
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _comparable(parameters: dict[str, Parameter], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values in one form for equal runs: a float may be given as an int."""
    floats = {name for name, parameter in parameters.items() if parameter.type_name == "float"}
    return {name: float(value) if name in floats else value for name, value in sorted(values.items())}


def code_version(notebook: Path) -> str:
    """Return a hash of the package's source and the notebook's cells without outputs."""
    digest = hashlib.sha256()
    folder = Path(__file__).resolve().parents[1]
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    cells = [
        (cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in read_notebook(notebook).cells
    ]
    return _hash([digest.hexdigest(), cells])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:_DIGITS]
