"""The commands ``run``, ``sweep`` and ``tutorial``: notebooks with parameters."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from alhelpers.cli.output import fail, say
from alhelpers.files import CLONE

_HOME = CLONE or Path()


def add_to(commands: Any) -> None:
    """Add the commands to a parser."""
    tutorial = commands.add_parser("tutorial", help="run every notebook in order")
    tutorial.add_argument("--notebooks", type=Path, default=_HOME / "notebooks")
    tutorial.add_argument("--output", type=Path, default=_HOME / "output" / "tutorial")
    tutorial.add_argument("--only", nargs="+", default=[], metavar="NN", help="run these notebooks alone")
    tutorial.add_argument(
        "--record",
        action="store_true",
        help="write values, pictures and times into the notebooks and the README",
    )
    run = commands.add_parser("run", help="run one notebook with parameters")
    run.add_argument("notebook", type=Path)
    run.add_argument("-o", "--output", type=Path, required=True, help="the executed copy, NAME.ipynb")
    sweep = commands.add_parser(
        "sweep",
        help="run one notebook with many settings",
        description="Run a notebook once for each setting, several at a time. A sweep that was stopped is"
        " continued by the same command.",
    )
    _add_sweep(sweep)
    for command in (run, sweep):
        command.add_argument("-k", "--kernel", metavar="NAME", help="in place of the notebook's own kernel")
        command.add_argument(
            "--cwd", type=Path, metavar="FOLDER", help="where to run (default: the notebook's)"
        )
    for command in (tutorial, run, sweep):
        command.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
        command.set_defaults(function=_run)


def _add_sweep(sweep: argparse.ArgumentParser) -> None:
    add = sweep.add_argument
    add("notebook", type=Path)
    add("-g", "--grid", action="append", default=[], metavar="NAME=VALUE,VALUE", help="values to combine")
    add("--settings", type=Path, metavar="FILE", help="a list of parameter sets as JSON, in place of a grid")
    add("-o", "--output", required=True, metavar="FOLDER", help="a folder, or a URL in object storage")
    add("--fresh", action="store_true", help="run all settings again")
    add("-w", "--workers", type=int, help="runs at a time (default: one for each core)")
    add("--seconds", type=float, help="kill a run that takes longer")
    add("--memory", metavar="SIZE", help="kill a run that uses more, such as 2GB")
    add("--threads", type=int, help="threads of one run (default: the cores divided among the runs)")


def _run(options: argparse.Namespace) -> int:
    """Run one notebook, a sweep or the whole tutorial."""
    # Imported here, so that --help does not wait for Jupyter.
    from alhelpers.runs import NotebookError, ParameterError, SweepError, cli_sweep, run
    from alhelpers.runs.notebooks import parameters_of
    from alhelpers.runs.parameters import given

    try:
        if options.command == "sweep":
            return cli_sweep.run(options)
        if options.command == "tutorial":
            return _tutorial(options)
        parameters = given(options.parameter, parameters_of(options.notebook))
        finished = run(options.notebook, parameters, options.output, cwd=options.cwd, kernel=options.kernel)
        for name, value in finished.recorded.items():
            print(f"{name} = {value}")
    except (NotebookError, ParameterError, SweepError) as error:
        return fail(error)
    return 0


def _tutorial(options: argparse.Namespace) -> int:
    """Run the notebooks; at their defaults, compare what they recorded with what is recorded, or record it."""
    from alhelpers.runs.parameters import ParameterError, given
    from alhelpers.runs.recording import record_runs
    from alhelpers.runs.tutorial import check_runs, known_parameters, run_tutorial

    show = partial(print, flush=True)
    parameters = given(options.parameter, known_parameters(options.notebooks, options.only))
    if parameters and options.record:
        text = ", ".join(options.parameter)
        raise ParameterError(
            f"--record takes no parameters, got {text}: the defaults are what the prose is about"
        )
    runs = run_tutorial(options.notebooks, options.output, parameters, only=options.only, say=show)
    if options.record:
        found = record_runs(options.notebooks, runs, show)
        for line in found:
            say(f"correct this: {line}")
        return int(bool(found))
    if not parameters:
        check_runs(options.notebooks, runs, show)
    return 0
