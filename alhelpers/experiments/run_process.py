"""The process that runs one notebook; as a server it does its imports first, then forks a process for each run.

The server computes nothing and starts no thread: a fork takes along only the thread that forks. Each fork of it forks
once more before it does anything else: into the run, which drives papermill, and into the notebook's kernel.
"""

import atexit
import builtins
import gc
import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import traceback
from types import SimpleNamespace
from typing import Any, NoReturn


def main() -> None:
    """Serve on the socket whose descriptor is the argument, with what the others name imported.

    Without arguments, answer the request on standard input.
    """
    if len(sys.argv) == 1:
        _run_once()
        return
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    # As in a kernel, whose own start removes the working folder too.
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    by_imports = _preload(sys.argv[2:])
    request, answers = _serve(channel)
    if request is None:
        _leave()
    os.setsid()
    _set_environment(by_imports | request["environment"])
    from alhelpers.experiments.kernels import ForkedKernel
    from alhelpers.experiments.messages import receive

    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        answers.close()
        command, _ = receive(theirs)
        theirs.close()
        if command is not None:  # None: the run ended without a kernel
            _become_kernel(command)
        _leave()
    theirs.close()
    _answer(request["fork"], answers, ForkedKernel(pid, ours))
    _leave()


def _run_once() -> None:
    # Whatever the kernel prints past Jupyter must not mix with the answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from alhelpers.experiments.runner import answer

    json.dump(answer(json.load(sys.stdin)), answers)
    answers.close()


def _answer(request: dict[str, Any], answers: socket.socket, kernel: Any) -> None:
    from alhelpers.experiments.messages import send
    from alhelpers.experiments.runner import answer

    send(answers, answer(request, kernel))
    answers.close()


def _preload(names: list[str]) -> dict[str, str]:
    """Import everything; return what the imports set in the environment."""
    # OpenBLAS would start its threads at once; a kernel that may have more than one asks for them later.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # As a kernel sets it before the notebook imports matplotlib.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    before = os.environ.copy()
    # pandas shows tables in another way if it finds itself in a terminal when it is imported.
    builtins.get_ipython = lambda: SimpleNamespace(kernel=None)  # type: ignore[attr-defined]
    try:
        for name in names:
            try:
                importlib.import_module(name)
            except Exception:  # noqa: BLE001 - absent or broken: only a notebook that imports it is to fail
                traceback.print_exc()
    finally:
        del builtins.get_ipython  # type: ignore[attr-defined]
    import nbformat

    nbformat.validate(nbformat.v4.new_notebook())  # makes the validator once
    gc.collect()
    gc.freeze()  # else the first collection in each child would copy these pages
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


def _serve(channel: socket.socket) -> tuple[dict[str, Any] | None, Any]:
    """Fork when asked to; return the request in the child, and None in the server when nobody asks any more."""
    from alhelpers.experiments.messages import receive, send

    children: set[int] = set()
    while True:
        question, files = receive(channel)
        if question is None:
            for child in children:
                _end(child)
            return None, None
        if "reap" in question:
            known = question["reap"] in children  # else it was the child of an earlier server
            children.discard(question["reap"])
            send(channel, os.waitstatus_to_exitcode(os.waitpid(question["reap"], 0)[1]) if known else None)
            continue
        pid = os.fork()
        if pid == 0:
            channel.close()
            return question, socket.socket(fileno=files[0])
        os.close(files[0])
        children.add(pid)
        send(channel, pid)


def _end(child: int) -> None:
    """Kill a run; its kernel notices within a second."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has no group of its own yet
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _set_environment(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _become_kernel(command: dict[str, Any]) -> None:
    """Do what the command line of a kernel does; return when the kernel has ended."""
    os.setsid()
    os.chdir(command["folder"])
    parent = os.getppid()
    _set_environment(command["environment"] | {"JPY_PARENT_PID": str(parent)})
    from ipykernel.kernelapp import IPKernelApp

    _draw_anew()
    threads = int(
        os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or os.cpu_count()
    )
    if threads > 1:
        import threadpoolctl

        threadpoolctl.threadpool_limits(threads, user_api="blas")
    words = command["command"]  # python -m ipykernel_launcher -f FILE, with options of Python before the -m
    launcher, *arguments = words[words.index("-m") + 1 :]
    sys.argv = [importlib.util.find_spec(launcher).origin, *arguments]
    # The application has read the parent's number from the environment when it was imported.
    IPKernelApp.launch_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={parent}"])
    threading._shutdown()  # waits for the notebook's threads
    atexit._run_exitfuncs()
    IPKernelApp.instance().shell.user_ns.clear()  # closes the notebook's files
    gc.collect()
    _leave()


def _draw_anew() -> None:
    """Seed the generators from the system, as a fresh import does; else all kernels would draw the same numbers."""
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()


def _leave() -> NoReturn:
    """End this process without taking all modules apart.

    That would touch, and so copy, most of the memory that is shared with the server: half a second.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        stream.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
