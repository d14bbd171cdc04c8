"""The settings of a sweep: from a grid or a list, checked, each named by a hash of what it runs."""

import itertools
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alhelpers.runs.parameters import Parameter, ParameterError, check
from alhelpers.runs.sources import digest_of, file_digests

#: Of a hash in hexadecimal: two of a million runs have the same name with a probability below one in ten million.
_DIGITS = 16

Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Setting:
    """One run: the parameters as given, all of them with the defaults, its name, and digests of what it reads."""

    given: dict[str, Any]
    values: dict[str, Any]
    name: str
    sources: dict[str, str] = field(repr=False)


def settings_of(
    grid: Grid,
    parameters: Mapping[str, Parameter],
    code: dict[str, str],
    folder: Path,
    written: AbstractSet[str] = frozenset(),
    *,
    where: str,
) -> list[Setting]:
    """Return the settings of a grid of lists, or of a list of parameter sets.

    ``code`` has digests of the notebook, its modules and files; to them come those of the files in ``folder`` that a
    setting names, but for those that the runs themselves have ``written``. Raises ParameterError if there are no
    settings, one comes twice, or a parameter is unknown or of another type.
    """
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    settings: dict[str, Setting] = {}
    for given in _expanded(grid):
        check(parameters, given, where=where)
        values = defaults | given
        files = file_digests(values, folder)
        sources = {text: files[text] for text in files.keys() - written} | code
        name = digest_of([sources, _comparable(parameters, values)])[:_DIGITS]
        if name in settings:
            raise ParameterError(
                f"the settings {settings[name].given} and {given} of {where} are the same run: leave one out"
            )
        settings[name] = Setting(given, values, name, sources)
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


def _comparable(parameters: Mapping[str, Parameter], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values in one form for equal runs: a float may be given as an int."""
    floats = {name for name, parameter in parameters.items() if parameter.type_name == "float"}
    return {
        name: float(value) if name in floats and isinstance(value, int) and abs(value) < 2**53 else value
        for name, value in values.items()
    }
