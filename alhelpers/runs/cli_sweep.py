"""The command ``alhelpers sweep``."""

import argparse
import ast
import json
import sys
from pathlib import Path
from typing import Any

from alhelpers.runs.errors import NotebookError, SweepError
from alhelpers.runs.parameters import ParameterError, given, given_text, literal
from alhelpers.runs.sweeps import sweep

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}


def run(options: argparse.Namespace) -> int:
    """Run a sweep; return its exit code: 0 if all runs are done, else 1."""
    try:
        table = sweep(
            options.notebook,
            _grid(options.parameter, options.grid, options.settings),
            options.output,
            options.workers,
            seconds=options.seconds,
            memory=None if options.memory is None else _bytes(options.memory),
            threads=options.threads,
        )
    except (NotebookError, ParameterError, SweepError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to continue", file=sys.stderr)
        return 1
    failed = int((table["run.state"] == "failed").sum())
    print(f"{len(table) - failed} runs done, {failed} failed; table: {options.output / 'results.csv'}")
    return 1 if failed else 0


def _grid(values: list[str], grid: list[str], settings: Path | None) -> Any:
    """Return the settings of the options: a grid, or a list of parameter sets."""
    fixed = dict(map(given, values))
    lists = {name: _values(text) for name, text in map(given_text, grid)}
    twice = fixed.keys() & lists.keys()
    if len(fixed) < len(values) or len(lists) < len(grid) or twice:
        raise ParameterError(f"a parameter is given twice, in {', '.join([*values, *grid])}")
    if settings is None:
        return {name: [value] for name, value in fixed.items()} | lists
    if lists:
        raise ParameterError("pass a grid or a file of settings, not both")
    try:
        entries = json.loads(settings.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ParameterError(f"{settings} is not valid JSON: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ParameterError(
            f"{settings} must hold a list of parameter sets, such as [{{'seed': 0}}, {{'seed': 1}}]"
        )
    return [fixed | entry for entry in entries]


def _values(text: str) -> list[Any]:
    """Parse values separated by commas."""
    try:
        return ast.literal_eval(f"[{text}]")
    except (ValueError, SyntaxError):
        return [literal(part.strip()) for part in text.split(",")]


def _bytes(text: str) -> int:
    """Parse a size such as 2GB or 500MiB."""
    number = text.upper().strip().rstrip("KMGIB")
    unit = text.upper().strip()[len(number) :].strip() or "B"
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError) as error:
        raise ParameterError(f"memory is {text!r}: it must be a size such as 2GB or 500MiB") from error
