"""The settings of a sweep: from a grid or a list, checked, each with a name that says what it would run."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alhelpers.runs.parameters import Parameter, ParameterError, check
from alhelpers.runs.processes import package_folder
from alhelpers.runs.runner import parameters_of, read_notebook

#: How many digits of a hash name a run: a million runs have the same with a probability of one in a million.
_DIGITS = 16

Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Setting:
    """One run to be: the parameters as given, all of them with the defaults, and its name."""

    given: dict[str, Any]
    values: dict[str, Any]
    name: str


def settings_of(notebook: Path, grid: Grid) -> list[Setting]:
    """Return the settings of a sweep.

    Parameters
    ----------
    notebook : Path
    grid : dict of lists, or list of dicts
        Every combination of the listed values, or the parameter sets themselves.

    Raises
    ------
    ParameterError
        If there is no setting, one comes twice, or one has a parameter that is unknown or of another type.
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
            raise ParameterError(f"a list of settings holds a dict for each run, not {wrong[0]!r}")
        if not settings:
            raise ParameterError("there is no setting to run: the list is empty")
        return [dict(entry) for entry in settings]
    for name, values in grid.items():
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Sequence):
            raise ParameterError(
                f"the grid needs a list of values for {name!r}, not {values!r}: a single one is [{values!r}]"
            )
        if not values:
            raise ParameterError(f"the grid has no value for {name!r}: leave it out, or list at least one")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _comparable(parameters: dict[str, Parameter], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values so that those of the same run are the same: a notebook's float may be given as an int."""
    floats = {name for name, parameter in parameters.items() if parameter.type_name == "float"}
    return {name: float(value) if name in floats else value for name, value in sorted(values.items())}


def code_version(notebook: Path) -> str:
    """Return a hash of what a run executes: the package's source, and the notebook's cells without outputs."""
    digest = hashlib.sha256()
    folder = package_folder()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    cells = [
        (cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in read_notebook(notebook).cells
    ]
    return _hash([digest.hexdigest(), cells])


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:_DIGITS]
