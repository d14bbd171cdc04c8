"""Starting worker processes: forked from one that has imported the modules that workers import, or from nothing."""

import asyncio
import contextlib
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

from alhelpers.forking import NUMERICAL, SDK_DEPENDENCIES, ServerProcess

MODULE = "alhelpers.platform.worker"
LONGEST_LINE = 1 << 26
LONGEST_REQUIREMENTS = 1 << 16
# How often a worker is looked after, in seconds.
LINGER = 1.0
# Prefixes of variables that are read only when a process starts, or a library is loaded.
READ_AT_START = (
    *("PYTHON", "LD_", "LC_", "LANG", "TZ", "MALLOC_", "SSL_", "TQDM_", "ARROW_", "TORCH", "PYTORCH"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "VECLIB_", "NUMEXPR_", "NPY_", "NUMPY_"),
)
# What else a service's code sees of the server's environment: the rest may hold secrets.
SHARED = (
    "PATH HOME USER LOGNAME SHELL TERM TMPDIR TEMP TMP VIRTUAL_ENV CONDA_ XDG_ CUDA_ NVIDIA_ HIP_ ROCR_ NCCL_ XLA_"
    " TF_CPP_ TF_GPU_ KERAS_ HF_HOME HF_HUB_ MPL ALHELPERS_ REQUESTS_CA_BUNDLE CURL_CA_BUNDLE"
    # Windows starts no program without these.
    " SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC USERPROFILE APPDATA LOCALAPPDATA"
).split()
_SECRET = re.compile("TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH")


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process has not ended yet; the system's clock, which may be set, does not matter."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def python_path() -> str:
    """Return the PYTHONPATH with which a new process finds this package, installed or not."""
    return os.pathsep.join(
        filter(None, (str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")))
    )


def required(codebase: dict[str, Any]) -> list[str]:
    """Return the large packages that the requirements.txt of a codebase names."""
    if codebase["kind"] != "zip":
        return []
    try:
        with zipfile.ZipFile(codebase["path"]) as archive, archive.open("requirements.txt") as file:
            named = re.findall(rb"^[\w-]+", file.read(LONGEST_REQUIREMENTS), re.MULTILINE)
    # Whatever is wrong with it, the worker says it when it unpacks all of it.
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
        return []
    return [name for name in NUMERICAL if name.encode() in named]


class Forked:
    """A forked worker, with the parts of asyncio's ``Process`` that the dispatcher uses."""

    def __init__(
        self,
        pid: int,
        server: "_Server",
        stdin: asyncio.WriteTransport,
        *outputs: tuple[asyncio.StreamReader, asyncio.ReadTransport],
    ) -> None:
        self.pid, self.stdin = pid, stdin
        (self.stdout, self.stderr), self._pipes = zip(*outputs, strict=True)
        self.returncode: int | None = None
        self._server = server

    async def wait(self) -> int | None:
        """Wait for its end; return its exit code, or None if the server that forked it has died."""
        if self.returncode is None:
            self.returncode = await self._server.ask({"reap": self.pid})
        self.stdin.close()
        return self.returncode

    def close_pipes(self) -> None:
        for pipe in self._pipes:
            pipe.close()


async def end_output(process: asyncio.subprocess.Process | Forked) -> None:
    """End the output of a process that has ended: those that it has left behind may keep the pipes open."""
    with contextlib.suppress(psutil.NoSuchProcess):
        while is_alive(psutil.Process(process.pid)):
            await asyncio.sleep(LINGER)
    await asyncio.sleep(LINGER)  # for its last words
    process.close_pipes() if isinstance(process, Forked) else process._transport.close()


class _Server:
    """The process that is forked; requests to it wait in threads, one after the other, as it may be importing."""

    def __init__(self, preload: Iterable[str], environment: dict[str, str]) -> None:
        self.surroundings = _read_at_start(environment)
        self.alive = True
        self._preload, self._environment = list(preload), environment
        self._process: ServerProcess | None = None
        self._turn = asyncio.Lock()

    async def ask(self, question: dict, files: list[int] | None = None) -> int | None:
        async with self._turn:
            return await asyncio.to_thread(self._ask, question, files)

    async def close(self) -> None:
        async with self._turn:
            await asyncio.to_thread(self._end)

    def _ask(self, question: dict, files: list[int] | None) -> int | None:
        if not self.alive:
            return None
        if self._process is None:
            self._process = ServerProcess(MODULE, self._preload, self._environment)
        answer = self._process.request(question, files)
        if answer is None:
            self._end()
        return answer

    def _end(self) -> None:
        self.alive = False
        if self._process is not None:
            self._process.close()
            self._process = None


class Starter:
    """Starts worker processes: on Linux by forking, elsewhere from nothing.

    Importing the SDK takes seconds of a processor, importing torch as long again. The process that is forked, which
    comes with the first service, begins with what the SDK imports and what the service's requirements name; what its
    code has imported beyond that, it imports then for the next workers. The SDK reads its settings when it is imported:
    each worker does that itself.
    """

    def __init__(self) -> None:
        self.forks = sys.platform == "linux"
        self._server: _Server | None = None
        self._imported = ["numpy", "pandas", *SDK_DEPENDENCIES]  # the SDK imports the two as well

    @staticmethod
    def shared(environment: Mapping[str, str]) -> dict[str, str]:
        """Return the part of the server's environment that a service's code sees."""
        passed = (*READ_AT_START, *SHARED)
        return {
            name: value
            for name, value in environment.items()
            if name.upper().startswith(passed) and not _SECRET.search(name.upper())
        }

    async def start(self, folder: Path, environment: dict[str, str]) -> "Forked | asyncio.subprocess.Process":
        """Start a worker: a process in a session of its own, with pipes for its input, output and errors."""
        if self.forks:
            if self._server is None or not self._server.alive:
                self._server = _Server(self._imported, environment)
            if self._server.surroundings == _read_at_start(environment):
                forked = await self._fork(self._server, folder, environment)
                if forked is not None:
                    return forked
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", MODULE),
            cwd=folder,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            # A group of its own: Ctrl-C in the server's terminal is not for it, and its children end with it.
            start_new_session=True,
        )

    async def prepare(self, names: list[str], environment: dict[str, str]) -> None:
        """Start the process that is forked, unless it is there, with more modules imported for the next workers."""
        if self.forks and self._server is None:
            self._server = _Server(self._imported, environment)
            await self._server.ask({"import": []})
        await self.preload(names)

    async def preload(self, names: list[str]) -> None:
        """Import modules that a worker has imported for the next workers, too."""
        new = [name for name in names if name not in self._imported]
        self._imported += new
        if new and self._server is not None:
            await self._server.ask({"import": new})

    async def close(self) -> None:
        """End the process that is forked, and its remaining forks."""
        if self._server is not None:
            await self._server.close()

    async def _fork(self, server: _Server, folder: Path, environment: dict[str, str]) -> Forked | None:
        """Fork a worker; None if the process to be forked has died."""
        (input_, stdin), (stdout, output), (errors, stderr) = (os.pipe() for _ in range(3))
        ours, theirs = (stdin, stdout, errors), (input_, output, stderr)
        pid = None
        try:
            question = {"fork": True, "folder": str(folder), "environment": environment}
            pid = await server.ask(question, list(theirs))
        finally:
            for descriptor in theirs if pid is not None else (*theirs, *ours):
                os.close(descriptor)
        if pid is None:
            return None
        writer, _ = await asyncio.get_running_loop().connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(stdin, "wb", buffering=0)
        )
        return Forked(pid, server, writer, await _reader(stdout), await _reader(errors))


async def _reader(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader, pipe


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_AT_START)}
