"""The command ``alhelpers sweep``."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from alhelpers.runs.notebooks import parameters_of
from alhelpers.runs.parameters import Parameter, ParameterError, given, given_lists
from alhelpers.runs.sweeps import sweep
from alhelpers.storage import shown

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "B": 1}


def run(options: argparse.Namespace) -> int:
    """Run a sweep; return its exit code: 0 if all runs are done, else 1."""
    try:
        table = sweep(
            options.notebook,
            _grid(options, parameters_of(options.notebook)),
            options.output,
            options.workers,
            cwd=options.cwd,
            kernel=options.kernel,
            fresh=options.fresh,
            seconds=options.seconds,
            memory=None if options.memory is None else _bytes(options.memory),
            threads=options.threads,
        )
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to continue", file=sys.stderr)
        return 1
    failed = int((table["run.state"] == "failed").sum())
    print(
        f"{len(table) - failed} runs done, {failed} failed; table: {shown(str(options.output))}/results.csv"
    )
    return 1 if failed else 0


def _grid(options: argparse.Namespace, parameters: Mapping[str, Parameter]) -> Any:
    """Return the settings of the options: a grid, or a list of parameter sets."""
    fixed, lists = given(options.parameter, parameters), given_lists(options.grid, parameters)
    if twice := fixed.keys() & lists.keys():
        raise ParameterError(f"a parameter is given twice: {', '.join(sorted(twice))}")
    if options.settings is None:
        return {name: [value] for name, value in fixed.items()} | lists
    if lists:
        raise ParameterError("pass a grid or a file of settings, not both")
    try:
        entries = json.loads(options.settings.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ParameterError(f"{options.settings} is not valid JSON: {error}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ParameterError(
            f"{options.settings} must hold a list of parameter sets, such as [{{'seed': 0}}, {{'seed': 1}}]"
        )
    return [fixed | entry for entry in entries]


def _bytes(text: str) -> int:
    """Parse a size such as 2GB or 500MiB."""
    number = text.upper().strip().rstrip("KMGIB")
    unit = text.upper().strip()[len(number) :].strip() or "B"
    try:
        return int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError) as error:
        raise ParameterError(f"memory is {text!r}: it must be a size such as 2GB or 500MiB") from error
