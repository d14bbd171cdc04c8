"""The process that runs one notebook; as a server it imports modules first, then forks a process for each run.

The server computes nothing and starts no thread, as only the forking thread lives on in a fork. Each fork forks once
more before it does anything else: into the run, which calls papermill, and the notebook's kernel.
"""

import atexit
import builtins
import gc
import importlib.util
import itertools
import json
import os
import socket
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from alhelpers.forking import Server, exit_fast, receive, reinitialize, send


def main() -> None:
    """Serve on the socket of the first argument, with the other arguments imported; or answer one request on stdin."""
    if len(sys.argv) == 1:
        _run_once()
        return
    with _like_a_kernel():
        server = Server(int(sys.argv[1]), sys.argv[2:])
    _warm_up()
    request, files = server.serve()
    if request is None:
        exit_fast()
    (answers,) = (socket.socket(fileno=file) for file in files)
    os.setsid()
    server.set_environment(request["environment"])
    from alhelpers.runs.kernels import ForkedKernel

    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        answers.close()
        command, _ = receive(theirs)
        theirs.close()
        if command is not None:  # None: the run ended without a kernel
            _become_kernel(command, server)
        exit_fast()
    theirs.close()
    from alhelpers.runs.runner import execute

    send(answers, execute(request["fork"], ForkedKernel(pid, ours)))
    answers.close()
    exit_fast()


def _run_once() -> None:
    # What the kernel prints past Jupyter must not mix with the answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from alhelpers.runs.runner import execute

    json.dump(execute(json.load(sys.stdin)), answers)
    answers.close()


@contextmanager
def _like_a_kernel() -> Iterator[None]:
    """Let imports find what they find in a kernel."""
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # pandas shows tables in another way if it is imported in a terminal.
    builtins.get_ipython = lambda: SimpleNamespace(kernel=None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del builtins.get_ipython  # type: ignore[attr-defined]


def _warm_up() -> None:
    """Build nbformat's validator, and find what starts kernels among all installed packages, once for all runs."""
    import nbformat
    from jupyter_client.provisioning import KernelProvisionerFactory

    nbformat.validate(nbformat.v4.new_notebook())
    KernelProvisionerFactory.instance()
    # What the imported modules undo at the end of a process, as torch each of its operators, ends with it anyway.
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    gc.freeze()


def _become_kernel(command: dict[str, Any], server: Server) -> None:
    """Do what the command line of a kernel does."""
    os.setsid()
    os.chdir(command["folder"])
    parent = os.getppid()
    server.set_environment(command["environment"] | {"JPY_PARENT_PID": str(parent)})
    from ipykernel.kernelapp import IPKernelApp

    reinitialize()
    words = command["command"]  # python -m ipykernel_launcher -f FILE, with options of Python before the -m
    launcher, *arguments = words[words.index("-m") + 1 :]
    sys.argv = [importlib.util.find_spec(launcher).origin, *arguments]
    # Imports have taken numbers of threads, which the names of the kernel's own show.
    threading._counter = itertools.count(1).__next__  # type: ignore[attr-defined]
    application = IPKernelApp.instance()
    # The application reads the parent's number from the environment when it is imported, which was earlier.
    application.initialize([*arguments, f"--IPKernelApp.parent_handle={parent}"])
    threading.Thread()  # takes the number that importing the debugger takes in a kernel that is started
    application.start()
    threading._shutdown()  # waits for the notebook's threads
    atexit.unregister(
        application.close
    )  # now and then it waits for ever for a thread, with all outputs received
    atexit._run_exitfuncs()
    IPKernelApp.instance().shell.user_ns.clear()  # closes the notebook's files
    gc.collect()
    exit_fast()


if __name__ == "__main__":
    main()
