"""Kernels for runs: forked where possible, with sockets in a folder of their own, and limits of time and memory."""

import contextlib
import os
import queue
import signal
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from alhelpers.forking import send
from alhelpers.runs.errors import NotebookError
from alhelpers.runs.notebooks import nbformat

#: The kernel of notebooks that do not name one.
NATIVE = "python3"

#: How ipykernel is started, after the interpreter.
_LAUNCHER = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]

#: In bytes; some systems allow 107.
_MAX_SOCKET_NAME = 103

#: Seconds between two checks of a limit.
_INTERVAL = 0.2

#: Milliseconds between attempts to reach a kernel that is starting; seconds between checks whether it has ended.
_CONNECT_INTERVAL, _END_INTERVAL = 5, 0.01

#: How long an answer of a forked kernel may take before it is asked again, and what it publishes after its answer.
_ANSWER_SECONDS, _PUBLISH_SECONDS = 1.0, 0.2


@dataclass
class ForkedKernel:
    """A child process that waits to become a kernel, with the interface of a ``subprocess.Popen``.

    ``channel`` takes the one command that makes it a kernel.
    """

    pid: int
    channel: Any
    returncode: int | None = None
    stdin = stdout = stderr = None

    def start(self, command: list[str], environment: dict[str, str], folder: str) -> None:
        """Make it the kernel that a command line would start."""
        send(self.channel, {"command": command, "environment": environment, "folder": folder})
        self.channel.close()

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)


class _ForkedProvisioner(LocalProvisioner):
    """Uses the waiting process in place of a new one."""

    waiting: ForkedKernel

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        self.waiting.start(cmd, kwargs["env"], os.getcwd())
        self.process = self.waiting
        self.pid = self.pgid = self.waiting.pid
        self.cwd = os.getcwd()
        return self.connection_info


class _ForkedClient(AsyncKernelClient):
    """Knows by a kernel's own messages that it is ready, where Jupyter's client waits for a time without messages."""

    async def _async_wait_for_ready(self, timeout: float | None = None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while not await self._is_ready():
            if not await self._async_is_alive():
                raise RuntimeError("Kernel died before replying to kernel_info")
            if end is not None and time.monotonic() > end:
                raise RuntimeError(f"Kernel didn't respond in {timeout:.0f} seconds")

    wait_for_ready = _async_wait_for_ready

    async def _is_ready(self) -> bool:
        """Ask the kernel what it is; return whether it has answered, and has published that it is done with it."""
        request = self.kernel_info()
        try:
            await self._async_recv_reply(request, timeout=_ANSWER_SECONDS)
            while True:
                message = await self.get_iopub_msg(timeout=_PUBLISH_SECONDS)
                if (
                    message["parent_header"].get("msg_id") == request
                    and message["content"].get("execution_state") == "idle"
                ):
                    return True
        except (TimeoutError, queue.Empty):
            return False  # what was published before the client was connected does not arrive


class Guard:
    """Kills a kernel that exceeds a limit of seconds or bytes; ``reason`` names it.

    Memory is that of the kernel and the processes that it started, shared pages counted in each. It is checked several
    times a second, and may be exceeded in between.
    """

    def __init__(self, seconds: float | None, memory: int | None) -> None:
        self.seconds, self.memory = seconds, memory
        self.reason = ""
        self._stop = threading.Event()

    def watch(self, pid: int) -> None:
        """Start to check a kernel."""
        if self.seconds is not None or self.memory is not None:
            threading.Thread(target=self._watch, args=(psutil.Process(pid),), daemon=True).start()

    def stop(self) -> None:
        """Stop checking."""
        self._stop.set()

    def _watch(self, kernel: psutil.Process) -> None:
        started = time.monotonic()
        while not self._stop.wait(_INTERVAL):
            self.reason = self._exceeded(kernel, time.monotonic() - started)
            if self.reason:
                for process in _family(kernel):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                return

    def _exceeded(self, kernel: psutil.Process, elapsed: float) -> str:
        if self.seconds is not None and elapsed > self.seconds:
            return f"it took longer than the limit of {self.seconds:g} s"
        if self.memory is not None:
            held = sum(_memory_of(process) for process in _family(kernel))
            if held > self.memory:
                return f"it held {held / 2**20:.0f} MiB of memory; the limit is {self.memory / 2**20:.0f} MiB"
        return ""


def _family(kernel: psutil.Process) -> list[psutil.Process]:
    """Return the kernel and the processes of its group that it started."""
    try:
        found = [kernel, *kernel.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if _in_group(process, kernel)]


def _in_group(process: psutil.Process, kernel: psutil.Process) -> bool:
    if os.name != "posix":
        return True
    try:
        return os.getpgid(process.pid) == kernel.pid
    except ProcessLookupError:
        return False


def _memory_of(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def manager_class(
    folder: str, guard: Guard, spec: KernelSpec, waiting: ForkedKernel | None
) -> type[AsyncKernelManager]:
    """Return a kernel manager that uses sockets in the given folder where possible, and a waiting process if given.

    Two kernels that start at once may be given the same TCP port. Without a folder for each kernel, Jupyter puts the
    sockets into the working folder, where kernels of two runs receive each other's messages.
    """
    sockets = os.path.join(folder, "kernel")
    short = len(f"{sockets}-5".encode()) <= _MAX_SOCKET_NAME
    usable = os.name == "posix" and short and "ipykernel_launcher" in spec.argv
    if not is_a_fork(spec):
        waiting = None

    class GuardedManager(AsyncKernelManager):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options | ({"transport": "ipc", "ip": sockets} if usable else {}))
            self.context.reconnect_ivl = _CONNECT_INTERVAL
            if waiting is not None:
                self.client_factory = _ForkedClient

        async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
            if waiting is not None:
                self.kernel_id = self.kernel_id or str(uuid.uuid4())
                self.provisioner = _ForkedProvisioner(
                    kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
                )
                self.provisioner.waiting = waiting
            return await super()._async_pre_start_kernel(**kwargs)

        async def _async_post_start_kernel(self, **kwargs: Any) -> None:
            await super()._async_post_start_kernel(**kwargs)
            guard.watch(self.provisioner.pid)

        async def _async_wait(self, pollinterval: float = _END_INTERVAL) -> None:
            await super()._async_wait(min(pollinterval, _END_INTERVAL))

        pre_start_kernel = _async_pre_start_kernel
        post_start_kernel = _async_post_start_kernel

    return GuardedManager


def kernel_of(document: nbformat.NotebookNode, name: str | None = None) -> str:
    """Return the name of a notebook's kernel, or the given one in its place, if it is there; else raise NotebookError.

    The kernel ``python3`` must be this interpreter unless it is given: another one may have other versions.
    """
    chosen = name or document.metadata.get("kernelspec", {}).get("name") or NATIVE
    executable = find_kernel(chosen).argv[0]
    if name is None and chosen == NATIVE and not _is_this_python(executable):
        raise NotebookError(
            f"the kernel {NATIVE} starts {executable}, not {sys.executable}: set JUPYTER_PREFER_ENV_PATH=1, remove that"
            f" kernel with 'jupyter kernelspec remove {NATIVE}', or name the kernel that is to run (-k {NATIVE})"
        )
    return chosen


def find_kernel(name: str) -> KernelSpec:
    """Return the specification of an installed kernel; raise NotebookError with those that are installed."""
    manager = KernelSpecManager()
    try:
        return manager.get_kernel_spec(name)
    except NoSuchKernel as error:
        installed = ", ".join(sorted(manager.find_kernel_specs())) or "none"
        raise NotebookError(
            f"there is no kernel {name!r}; installed are: {installed}. Choose one of them (-k NAME), or install that"
            f" one: '{sys.executable} -m pip install ipykernel' brings {NATIVE}"
        ) from error


def is_a_fork(spec: KernelSpec) -> bool:
    """Return whether a fork of this interpreter is the same as the kernel that a specification starts."""
    executable, *options = spec.argv
    plain = [word for word in options if word != "-Xfrozen_modules=off"]
    return plain == _LAUNCHER and not spec.env and _is_this_python(executable)


def _is_this_python(executable: str) -> bool:
    # Jupyter starts this interpreter for a bare name. The Pythons of two environments may be links to one file, so
    # the folders are compared too.
    return executable in ("python", "python3") or (
        _is_same_file(executable, sys.executable)
        and _is_same_file(Path(executable).parent, Path(sys.executable).parent)
    )


def _is_same_file(one: str | Path, other: str | Path) -> bool:
    return os.path.exists(one) and os.path.samefile(one, other)
