"""The command ``page``: the link to the offline platform's page."""

import argparse
import signal
import threading
from pathlib import Path
from typing import Any

from alhelpers.cli.output import fail
from alhelpers.files import platform_folder


def add_to(commands: Any) -> None:
    """Add the command to a parser."""
    page = commands.add_parser("page", help="print the link to the offline platform's page")
    page.add_argument("--state-dir", type=Path, help="the platform's folder (default: that of the notebooks)")
    page.set_defaults(function=_page)


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
        return fail(error)
    except sqlite3.Error as error:
        return fail(f"{folder} can't be used: {error}")
    return 0
