"""The command line ``alhelpers``."""

import argparse
import json
import math
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alhelpers import __version__
from alhelpers.files import CLONE, platform_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from alhelpers.mining import MinerConfig, Selection

_HOME = CLONE or Path()

#: The extra of the package that each command needs; "mine" needs it for strategies that cluster.
_EXTRAS = {
    "tutorial": "notebooks",
    "run": "notebooks",
    "sweep": "notebooks",
    "page": "platform",
    "check": "dataloop",
    "mine": "torch",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 failed, 2 wrong usage, 3 nothing left to pick."""
    options = _parser().parse_args(arguments)
    try:
        code = options.function(options)
        print(end="", flush=True)  # also where the standard output is closed
        return code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "alhelpers":
            raise
        command, extra = options.command, _EXTRAS[options.command]
        return _fail(
            f"alhelpers {command} needs {error.name}: install it with pip install 'alhelpers[{extra}]'"
        )
    except BrokenPipeError:  # what reads the output, such as head, has enough
        _stop_output()
        return 1
    except OSError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _fail("interrupted")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="alhelpers", description="Active Learning Notebook Kit")
    parser.add_argument("--version", action="version", version=f"alhelpers {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
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
    page = commands.add_parser("page", help="print the link to the offline platform's page")
    page.add_argument("--state-dir", type=Path, help="the platform's folder (default: that of the notebooks)")
    page.set_defaults(function=_page)
    check = commands.add_parser("check", help="check configuration files, named as in pipeline_configs")
    check.add_argument("files", type=Path, nargs="+", metavar="FILE")
    check.set_defaults(function=_check)
    _add_mine(commands)
    return parser


def _add_sweep(sweep: argparse.ArgumentParser) -> None:
    add = sweep.add_argument
    add("notebook", type=Path)
    add("-g", "--grid", action="append", default=[], metavar="NAME=VALUE,VALUE", help="values to combine")
    add("--settings", type=Path, metavar="FILE", help="a list of parameter sets as JSON, in place of a grid")
    add("-o", "--output", type=Path, required=True, metavar="FOLDER")
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
        return _fail(error)
    return 0


def _tutorial(options: argparse.Namespace) -> int:
    """Run the notebooks; at their defaults, compare what they recorded with what is recorded, or record it."""
    from alhelpers.runs.parameters import ParameterError, given
    from alhelpers.runs.recording import record_runs
    from alhelpers.runs.tutorial import check_runs, known_parameters, run_tutorial

    say = partial(print, flush=True)
    parameters = given(options.parameter, known_parameters(options.notebooks, options.only))
    if parameters and options.record:
        text = ", ".join(options.parameter)
        raise ParameterError(
            f"--record takes no parameters, got {text}: the defaults are what the prose is about"
        )
    runs = run_tutorial(options.notebooks, options.output, parameters, only=options.only, say=say)
    if options.record:
        found = record_runs(options.notebooks, runs, say)
        for line in found:
            _say(f"correct this: {line}")
        return int(bool(found))
    if not parameters:
        check_runs(options.notebooks, runs, say)
    return 0


def _check(options: argparse.Namespace) -> int:
    """Print the kind of each configuration file, or where it is wrong."""
    from alhelpers.dataloop.schemas import check_file

    failed = False
    for path in options.files:
        try:
            print(f"{path}: {check_file(path)}")
        except (ValueError, OSError) as error:
            failed = True
            print(f"error: {error}", file=sys.stderr)
    return int(failed)


def _add_mine(commands: Any) -> None:
    mine = commands.add_parser(
        "mine",
        help="select the records to label next",
        description="Run one round of a miner configuration. PICKS holds the picks of every round, and no record is "
        "picked twice: run the same command again for the next round.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage or a wrong configuration, 3 nothing left to pick",
    )
    add, engine = mine.add_argument, mine.add_mutually_exclusive_group()
    add("configuration", type=Path, metavar="CONFIG", help="a miner configuration, a JSON file")
    add("records", metavar="RECORDS", help="a Parquet file, a glob of them in quotes, or JSON lines (.jsonl)")
    picks = "a Parquet file of all rounds; created if missing"
    add("-o", "--output", type=_local, required=True, metavar="PICKS", help=picks)
    labelled = "the labelled records (default: those of RECORDS that select_reference selects)"
    add("--reference", metavar="FILE", help=labelled)
    engine.add_argument("--workers", type=_count, metavar="N", help="compute in N processes")
    engine.add_argument(
        "--scheduler", metavar="ADDRESS", help="compute on the Dask cluster of this scheduler"
    )
    add("--dry-run", action="store_true", help="show what would be picked, and write nothing")
    add("--json", action="store_true", help="print one JSON object")
    mine.set_defaults(function=_mine)


def _mine(options: argparse.Namespace) -> int:
    """Run one round of a miner configuration, append it to the picks, and print it."""
    from alhelpers import mining
    from alhelpers.records import RecordError

    try:
        config = mining.parse_config(_read_json(options.configuration))
    except (ValueError, OSError) as error:
        return _fail(f"{options.configuration}: {error}", 2)
    try:
        with warnings.catch_warnings(), _turn(options):
            warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
            selection, picks = _round(options, config)
    except KeyboardInterrupt:
        return _fail(f"interrupted: {options.output} is unchanged")
    except mining.PoolExhausted as error:
        print(error, file=sys.stderr)
        nothing = {"output": str(options.output), "picked": 0, "dry_run": options.dry_run, "picks": []}
        return _print([json.dumps(nothing)] if options.json else [], 3)
    except (mining.MiningError, RecordError) as error:
        return _fail(error)
    except OSError as error:
        return _fail(f"no picks were written to {options.output}: {error}; correct this, and run it again")
    said = _print(_lines(options, selection, picks), 0)
    if said and not options.dry_run:
        print(f"{options.output} holds the picks", file=sys.stderr)
    return said


@contextmanager
def _turn(options: argparse.Namespace) -> Iterator[None]:
    """Keep other runs from the picks, unless nothing is written."""
    if options.dry_run:
        yield
        return
    import filelock

    from alhelpers.mining import MiningError

    output = options.output
    output.parent.mkdir(parents=True, exist_ok=True)
    file = output.with_name(f".{output.name}.lock")
    # opened here first, so that a read-only folder is not reported as a lock that another run holds
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        with filelock.FileLock(file, mode=0o600, blocking=False):
            yield
    except filelock.Timeout:
        text = f"another run picks for {output} at this moment: wait for it, or choose another name"
        raise MiningError(text) from None


def _round(options: argparse.Namespace, config: "MinerConfig") -> tuple["Selection", "pa.Table"]:
    """Select records, and append them to the picks unless this is a dry run; return them in both forms."""
    from alhelpers import mining

    known = mining.read_picks(options.output)
    with (
        _source(options.records) as source,
        _source(options.reference) as reference,
        _engine(options) as engine,
        _progress_bar() as progress,
    ):
        selection = mining.run(
            config, source, reference, engine=engine, picked=known["id"].to_pylist(), progress=progress
        )
    if options.dry_run:
        rounds = known["round"].drop_null().to_pylist()
        return selection, mining.picks_of(selection, max(rounds, default=0) + 1)
    return selection, mining.append_picks(options.output, selection)


def _lines(options: argparse.Namespace, selection: "Selection", picks: "pa.Table") -> list[str]:
    """Return what is printed about a round."""
    rows = picks.select(["id", "score", "strategy", "rank"]).to_pylist()
    number = picks["round"][0].as_py()
    if options.json:
        picked = [row | {"score": row["score"] if math.isfinite(row["score"]) else None} for row in rows]
        content = {
            "output": str(options.output),
            "round": number,
            "picked": len(rows),
            "pool": selection.meta["pool"],
            "configuration": selection.meta["configuration"],
            "dry_run": options.dry_run,
            "picks": picked,
        }
        return [json.dumps(content)]
    by = ", ".join(f"{count} by {name}" for name, count in Counter(row["strategy"] for row in rows).items())
    done = "would pick" if options.dry_run else "picked"
    where = "" if options.dry_run else f"; {options.output} holds them"
    said = f"round {number}: {done} {len(rows)} of {selection.meta['pool']} records, {by}{where}"
    listed = rows if options.dry_run else []
    return [said, *(f"{row['id']}\t{row['score']:.6g}\t{row['strategy']}" for row in listed)]


def _print(lines: list[str], code: int) -> int:
    """Print lines; return the code, or that of a failure. It is not a failure if the reader, such as head, stops."""
    try:
        for line in lines:
            print(line)
        print(end="", flush=True)
    except (OSError, KeyboardInterrupt) as error:
        _stop_output()
        return code if isinstance(error, BrokenPipeError) else _fail(f"stopped printing: {error!r}")
    return code


def _stop_output() -> None:
    """Discard what is still to be printed: Python flushes it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _source(path: str | None) -> Iterator[str | None]:
    """Yield the path of Parquet files; JSON lines are converted to a temporary one."""
    if path is None or not path.endswith(".jsonl"):
        yield path
        return
    from alhelpers.records import convert

    with tempfile.TemporaryDirectory() as folder:
        convert(path, Path(folder) / "records.parquet")
        yield str(Path(folder) / "records.parquet")


@contextmanager
def _engine(options: argparse.Namespace) -> Iterator[Any]:
    """Yield the engine that the options name, and close it at the end."""
    if options.workers is not None:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        # Not forked: a fork of a process that computes in threads may hang. Only this process reacts to Ctrl-C.
        with ProcessPoolExecutor(
            options.workers, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
        ) as executor:
            yield executor
    elif options.scheduler is not None:
        from alhelpers.mining import MiningError

        try:
            from distributed import Client, KilledWorker
        except ImportError as error:
            raise MiningError('--scheduler needs Dask: pip install "alhelpers[dask]"') from error
        try:
            with Client(options.scheduler, timeout=10) as client:
                yield client
        except (KilledWorker, CancelledError) as error:
            raise MiningError(f"the cluster {options.scheduler} lost the work: {error}") from error
    else:
        yield None


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function that draws a progress bar on a terminal, and None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc="mining", unit="", unit_scale=True) as bar:

        def show(done: int, total: int) -> None:
            if total != bar.total or done < bar.n:  # the next strategy of a plan starts
                bar.reset(total)
            bar.update(done - bar.n)

        yield show


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from error


def _local(text: str) -> Path:
    if "://" in text or Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"must be a local file, got {text!r}")
    return Path(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _fail(error: object, code: int = 1) -> int:
    _say(f"error: {error}")
    return code


def _say(text: str) -> None:
    print(" ".join(text.split()), file=sys.stderr)


def _page(options: argparse.Namespace) -> int:
    """Print the link to a state folder's page; serve the folder until Ctrl-C if no process serves it yet."""
    import sqlite3

    from alhelpers import platform

    folder = options.state_dir or platform_folder()
    found = platform.running(folder)
    if found is not None:
        print(found.page)
        return 0
    stop = threading.Event()
    # Set explicitly: a process that a shell has put into the background ignores Ctrl-C otherwise.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with platform.start(folder) as own:
            print(f"{own.page}\n(Ctrl-C stops it)", flush=True)
            stop.wait()
    except (platform.StateFolderBusy, platform.StateUnusable) as error:
        return _fail(error)
    except sqlite3.Error as error:
        return _fail(f"{folder} can't be used: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
