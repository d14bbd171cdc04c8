"""Run the functions of one service for the server that started this process."""

import contextlib
import json
import logging
import os
import queue
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from alhelpers.forking import Server, exit_fast, reinitialize

from .reporting import Reporter, take_output


def main() -> int:
    """Take the service and then its jobs from the standard input, until it ends.

    With arguments, be forked into such processes: asked for on the socket whose descriptor is the first of them, with
    what the others name imported.
    """
    if len(sys.argv) > 1:
        _wait_to_be_forked()
    reporter = take_output()
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(messages,), daemon=True).start()
    # Imported here: the import takes a second or two, and what it prints belongs in the log.
    from . import runner as running

    # The SDK's own handler would print its records a second time.
    logging.getLogger("dtlpy").handlers.clear()
    setup = messages.get()
    try:
        runner = running.Runner(setup, Path.cwd(), reporter)
    # Anything that the service's code raises while it is made, SystemExit included, is told to the server.
    except BaseException as error:  # noqa: BLE001
        reporter.send("broken", **running.describe(error))
        return 1
    reporter.tell_imports()
    reporter.send("ready")
    _work(runner, messages, reporter, setup["concurrency"])
    return 0


def _wait_to_be_forked() -> None:
    """Return in a fork that is like a process started for a worker."""
    server = Server(int(sys.argv[1]), sys.argv[2:])
    question, files = server.serve()
    if question is None:
        exit_fast()
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(question["folder"])
    server.set_environment(question["environment"])
    del sys.argv[1:]
    if not sys.flags.safe_path:
        sys.path.insert(0, question["folder"])
    reinitialize()


def _work(
    runner: Any, messages: "queue.SimpleQueue[dict[str, Any]]", reporter: Reporter, threads: int
) -> None:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="execution")
    while True:
        message = messages.get()
        if message["kind"] == "run":
            pool.submit(runner.run, message["job"])
        elif message["kind"] == "interrupt":
            runner.interrupt(message["id"])


def _listen(messages: "queue.SimpleQueue[dict[str, Any]]") -> None:
    """Pass the server's messages on; when the server is gone, end this process and all that it started."""
    for line in sys.stdin.buffer:
        messages.put(json.loads(line))
    with contextlib.suppress(AttributeError, OSError):  # Windows has no process groups
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
