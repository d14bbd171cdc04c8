"""A fresh process for each run: forked from a server that has the imports done, or started."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from alhelpers.forking import ServerProcess, receive
from alhelpers.runs.errors import NotebookError
from alhelpers.runs.preload import PRELOADED

#: The number of threads of numerical libraries, which they read when they are loaded.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

_STOPPED = "the processes were stopped before this run had finished"

#: How many bytes of the end of the log an error shows.
_LOG_TAIL = 2000


class Processes:
    """Run notebooks, each in a fresh process that has its imports done.

    On Linux a server process imports the numerical packages once and is forked for each run: into the run's own process
    and its kernel. Such a kernel differs from a started one only in what is imported already. On other systems, where
    forking is not safe, each run starts a process and a kernel. Use it as a context manager, or call ``stop``. Methods
    may be called from several threads.

    Parameters
    ----------
    threads : int, optional
        Number of threads of the numerical libraries in one run; the default is their own choice.
    fork : bool, optional
        Whether to fork; the default is True on Linux only.
    preload : sequence of str
        Modules that the server imports. A module that reads its environment when it is imported must not be listed.
    """

    def __init__(
        self, threads: int | None = None, *, fork: bool | None = None, preload: Sequence[str] = PRELOADED
    ) -> None:
        self.threads, self.preload = threads, preload
        self.forks = sys.platform == "linux" if fork is None else fork
        self._lock = threading.Lock()
        self._server: ServerProcess | None = None
        self._started: set[subprocess.Popen] = set()
        self._stopped = False
        self._folder = tempfile.TemporaryDirectory(prefix="alhelpers-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def execute(self, request: dict[str, Any]) -> dict[str, Any]:
        """Execute a request of ``runner.make_request`` in a fresh process, and return its answer.

        If the process died without one, the answer is an error with the end of the log.
        """
        try:
            answer, code = self._fork(request) if self.forks else self._start(request)
        except NotebookError as error:
            return error.as_answer()
        return (
            answer or NotebookError(f"the process of the run {_end_of(code)}{self._log_tail()}").as_answer()
        )

    def stop(self) -> None:
        """Kill all processes; unfinished runs are lost."""
        with self._lock:
            self._stopped = True
            for process in self._started:
                process.kill()
            if self._server is not None:
                self._server.close()
        self._folder.cleanup()

    def _fork(self, request: dict[str, Any]) -> tuple[Any, int | None]:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                pid = self._request({"fork": request, "environment": self.environment()}, [theirs.fileno()])
            if pid is None:
                return None, None
            answer, _ = receive(ours)
        return answer, self._request({"reap": pid})

    def _request(self, request: dict[str, Any], files: list[int] | None = None) -> int | None:
        """Send a request to the server; None if it has died, and the next request starts another."""
        with self._lock:
            if self._stopped:
                raise NotebookError(_STOPPED)
            if self._server is None:
                with open(self._log, "ab") as log:
                    self._server = ServerProcess(
                        "alhelpers.runs.run_process", self.preload, self.environment(), log
                    )
            answer = self._server.request(request, files)
            if answer is None and "fork" in request:
                self._server.close()
                self._server = None
        return answer

    def _start(self, request: dict[str, Any]) -> tuple[Any, int]:
        with self._lock:
            if self._stopped:
                raise NotebookError(_STOPPED)
            with open(self._log, "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "alhelpers.runs.run_process"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=self.environment(),
                    start_new_session=True,
                )
            self._started.add(process)
        output, _ = process.communicate(json.dumps(request).encode())
        self._started.discard(process)
        return json.loads(output) if output else None, process.returncode

    def environment(self) -> dict[str, str]:
        """Return the environment of a run: that of this process, with the number of threads."""
        limits = {} if self.threads is None else dict.fromkeys(_THREAD_VARIABLES, str(self.threads))
        return dict(os.environ) | limits

    def _log_tail(self) -> str:
        tail = self._log.read_bytes()[-_LOG_TAIL:] if self._log.exists() else b""
        text = tail.decode(errors="replace").strip()
        return f"; the end of its log:\n{text}" if text else ""


def _end_of(code: int | None) -> str:
    if code is None:
        return "died with the server that forks it"
    if code >= 0:
        return f"ended with code {code}"
    return f"was killed by signal {-code} ({signal.Signals(-code).name}): was there too little memory?"
