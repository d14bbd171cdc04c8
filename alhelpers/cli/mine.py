"""The command ``mine``: one round of a miner configuration on records."""

import argparse
import json
import math
import os
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alhelpers.cli.functions import OwnCodeError, function_of, is_function, own_errors
from alhelpers.cli.output import (
    boxes,
    boxes_of,
    boxes_said,
    count,
    fail,
    local,
    print_lines,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from alhelpers.mining import MinerConfig, Selection


# Keys of a configuration that stand for options, which not all strategies have.
_AS_OPTIONS = {"embeddings_field": "layer", "metric": "metric"}


def add_to(commands: Any) -> None:
    """Add the command to a parser."""
    mine = commands.add_parser(
        "mine",
        help="select the records to label next",
        description="Run one round of a miner configuration. PICKS holds the picks of every round, and no record is "
        "picked twice: run the same command again for the next round.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage or a wrong configuration, 3 nothing left to pick",
    )
    add, engine = mine.add_argument, mine.add_mutually_exclusive_group()
    add("configuration", type=Path, metavar="CONFIG", help="a miner configuration, a JSON file")
    pool = "a Parquet file, a folder, a glob in quotes or a URL of them, or JSON lines (.jsonl)"
    add("records", metavar="RECORDS", help=pool)
    picks = "a Parquet file of all rounds; created if missing"
    add("-o", "--output", type=local, required=True, metavar="PICKS", help=picks)
    labelled = "the labelled records (default: those of RECORDS that select_reference selects)"
    own = "in place of the configuration's: a strategy, a number of the records such as metadata.blur, or a function"
    add("--strategy", metavar="NAME|FILE.py:FUNCTION", help=own)
    add(
        "--max-boxes",
        type=boxes,
        metavar="B",
        help="in place of the configuration's: the most boxes expected",
    )
    add("--reference", metavar="FILE", help=labelled)
    engine.add_argument("--workers", type=count, metavar="N", help="compute in N processes")
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
        own = _own_strategy(options)
    except ValueError as error:
        return fail(f"--strategy {options.strategy}: {error}", 2)
    try:
        config = mining.parse_config(_changed(_read_json(options.configuration), own, options.max_boxes))
    except (ValueError, OSError) as error:
        return fail(f"{options.configuration}: {error}", 2)
    try:
        with warnings.catch_warnings(), _turn(options):
            warnings.showwarning = lambda message, *_: say(f"warning: {message}")
            with own_errors():
                selection, picks = _round(options, config)
    except KeyboardInterrupt:
        return fail(f"interrupted: {options.output} is unchanged")
    except mining.PoolExhausted as error:
        say(str(error))
        nothing = {"output": str(options.output), "picked": 0, "dry_run": options.dry_run, "picks": []}
        return print_lines([json.dumps(nothing)] if options.json else [], 3)
    except (mining.MiningError, RecordError, OwnCodeError) as error:
        return fail(error)
    except OSError as error:
        return fail(f"no picks were written to {options.output}: {error}; correct this, and run it again")
    said = print_lines(_lines(options, config, selection, picks), 0)
    if said and not options.dry_run:
        print(f"{options.output} holds the picks", file=sys.stderr)
    return said


def _own_strategy(options: argparse.Namespace) -> Any:
    """Return the strategy that the command line names, checked, or None."""
    from alhelpers import mining

    if options.strategy is None:
        return None
    own: Any = options.strategy
    if is_function(options.strategy):
        if options.workers is not None or options.scheduler is not None:
            raise ValueError("it is computed in this process: leave out --workers and --scheduler")
        own = function_of(options.strategy)
    mining.needed_fields(own)
    return own


def _changed(config: Any, own: Any, max_boxes: float | None) -> Any:
    """Return a configuration with the strategy and the boxes of the command line; options of its own strategy go."""
    given = {"strategy": own, "max_boxes": max_boxes}
    given = {key: value for key, value in given.items() if value is not None}
    if not isinstance(config, dict):
        return config
    if own is not None and config.get("strategy") != own:
        config = _without_strategy(config, own)
    return config | given


def _without_strategy(config: dict[str, Any], own: Any) -> dict[str, Any]:
    """Return a configuration without what it says of its strategy and another one does not have, which is said."""
    from alhelpers import mining

    options = mining.strategies().get(own, {}).get("options", {}) if isinstance(own, str) else {}
    gone = {key for key in ("options", "plan") if key in config}
    gone |= {key for key, option in _AS_OPTIONS.items() if key in config and option not in options}
    if gone:
        say(f"left out of the configuration, as --strategy takes its place: {', '.join(sorted(gone))}")
    return {key: value for key, value in config.items() if key not in {*gone, "strategy"}}


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
        progress_bar("mining") as progress,
    ):
        selection = mining.run(
            config, source, reference, engine=engine, picked=known["id"].to_pylist(), progress=progress
        )
    if options.dry_run:
        rounds = known["round"].drop_null().to_pylist()
        return selection, mining.picks_of(selection, max(rounds, default=0) + 1)
    return selection, mining.append_picks(options.output, selection)


def _lines(
    options: argparse.Namespace, config: "MinerConfig", selection: "Selection", picks: "pa.Table"
) -> list[str]:
    """Return what is printed about a round."""
    rows = picks.select(["id", "score", "strategy", "rank"]).to_pylist()
    number, pool = picks["round"][0].as_py(), selection.meta["pool"]
    expected = boxes_of(selection, config.size)
    if options.json:
        picked = [row | {"score": row["score"] if math.isfinite(row["score"]) else None} for row in rows]
        content = {
            "output": str(options.output),
            "round": number,
            "picked": len(rows),
            "pool": pool,
            **expected,
            "configuration": selection.meta["configuration"],
            "dry_run": options.dry_run,
            "picks": picked,
        }
        return [json.dumps(content)]
    by = ", ".join(f"{count} by {name}" for name, count in Counter(row["strategy"] for row in rows).items())
    done = "would pick" if options.dry_run else "picked"
    where = "" if options.dry_run else f"; {options.output} holds them"
    boxes_too = boxes_said(expected)
    said = f"round {number}: {done} {len(rows)} of {pool} records, {by}{boxes_too}{where}"
    listed = rows if options.dry_run else []
    return [said, *(f"{row['id']}\t{row['score']:.6g}\t{row['strategy']}" for row in listed)]


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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from error
