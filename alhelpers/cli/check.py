"""The command ``check``: configuration files and where they are wrong."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_to(commands: Any) -> None:
    """Add the command to a parser."""
    check = commands.add_parser("check", help="check configuration files, named as in pipeline_configs")
    kinds = "what the files are, whatever their names; a wrong one lists the kinds"
    check.add_argument("--kind", metavar="KIND", help=kinds)
    check.add_argument("files", type=Path, nargs="+", metavar="FILE")
    check.set_defaults(function=_check)


def _check(options: argparse.Namespace) -> int:
    """Print the kind of each configuration file, or where it is wrong."""
    from alhelpers.dataloop.schemas import check_file

    failed = False
    for path in options.files:
        try:
            print(f"{path}: {check_file(path, options.kind)}")
        except (ValueError, OSError) as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    return int(failed)
