"""Serve a state folder as a process: ``python -m alhelpers.platform --state-dir DIR --port N``."""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path

from .errors import StateFolderBusy, StateUnusable
from .folder import lock_folder
from .server import LOOPBACK, UPLOAD_LIMIT, Server, is_loopback


def main(arguments: list[str] | None = None) -> int:
    """Serve until stopped; print one line of JSON when ready."""
    parser = argparse.ArgumentParser(prog="python -m alhelpers.platform", description="the offline platform")
    parser.add_argument("--state-dir", type=Path, required=True, help="the folder with the platform's state")
    parser.add_argument("--port", type=int, default=0, help="the port (0: a free one)")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="the address to listen on; any but 127.0.0.1 lets other machines in, over plain HTTP: only in a network"
        " that you trust",
    )
    parser.add_argument("--upload-limit", type=int, default=UPLOAD_LIMIT, help="the largest upload, in bytes")
    parser.add_argument(
        "--stop-with-clients", action="store_true", help="stop after the last registered client"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Imported modules stay, so the collector need not visit them; requests leave few reference cycles.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    folder = Path(os.path.realpath(options.state_dir))
    try:
        # A server without clients may be closing at this moment.
        with lock_folder(folder, timeout=10.0 if options.stop_with_clients else 0.0):
            asyncio.run(_serve(folder, options))
    except (StateFolderBusy, StateUnusable) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"cannot serve {folder} on port {options.port}: {error}; --port 0 takes a free one",
            file=sys.stderr,
        )
        return 1
    return 0


async def _serve(folder: Path, options: argparse.Namespace) -> None:
    server = Server(folder, options.upload_limit, options.stop_with_clients, options.host)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no such handlers: there the process just ends, which does not harm the state.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, server.stopped.set)

    if not is_loopback(options.host):
        logging.warning(
            "listening on %s: other machines can reach this server, over plain HTTP", options.host
        )

    def ready() -> None:
        print(json.dumps({"url": server.url, "state_dir": str(folder), "pid": os.getpid()}), flush=True)

    await server.run(options.port, ready)


if __name__ == "__main__":
    sys.exit(main())
