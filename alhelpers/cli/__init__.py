"""The command line ``alhelpers``: a file for each command, which imports what it needs when it runs."""

import argparse

from alhelpers import __version__
from alhelpers.cli import check, compare, label, mine, notebooks, page, pick
from alhelpers.cli.output import fail, stop_output

__all__ = ["main"]

#: The extra of the package that each command needs; "mine" needs it for strategies that cluster.
_EXTRAS = {
    "tutorial": "notebooks",
    "run": "notebooks",
    "sweep": "notebooks",
    "page": "platform",
    "check": "dataloop",
    "mine": "torch",
    "pick": "photos",
    "label": "notebooks",
    "compare": "torch",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        The command and its options; those of this process by default.

    Returns
    -------
    int
        The exit code: 0 done, 1 failed, 2 wrong usage, 3 nothing left to pick or label.
    """
    options = _parser().parse_args(arguments)
    try:
        code = options.function(options)
        print(end="", flush=True)  # also where the standard output is closed
        return code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "alhelpers":
            raise
        command, extra = options.command, _EXTRAS[options.command]
        return fail(
            f"alhelpers {command} needs {error.name}: install it with pip install 'alhelpers[{extra}]'"
        )
    except BrokenPipeError:  # what reads the output, such as head, has enough
        stop_output()
        return 1
    except OSError as error:
        return fail(error)
    except KeyboardInterrupt:
        return fail("interrupted")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="alhelpers", description="Active Learning Notebook Kit")
    parser.add_argument("--version", action="version", version=f"alhelpers {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (pick, label, compare, mine, check, page, notebooks):
        module.add_to(commands)
    return parser
