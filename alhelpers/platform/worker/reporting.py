"""Messages from a worker to the server: results, progress, and what the service's code prints or logs."""

import contextvars
import io
import json
import logging
import os
import sys
import threading
from datetime import UTC, datetime
from typing import IO, Any

from alhelpers.forking import NUMERICAL

# jsonschema takes two seconds where Jupyter has brought all its formats along.
_LARGE = (*NUMERICAL, "jsonschema")
# The execution of the current thread; threads that the code itself starts do not have it.
CURRENT: contextvars.ContextVar[str | None] = contextvars.ContextVar("execution", default=None)
LONGEST_LINE = 10_000


class Reporter:
    """Writes messages to the server, one JSON line each."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self.running: set[str] = set()

    def send(self, kind: str, **content: Any) -> None:
        line = json.dumps({"kind": kind, **content}).encode() + b"\n"
        with self._lock:
            self._pipe.write(line)
            self._pipe.flush()

    def report_imports(self) -> None:
        """Send the names of large packages that the service's code has imported."""
        self.send("imported", names=[name for name in _LARGE if name in sys.modules])

    def current(self) -> list[str]:
        """Return the execution of the current thread; of a thread that the code has started, all that run."""
        execution = CURRENT.get()
        return list(self.running) if execution is None else [execution]

    def log(self, level: str, text: str) -> None:
        """Send lines for the log, with their execution."""
        current = self.current()
        execution = current[0] if len(current) == 1 else None
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for line in text.splitlines():
            if line.strip():
                self.send("log", id=execution, level=level, time=time, text=line[:LONGEST_LINE])


class Printed(io.BufferedIOBase):
    """The bytes of ``sys.stdout`` or ``sys.stderr``: whole lines are sent to the log.

    What a child process or C code writes to the file descriptor itself is logged by the server.
    """

    def __init__(self, reporter: Reporter, level: str, descriptor: int) -> None:
        self._reporter, self._level, self._descriptor = reporter, level, descriptor
        self._open: dict[int, bytes] = {}

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, content: Any) -> int:
        """Log whole lines, and keep what follows the last line break."""
        thread = threading.get_ident()
        # A progress bar returns to the start of its line: keep its last state.
        whole, line_break, rest = (self._open.pop(thread, b"") + bytes(content)).rpartition(b"\n")
        if line_break:
            lines = [line.rstrip(b"\r").rsplit(b"\r", 1)[-1] for line in whole.split(b"\n")]
            self._reporter.log(self._level, b"\n".join(lines).decode(errors="replace"))
        rest = rest.rsplit(b"\r", 1)[-1][-LONGEST_LINE:]
        if rest:
            self._open[thread] = rest
        return len(content)

    def finish_line(self) -> None:
        """Log what the current thread has printed without a line break."""
        self._reporter.log(self._level, self._open.pop(threading.get_ident(), b"").decode(errors="replace"))


class Logged(logging.Handler):
    """Sends records of Python's logging to the log."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.INFO)
        self._reporter = reporter
        self.setFormatter(logging.Formatter("[%(name)s] %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.log(record.levelname, self.format(record))


def take_output() -> Reporter:
    """Reserve the standard output for messages, and log all else that is printed."""
    reporter = Reporter(os.fdopen(os.dup(1), "wb"))
    # What libraries and child processes write joins the standard error, which the server logs.
    os.dup2(2, 1)
    text = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "", "write_through": True}
    sys.stdout = io.TextIOWrapper(Printed(reporter, "INFO", 1), **text)
    sys.stderr = io.TextIOWrapper(Printed(reporter, "ERROR", 2), **text)
    logging.getLogger().addHandler(Logged(reporter))
    logging.getLogger().setLevel(logging.INFO)
    return reporter
