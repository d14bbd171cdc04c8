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

from .reporting import take_output


def main() -> int:
    """Run a service's jobs from the standard input.

    With arguments (the descriptor of a socket, modules to import), fork such processes when asked on the socket.
    """
    if len(sys.argv) > 1:
        _wait_to_be_forked()
    reporter = take_output()
    messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(messages,), daemon=True).start()
    # Imported here, as what the import prints belongs in the log.
    from . import runner as running
    from .speed import speed_up_sdk

    speed_up_sdk()
    # The SDK's own handler would log its records twice.
    logging.getLogger("dtlpy").handlers.clear()
    setup = messages.get()
    try:
        runner = running.Runner(setup, Path.cwd(), reporter)
    # Whatever the service's code raises when its instance is created, SystemExit included, is reported.
    except BaseException as error:  # noqa: BLE001
        reporter.send("broken", **running.describe(error))
        return 1
    reporter.report_imports()
    reporter.send("ready")
    _work(runner, messages, setup["concurrency"])
    return 0


def _wait_to_be_forked() -> None:
    """Return in each fork, set up like a new process."""
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


def _work(runner: Any, messages: "queue.SimpleQueue[dict[str, Any]]", threads: int) -> None:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="execution")
    while True:
        message = messages.get()
        if message["kind"] == "run":
            pool.submit(runner.run, message["job"])
        elif message["kind"] == "interrupt":
            runner.interrupt(message["id"])


def _listen(messages: "queue.SimpleQueue[dict[str, Any]]") -> None:
    """Queue the server's messages; when they end, kill this process and all that it started."""
    for line in sys.stdin.buffer:
        messages.put(json.loads(line))
    with contextlib.suppress(AttributeError, OSError):  # Windows has no process groups
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
