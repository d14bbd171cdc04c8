"""The command ``alhelpers``: a thin shell over the rooms."""

import argparse
import ast
import signal
import sys
import threading
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 failed, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="alhelpers", description="Active Learning Notebook Kit")
    commands = parser.add_subparsers(dest="command", required=True)
    tutorial = commands.add_parser("tutorial", help="run every notebook in order and write one HTML report")
    tutorial.add_argument("--notebooks", type=Path, default=ROOT / "notebooks")
    tutorial.add_argument("--output", type=Path, default=ROOT / "output" / "tutorial")
    run = commands.add_parser("run", help="run one notebook with parameters")
    run.add_argument("notebook", type=Path)
    for command in (tutorial, run):
        command.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("-o", "--output", type=Path, required=True)
    page = commands.add_parser("page", help="print the link to the offline platform's page")
    page.add_argument("--state-dir", type=Path, help="the platform's folder (default: that of the notebooks)")
    check = commands.add_parser("check", help="check configuration files, named as in pipeline_configs")
    check.add_argument("files", type=Path, nargs="+", metavar="FILE")
    commands.add_parser("sweep", help="run one notebook with many settings (alhelpers sweep --help)")
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["sweep"]:  # it has a parser of its own
        from alhelpers.experiments import cli_sweep

        return cli_sweep.main(arguments[1:])
    options = parser.parse_args(arguments)
    if options.command == "page":
        return _page(options.state_dir)
    if options.command == "check":
        return _check(options.files)
    # Imported here, so that --help does not wait for Jupyter.
    from alhelpers.experiments import NotebookError, ParameterError
    from alhelpers.experiments import run as run_notebook
    from alhelpers.experiments.tutorial import run_tutorial

    try:
        parameters = _parameters(options.parameter)
        if options.command == "tutorial":
            say = partial(print, flush=True)
            run_tutorial(options.notebooks, options.output, parameters, say=say)
        else:
            finished = run_notebook(options.notebook, parameters, options.output)
            for name, value in finished.recorded.items():
                print(f"{name} = {value}")
    except (NotebookError, ParameterError, FileNotFoundError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _check(files: list[Path]) -> int:
    """Say of each configuration file what it is, or where it is wrong."""
    from alhelpers.nodes.schemas import check_file

    failed = False
    for path in files:
        try:
            print(f"{path}: {check_file(path)}")
        except (ValueError, OSError) as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    return int(failed)


def _page(state_dir: Path | None) -> int:
    """Print the link to the page of a state folder; serve the folder until Ctrl-C where nothing serves it yet."""
    from alhelpers import platform

    folder = state_dir or _platform_folder()
    found = platform.running(folder)
    if found is not None:
        print(found.page)
        return 0
    stop = threading.Event()
    # Said outright: a process that a shell has put into the background would not hear Ctrl-C otherwise.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with platform.start(folder) as own:
            print(f"{own.page}\n(Ctrl-C stops it)", flush=True)
            stop.wait()
    except (platform.StateFolderBusy, platform.StateUnusable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _platform_folder() -> Path:
    from alhelpers import datasets

    return datasets.cache_folder() / "platform"


def _parameters(pairs: list[str]) -> dict[str, object]:
    """Read ``name=value`` pairs; a value that is no Python literal is a string."""
    values: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            from alhelpers.experiments import ParameterError

            raise ParameterError(f"{pair!r} is not NAME=VALUE")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values


if __name__ == "__main__":
    sys.exit(main())
