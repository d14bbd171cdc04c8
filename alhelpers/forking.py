"""Processes forked from one that has its imports behind it: both ends of the talk with it, and what a fork sets anew.

The process that is forked, the server, computes nothing and starts no thread: a fork takes along only the thread that
forks. (pyarrow's allocator, jemalloc, keeps one for itself, and stops it while the process is forked.) The server ends,
and with it all that it has forked, when the process that talks to it does.
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

#: Packages that take long to import; none looks at its surroundings, or starts a thread, when it is imported.
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

#: What dtlpy imports. It reads its settings when it is imported itself, so it must stay out.
OF_THE_SDK = (
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

_HEADER = 8
#: The standard input, output and error.
_MOST_FILES = 3


# ---------------------------------------------------------------------------------------------------- messages


def send(channel: socket.socket, message: Any, files: list[int] | None = None) -> None:
    """Send a message, and descriptors of open files with it."""
    body = json.dumps(message).encode()
    header = len(body).to_bytes(_HEADER, "big")
    if files:
        socket.send_fds(channel, [header], files)
    else:
        channel.sendall(header)
    channel.sendall(body)


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """Receive a message and the descriptors with it; (None, []) when the other side has closed or died.

    Returns
    -------
    message : Any
    files : list of int
        At most three; the receiver closes them.
    """
    try:
        return _receive(channel)
    except ConnectionResetError:  # it died with unread messages
        return None, []


def _receive(channel: socket.socket) -> tuple[Any, list[int]]:
    files: list[int] = []
    header = b""
    while len(header) < _HEADER:
        part, passed, _, _ = socket.recv_fds(channel, _HEADER - len(header), _MOST_FILES)
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


# ------------------------------------------------------------------------------------------------ who asks


class ServerProcess:
    """A process to be forked, as the one sees it that asks it. Its methods are for one thread at a time.

    Parameters
    ----------
    module : str
        What it runs: a module that makes a `Server` of the descriptor that is its first argument.
    preload : iterable of str
        The modules that it imports first.
    environment : dict
        Its environment.
    log : open file, optional
        Where its output goes; without one, errors go where those of this process go.
    """

    def __init__(
        self,
        module: str,
        preload: Iterable[str],
        environment: dict[str, str],
        log: IO[bytes] | None = None,
    ) -> None:
        self._channel, theirs = socket.socketpair()
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

    def ask(self, question: dict[str, Any], files: list[int] | None = None) -> int | None:
        """Ask something; None is the answer when the process has died, or knows none.

        Parameters
        ----------
        question : dict
            With the key "fork", "reap" (a forked process that has ended, or is about to) or "import" (more modules).
        files : list of int, optional
            Descriptors that the forked process gets.

        Returns
        -------
        int or None
            The number of the forked process; the exit code of the reaped one; 0.
        """
        try:
            send(self._channel, question, files)
            return receive(self._channel)[0]
        except BrokenPipeError:
            return None

    def close(self) -> None:
        """End it, and all that it has forked."""
        self._channel.close()
        self._process.wait()


# --------------------------------------------------------------------------------------------- who is forked


class Server:
    """The process that is forked, in its own eyes and those of its forks.

    Parameters
    ----------
    descriptor : int
        The socket on which it is asked.
    preload : iterable of str
        The modules to import before anything else.
    """

    def __init__(self, descriptor: int, preload: Iterable[str]) -> None:
        self._channel = socket.socket(fileno=descriptor)
        self._channel.set_inheritable(False)
        # What lies in the folder where it was started is nothing to import; a fork has a folder of its own.
        if sys.path[0] in ("", os.getcwd()):
            del sys.path[0]
        # OpenBLAS would start its threads at once; a fork that may have more than one asks for them later.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        self._set_by_imports: dict[str, str] = {}
        self._preload(preload)

    def serve(self) -> tuple[dict[str, Any] | None, list[int]]:
        """Fork when asked to.

        Returns
        -------
        question : dict or None
            In a fork: what it was asked for with. In the server: None, as nobody asks any more.
        files : list of int
            The descriptors that came with it.
        """
        children: set[int] = set()
        while True:
            question, files = receive(self._channel)
            if question is None:
                for child in children:
                    end_group(child)
                    os.waitpid(child, 0)
                return None, []
            if "import" in question:
                self._preload(question["import"])
                send(self._channel, 0)
            elif "reap" in question:
                known = question["reap"] in children  # else it was the child of an earlier server
                children.discard(question["reap"])
                code = os.waitstatus_to_exitcode(os.waitpid(question["reap"], 0)[1]) if known else None
                send(self._channel, code)
            else:
                pid = os.fork()
                if pid == 0:
                    self._channel.close()
                    return question, files
                for file in files:
                    os.close(file)
                children.add(pid)
                send(self._channel, pid)

    def set_environment(self, values: dict[str, str]) -> None:
        """Give this process, a fork, an environment; what the imports have set is in it too."""
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
    """Kill a process and what it has started, whether or not it has come to have a group of its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def set_anew() -> None:
    """Do in a fork what a fresh import does by itself: seed the generators from the system, start BLAS's threads.

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


def leave() -> NoReturn:
    """End this process without taking all modules apart.

    That would touch, and so copy, most of the memory that is shared with the server: half a second.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        stream.flush()
    os._exit(0)
