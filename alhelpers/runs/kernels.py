"""Kernels for runs: sockets in a folder of their own, forked where a preloaded process can, and watched by limits."""

import os
import signal
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner
from traitlets import default

from alhelpers.forking import send
from alhelpers.runs.errors import NotebookError

#: A Unix socket's name has at most 107 bytes, on some systems 103.
_LONGEST_SOCKET_NAME = 103

#: Seconds between two looks at what a kernel takes.
_LOOK = 0.2


@dataclass
class ForkedKernel:
    """A process that waits to become a kernel; seen from its parent it is like a ``subprocess.Popen``.

    Parameters
    ----------
    pid : int
        The process, a child of this one.
    channel : socket
        Takes the one command that makes it a kernel.
    """

    pid: int
    channel: Any
    returncode: int | None = None
    stdin: None = field(default=None, init=False)
    stdout: None = field(default=None, init=False)
    stderr: None = field(default=None, init=False)

    def start(self, command: list[str], environment: dict[str, str], folder: str) -> None:
        """Have it become the kernel that a command line would have started."""
        send(self.channel, {"command": command, "environment": environment, "folder": folder})
        self.channel.close()

    def poll(self) -> int | None:
        """Return how it ended, or None while it lives."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self) -> int:
        """Wait until it has ended."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class _ForkedProvisioner(LocalProvisioner):
    """Starts the waiting kernel in place of a new program."""

    waiting: ForkedKernel

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        self.waiting.start(cmd, kwargs["env"], os.getcwd())
        self.process = self.waiting
        self.pid = self.pgid = self.waiting.pid
        self.cwd = os.getcwd()
        return self.connection_info


class Guard:
    """Ends a kernel that takes too long or too much memory, and says why.

    Parameters
    ----------
    seconds : float, optional
        From the kernel's start on.
    memory : int, optional
        Bytes in memory of the kernel and the processes that it started, pages that they share counted in each. The
        limit is looked at several times a second: it may be passed for as long.
    """

    def __init__(self, seconds: float | None, memory: int | None) -> None:
        self.seconds, self.memory = seconds, memory
        self.reason = ""
        self._stop = threading.Event()

    def watch(self, pid: int) -> None:
        """Begin to watch a kernel."""
        if self.seconds is not None or self.memory is not None:
            threading.Thread(target=self._watch, args=(psutil.Process(pid),), daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()

    def _watch(self, kernel: psutil.Process) -> None:
        started = time.monotonic()
        while not self._stop.wait(_LOOK):
            self.reason = self._over(kernel, time.monotonic() - started)
            if self.reason:
                for process in _family(kernel):
                    _kill(process)
                return

    def _over(self, kernel: psutil.Process, elapsed: float) -> str:
        if self.seconds is not None and elapsed > self.seconds:
            return f"it took longer than the limit of {self.seconds:g} s"
        if self.memory is not None:
            held = sum(_memory_of(process) for process in _family(kernel))
            if held > self.memory:
                return f"it held {held / 2**20:.0f} MiB of memory; the limit is {self.memory / 2**20:.0f} MiB"
        return ""


def _family(kernel: psutil.Process) -> list[psutil.Process]:
    """Return the kernel and what it started; what has left its process group lives a life of its own."""
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


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def manager_class(folder: str, guard: Guard, waiting: ForkedKernel | None = None) -> type[AsyncKernelManager]:
    """Return a manager whose kernels talk over sockets in a folder, where the system can do that.

    Two kernels that start at once may be given the same TCP port. Without a folder of its own for every kernel,
    Jupyter puts the sockets into the working folder, where kernels of two runs take each other's messages.

    Parameters
    ----------
    folder : str
        A folder for the sockets of one kernel.
    guard : Guard
        Watches the kernel.
    waiting : ForkedKernel, optional
        The process that becomes the kernel; without it a program is started.
    """
    sockets = os.path.join(folder, "kernel")

    class GuardedManager(AsyncKernelManager):
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

        pre_start_kernel = _async_pre_start_kernel
        post_start_kernel = _async_post_start_kernel

    class FolderManager(GuardedManager):
        @default("transport")
        def _transport(self) -> str:
            return "ipc"

        @default("ip")
        def _ip(self) -> str:
            return sockets

    usable = os.name == "posix" and len(f"{sockets}-5".encode()) <= _LONGEST_SOCKET_NAME
    return FolderManager if usable else GuardedManager


def check_kernel() -> None:
    """Raise unless the kernel ``python3`` is this interpreter: another one would run other versions.

    Raises
    ------
    NotebookError
    """
    try:
        executable = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel as error:
        raise NotebookError(
            f"there is no kernel python3: install one with '{sys.executable} -m pip install ipykernel'"
        ) from error
    # Jupyter starts a bare name as this interpreter. The Pythons of two environments may be links to one file, so
    # the folders count too.
    if executable not in ("python", "python3") and not (
        _same(executable, sys.executable) and _same(Path(executable).parent, Path(sys.executable).parent)
    ):
        raise NotebookError(
            f"the kernel python3 starts {executable}, not {sys.executable}: set JUPYTER_PREFER_ENV_PATH=1, or remove"
            " that kernel with 'jupyter kernelspec remove python3'"
        )


def _same(one: str | Path, other: str | Path) -> bool:
    return os.path.exists(one) and os.path.samefile(one, other)
