"""Run a notebook with parameters, by papermill, and read the values that it recorded."""

import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from alhelpers.runs.errors import NotebookError
from alhelpers.runs.kernels import ForkedKernel, Guard, check_kernel, manager_class
from alhelpers.runs.parameters import Parameter, ParameterError, check, declared
from alhelpers.runs.processes import Processes

_GRAMMAR = "rfc3987_syntax"


def _import_jsonschema() -> None:
    """Import jsonschema, and its grammar of addresses only when a format is first checked.

    Loading the grammar takes three quarters of the import time of nbformat, and notebooks have no such formats.
    """
    if "jsonschema" in sys.modules or _GRAMMAR in sys.modules or not importlib.util.find_spec(_GRAMMAR):
        return

    def is_valid_syntax(*arguments: Any) -> bool:
        return importlib.import_module(_GRAMMAR).is_valid_syntax(*arguments)

    sys.modules[_GRAMMAR] = stand_in = ModuleType(_GRAMMAR)
    stand_in.is_valid_syntax = is_valid_syntax  # type: ignore[attr-defined]
    try:
        importlib.import_module("jsonschema")
    finally:
        del sys.modules[_GRAMMAR]


_import_jsonschema()

import nbformat  # noqa: E402

#: The mime type under which ``notebook.record`` stores a value in an executed notebook.
RECORD_MIME = "application/vnd.alhelpers.record+json"

#: What nbformat raises for a file that is not a notebook.
_UNREADABLE = (OSError, ValueError, AttributeError, nbformat.ValidationError)


@dataclass(frozen=True)
class Run:
    """A finished run: the executed copy, and the values that the notebook recorded."""

    notebook: Path
    output: Path
    parameters: dict[str, Any]
    recorded: dict[str, Any]


def run(
    notebook: str | Path,
    parameters: dict[str, Any],
    output: str | Path,
    *,
    cwd: str | Path | None = None,
    seconds: float | None = None,
    memory: int | None = None,
    processes: Processes | None = None,
) -> Run:
    """Execute a notebook with parameters, and write the executed copy.

    Parameters
    ----------
    notebook : path
        Has a cell tagged ``parameters``.
    parameters : dict
        Values by name; the rest keep their defaults.
    output : path
        The executed copy; if a cell fails or the kernel dies, it has the outputs so far.
    cwd : path, optional
        Working folder of the notebook; the default is the notebook's own folder.
    seconds : float, optional
        Time limit; the kernel is killed after it.
    memory : int, optional
        Memory limit in bytes; the kernel is killed when it and the processes that it started use more.
    processes : Processes, optional
        Runs the notebook in a fresh process that has its imports done, which is faster from the second run on. The
        default is this process and a kernel that imports everything itself.

    Returns
    -------
    Run

    Raises
    ------
    ParameterError
        If a parameter is unknown or has another type; nothing is run or written.
    NotebookError
        If a cell fails, the kernel dies, a limit is exceeded, or the output's name does not end in ``.ipynb``.
    FileExistsError
        If the output is the notebook itself.
    """
    notebook, output = Path(notebook), Path(output)
    check(parameters_of(notebook), parameters, where=notebook.name)
    if output.suffix != ".ipynb":
        raise NotebookError(f"the output {output} must be a notebook: choose a name that ends in .ipynb")
    if output.resolve() == notebook.resolve():
        raise FileExistsError(
            f"the output {output} is the notebook itself: choose another path for the executed copy"
        )
    check_kernel()
    output.parent.mkdir(parents=True, exist_ok=True)
    request = make_request(notebook, parameters, output, cwd, seconds=seconds, memory=memory)
    values = execute(request) if processes is None else _execute_in(processes, request)
    return Run(notebook, output, dict(parameters), values)


def make_request(
    notebook: Path, parameters: dict[str, Any], output: Path, cwd: str | Path | None, **limits: float | None
) -> dict[str, Any]:
    """Return a run as plain JSON, for this process or another one; the limits are ``seconds`` and ``memory``."""
    return limits | {
        "notebook": os.path.abspath(notebook),
        "parameters": parameters,
        "output": os.path.abspath(output),
        "shown": str(output),
        "cwd": os.path.abspath(cwd or notebook.parent),
    }


def _execute_in(processes: Processes, request: dict[str, Any]) -> dict[str, Any]:
    """Execute a request in a fresh process; return what was recorded, or raise what was raised there."""
    found = processes.execute(request)
    if "recorded" in found:
        return found["recorded"]
    if "errno" in found:
        raise OSError(found["errno"], found["message"], found["file"])
    raise NotebookError(found["message"], found["cell"], found["error"])


def execute_safely(processes: Processes, request: dict[str, Any]) -> dict[str, Any]:
    """Execute a request in a fresh process; its answer is a failure also if the process died."""
    try:
        return processes.execute(request)
    except NotebookError as error:
        return failure(error)


def answer(request: dict[str, Any], waiting: ForkedKernel | None = None) -> dict[str, Any]:
    """Execute a request in this process; return what was recorded, or the error, as plain JSON."""
    started = time.monotonic()
    try:
        found = {"recorded": execute(request, waiting)}
    except NotebookError as error:
        found = failure(error)
    except OSError as error:
        found = {"errno": error.errno, "message": error.strerror or str(error), "file": error.filename}
    return found | {"seconds": round(time.monotonic() - started, 3)}


def failure(error: NotebookError) -> dict[str, Any]:
    """Return a failure as plain JSON."""
    return {"message": str(error), "cell": error.cell, "error": error.error}


def execute(request: dict[str, Any], waiting: ForkedKernel | None = None) -> dict[str, Any]:
    """Execute a request in this process, with a kernel that may wait already; return what was recorded."""
    import papermill  # only a run needs it, and it is slow to import

    from alhelpers.runs.engine import ENGINE, KernelDied, register

    register()
    name, guard = Path(request["notebook"]).name, Guard(request["seconds"], request["memory"])
    try:
        with tempfile.TemporaryDirectory(prefix="alhelpers-") as folder:
            papermill.execute_notebook(
                request["notebook"],
                request["output"],
                parameters=request["parameters"],
                cwd=request["cwd"],
                engine_name=ENGINE,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                request_save_on_cell_execute=False,
                autosave_cell_every=0,
                kernel_manager_class=manager_class(folder, guard, waiting),
            )
    except papermill.PapermillExecutionError as error:
        reason = f"{error.ename}: {error.evalue}"
        raise _stopped(f"{name} stopped", error.exec_count, error.source, reason, request) from error
    except KernelDied as error:
        papermill.iorw.write_ipynb(error.notebook, request["output"])
        fate, reason = ("was killed", guard.reason) if guard.reason else ("died", "did it run out of memory?")
        found = _stopped(f"the kernel of {name} {fate}", error.number, error.source, reason, request)
        found.error = guard.reason or "the kernel died"
        raise found from error
    except RuntimeError as error:
        raise NotebookError(f"the kernel of {name} did not start: {error}") from error
    finally:
        guard.stop()
    return recorded(request["output"])


def _stopped(
    what: str, number: int | None, source: str | None, reason: str, request: dict[str, Any]
) -> NotebookError:
    line = next(iter((source or "").strip().splitlines()), "")
    return NotebookError(
        f"{what} at code cell [{number}], which begins {line!r}: {reason}\n"
        f"The executed copy is {request['shown']}",
        f"[{number}] {line}",
        reason,
    )


def parameters_of(notebook: str | Path) -> dict[str, Parameter]:
    """Read the parameters of a notebook file."""
    for cell in read_notebook(notebook).cells:
        if "parameters" in cell.metadata.get("tags", []):
            return declared(cell.source)
    raise ParameterError(
        f"{notebook} has no cell tagged 'parameters': add the tag to the cell with its parameters"
    )


def read_notebook(path: str | Path) -> nbformat.NotebookNode:
    """Read a notebook file; raise ParameterError if it is not a notebook."""
    try:
        return nbformat.read(str(path), as_version=4)
    except _UNREADABLE as error:
        raise ParameterError(f"{path} can't be read as a notebook: {error}") from error


def recorded(executed: str | Path) -> dict[str, Any]:
    """Return the values that an executed notebook recorded, by name; the last one of each name."""
    values: dict[str, Any] = {}
    for cell in nbformat.read(str(executed), as_version=4).cells:
        for output in cell.get("outputs", []):
            entry = output.get("data", {}).get(RECORD_MIME)
            if entry is not None:
                values.update(json.loads(entry) if isinstance(entry, str) else entry)
    return values
