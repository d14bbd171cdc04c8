"""Processes forked from a server process that has the imports done: the server, and the client that talks to it.

The server computes nothing and starts no thread, as only the forking thread lives on in a fork. (pyarrow's allocator,
jemalloc, keeps a thread of its own, and stops it during a fork.) The server ends with all of its forks when its client
does.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterable
from typing import IO, Any, NoReturn

#: Packages that take long to import; importing them starts no thread and does not depend on the environment.
NUMERICAL = (
    "numpy",
    "pandas",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.cluster",
    "sklearn.decomposition",
    "sklearn.ensemble",
    "sklearn.isotonic",
    "sklearn.linear_model",
    "sklearn.metrics",
    "sklearn.neighbors",
    "torch",
    "torch._dynamo",  # which the first optimizer imports
)

#: What dtlpy imports. dtlpy itself reads its settings when it is imported, so it must not be listed.
SDK_DEPENDENCIES = (
    "aiohttp",
    "bson",
    "cloudpickle",
    "dictdiffer",
    "diskcache",
    "filelock",
    "jinja2",
    "jwt",
    "pathspec",
    "redis.asyncio",
    "requests_toolbelt",
    "tabulate",
    "tqdm",
    "validators",
    "webvtt",
)

#: How long the server may take for an answer, which comes after its imports, and for its end, in seconds.
LONGEST_ANSWER, LONGEST_END = 300.0, 30.0

_HEADER = 8
#: Standard input, output and error.
_MAX_FILES = 3


def send(channel: socket.socket, message: Any, files: list[int] | None = None) -> None:
    """Send a message as JSON, with descriptors of open files."""
    body = json.dumps(message).encode()
    header = len(body).to_bytes(_HEADER, "big")
    if files:
        socket.send_fds(channel, [header], files)
    else:
        channel.sendall(header)
    channel.sendall(body)


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """Receive a message and its descriptors, at most three, which the caller closes.

    Returns (None, []) if the other side has closed the channel or died.
    """
    try:
        return _receive(channel)
    except ConnectionResetError:  # it died with unread messages
        return None, []


def _receive(channel: socket.socket) -> tuple[Any, list[int]]:
    files: list[int] = []
    header = b""
    while len(header) < _HEADER:
        part, passed, _, _ = socket.recv_fds(channel, _HEADER - len(header), _MAX_FILES)
        files += passed
        if not part:
            return None, []
        header += part
    size, body = int.from_bytes(header, "big"), bytearray()
    while len(body) < size:
        part = channel.recv(min(1 << 20, size - len(body)))
        if not part:
            return None, []
        body += part
    return json.loads(bytes(body)), files


class ServerProcess:
    """The client's side: starts a server process and sends it requests, one thread at a time.

    The process runs ``module``, which creates a `Server` of the descriptor in its first argument. Without a log, its
    errors go to this process's standard error.
    """

    def __init__(
        self, module: str, preload: Iterable[str], environment: dict[str, str], log: IO[bytes] | None = None
    ) -> None:
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(LONGEST_ANSWER)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, str(theirs.fileno()), *preload],
                stdin=subprocess.DEVNULL,
                stdout=log or subprocess.DEVNULL,
                stderr=log,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process alone
            )

    def request(self, request: dict[str, Any], files: list[int] | None = None) -> int | None:
        """Send a request and return its answer, or None if the server has died or the process is not its child.

        The keys of a request are "fork", answered with the id of the new process, which receives the files; "reap", a
        process that has ended or is about to, answered with its exit code; or "import", more modules, answered with 0.
        """
        try:
            send(self._channel, request, files)
            return receive(self._channel)[0]
        except BrokenPipeError:
            return None
        except TimeoutError:
            self._process.kill()  # else the answer to the next request would be this one's
            return None

    def close(self) -> None:
        """End the server with all of its forks."""
        self._channel.close()
        try:
            self._process.wait(LONGEST_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Server:
    """The server's side, also in its forks: receives requests from a socket, after it has imported modules."""

    def __init__(self, descriptor: int, preload: Iterable[str]) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self._channel.set_inheritable(False)
        # Where it is inherited as ignored, exit codes would be lost.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Files in the folder where it was started must not be imported; a fork has a folder of its own.
        if sys.path[0] in ("", os.getcwd()):
            del sys.path[0]
        # OpenBLAS would start its threads at once; a fork that may have more than one starts them later.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        self._set_by_imports: dict[str, str] = {}
        self._preload(preload)

    def serve(self) -> tuple[dict[str, Any] | None, list[int]]:
        """Answer requests until the client has gone; a fork returns the request that it is for, with its files."""
        children: set[int] = set()
        while True:
            request, files = receive(self._channel)
            if request is None:
                for child in children:
                    end_group(child)
                    os.waitpid(child, 0)
                return None, []
            if "import" in request:
                self._preload(request["import"])
                send(self._channel, 0)
            elif "reap" in request:
                known = request["reap"] in children  # else it was the child of an earlier server
                children.discard(request["reap"])
                code = os.waitstatus_to_exitcode(os.waitpid(request["reap"], 0)[1]) if known else None
                send(self._channel, code)
            else:
                pid = os.fork()
                if pid == 0:
                    self._channel.close()
                    return request, files
                for file in files:
                    os.close(file)
                children.add(pid)
                send(self._channel, pid)

    def set_environment(self, values: dict[str, str]) -> None:
        """Replace the environment of a fork; variables that the imports have set are kept."""
        values = self._set_by_imports | values
        os.environ.clear()
        os.environ.update(values)

    def _preload(self, names: Iterable[str]) -> None:
        before = os.environ.copy()
        for name in names:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                    traceback.print_exc()
            except Exception:  # noqa: BLE001 - broken: only the code that imports it itself is to fail
                traceback.print_exc()
        gc.collect()
        gc.freeze()  # else the first collection in each child would copy these pages
        self._set_by_imports |= {
            name: value for name, value in os.environ.items() if before.get(name) != value
        }


def end_group(pid: int) -> None:
    """Kill a process and those that it started, also if it has no process group of its own yet."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def reinitialize() -> None:
    """Seed the random generators of a fork from the system, and start BLAS's threads, as fresh imports would.

    Without it all forks would draw the same numbers. Call it when the environment is set.
    """
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()
    threads = int(
        os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1
    )
    if threads > 1:
        with contextlib.suppress(ImportError):  # it comes with scikit-learn
            import threadpoolctl

            threadpoolctl.threadpool_limits(threads, user_api="blas")


def exit_fast() -> NoReturn:
    """End this process without freeing its modules.

    That would touch, and so copy, most of the memory that is shared with the server: half a second.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        stream.flush()
    os._exit(0)
