"""The command line of a sweep: ``alhelpers sweep NOTEBOOK -g NAME=VALUE,VALUE -o FOLDER``."""

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


def main(arguments: list[str]) -> int:
    """Run a sweep; return its exit code: 0 all runs are done, 1 one or more failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        grid = _grid(options.values, options.grid, options.settings)
        table = sweep(
            options.notebook,
            grid,
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alhelpers sweep",
        description="Run a notebook once for each setting, several at a time. A sweep that was stopped is"
        " continued by the same command.",
    )
    parser.add_argument("notebook", type=Path)
    parser.add_argument(
        "-g", "--grid", action="append", default=[], metavar="NAME=VALUE,VALUE", help="values to combine"
    )
    parser.add_argument(
        "-p",
        "--parameter",
        dest="values",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value for all runs",
    )
    parser.add_argument(
        "--settings", type=Path, metavar="FILE", help="a list of parameter sets as JSON, in place of a grid"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("-w", "--workers", type=int, help="runs at a time (default: one for each core)")
    parser.add_argument("--seconds", type=float, help="kill a run that takes longer")
    parser.add_argument("--memory", metavar="SIZE", help="kill a run that uses more, such as 2GB")
    parser.add_argument(
        "--threads", type=int, help="threads of one run (default: the cores divided among the runs)"
    )
    return parser


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
