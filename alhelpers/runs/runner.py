"""Run a notebook with parameters, by papermill, and read what it recorded."""

import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Three quarters of the import time of nbformat and papermill is this optional grammar of a schema check that
# notebooks never need.
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat  # noqa: E402

from alhelpers.runs.errors import NotebookError  # noqa: E402
from alhelpers.runs.kernels import ForkedKernel, Guard, check_kernel, manager_class  # noqa: E402
from alhelpers.runs.parameters import Parameter, ParameterError, check, declared  # noqa: E402
from alhelpers.runs.processes import Processes  # noqa: E402

#: The mime type under which ``notebook.record`` leaves a value in an executed notebook.
RECORD_MIME = "application/vnd.alhelpers.record+json"

#: What nbformat raises for a file that is no notebook.
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
    """Execute a notebook with parameters, and keep the executed copy.

    Parameters
    ----------
    notebook : path
        Has a cell tagged ``parameters``.
    parameters : dict
        Values by name; the rest keep their defaults.
    output : path
        Where the executed copy goes; it is kept, as far as it came, when a cell fails or the kernel dies.
    cwd : path, optional
        Working folder of the notebook; the default is the notebook's own folder.
    seconds : float, optional
        The kernel is ended after so long.
    memory : int, optional
        Bytes: the kernel is ended when it and the processes that it started hold more.
    processes : Processes, optional
        Runs it in a fresh process with its imports behind it; the default is this process, and a kernel that
        imports everything itself. Worth it from two runs on.

    Returns
    -------
    Run

    Raises
    ------
    ParameterError
        If a parameter is unknown or has another type; nothing is run or written.
    NotebookError
        If a cell fails, the kernel dies, a limit is passed, or the output's name does not end in ``.ipynb``.
    FileExistsError
        If the output is the notebook itself.
    """
    notebook, output = Path(notebook), Path(output)
    check(parameters_of(notebook), parameters, where=notebook.name)
    if output.suffix != ".ipynb":
        raise NotebookError(f"the output {output} is to be a notebook: give it a name that ends in .ipynb")
    if output.resolve() == notebook.resolve():
        raise FileExistsError(
            f"the output {output} is the notebook itself: choose another path for the executed copy"
        )
    check_kernel()
    output.parent.mkdir(parents=True, exist_ok=True)
    wanted = request(notebook, parameters, output, cwd=cwd, seconds=seconds, memory=memory)
    if processes is None:
        return Run(notebook, output, dict(parameters), execute(wanted))
    return Run(notebook, output, dict(parameters), execute_in(processes, wanted))


def request(
    notebook: Path,
    parameters: dict[str, Any],
    output: Path,
    *,
    cwd: str | Path | None = None,
    seconds: float | None = None,
    memory: int | None = None,
) -> dict[str, Any]:
    """Return a run as plain JSON, for this process or another one."""
    return {
        "notebook": os.path.abspath(notebook),
        "parameters": parameters,
        "output": os.path.abspath(output),
        "shown": str(output),
        "cwd": os.path.abspath(cwd or notebook.parent),
        "seconds": seconds,
        "memory": memory,
    }


def execute_in(processes: Processes, wanted: dict[str, Any]) -> dict[str, Any]:
    """Execute a request in a fresh process; return what was recorded, and raise what was raised there."""
    found = processes.execute(wanted)
    if "recorded" in found:
        return found["recorded"]
    if "errno" in found:
        raise OSError(found["errno"], found["message"], found["file"])
    raise NotebookError(found["message"], found["cell"], found["error"])


def answer(wanted: dict[str, Any], waiting: ForkedKernel | None = None) -> dict[str, Any]:
    """Execute a request in this process; return what was recorded or went wrong as plain JSON."""
    started = time.monotonic()
    try:
        found = {"recorded": execute(wanted, waiting)}
    except NotebookError as error:
        found = failure(error)
    except OSError as error:
        found = {"errno": error.errno, "message": error.strerror or str(error), "file": error.filename}
    return found | {"seconds": round(time.monotonic() - started, 3)}


def failure(error: NotebookError) -> dict[str, Any]:
    """Return a failure as plain JSON."""
    return {"message": str(error), "cell": error.cell, "error": error.error}


def execute(wanted: dict[str, Any], waiting: ForkedKernel | None = None) -> dict[str, Any]:
    """Execute a request in this process, and return what the notebook recorded.

    Parameters
    ----------
    wanted : dict
        What ``request`` returned.
    waiting : ForkedKernel, optional
        The process that becomes the kernel.

    Raises
    ------
    NotebookError
        If a cell fails, the kernel dies, or a limit is passed.
    OSError
        If the executed copy can't be written.
    """
    import papermill  # only a run needs it, and it is slow to import

    from alhelpers.runs.engine import ENGINE, KernelDied, register

    register()
    name, guard = Path(wanted["notebook"]).name, Guard(wanted["seconds"], wanted["memory"])
    try:
        with tempfile.TemporaryDirectory(prefix="alhelpers-") as folder:
            papermill.execute_notebook(
                wanted["notebook"],
                wanted["output"],
                parameters=wanted["parameters"],
                cwd=wanted["cwd"],
                engine_name=ENGINE,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                request_save_on_cell_execute=False,
                autosave_cell_every=0,
                kernel_manager_class=manager_class(folder, guard, waiting),
            )
    except papermill.PapermillExecutionError as error:
        number, line = error.exec_count, _first_line(error.source)
        what = f"{error.ename}: {error.evalue}"
        raise NotebookError(
            f"{name} stopped at code cell [{number}], which begins {line!r}: {what}\n"
            f"The executed copy is {wanted['shown']}",
            f"[{number}] {line}",
            what,
        ) from error
    except KernelDied as error:
        papermill.iorw.write_ipynb(error.notebook, wanted["output"])
        number, line = error.number, _first_line(error.source)
        fate, what = ("was ended", guard.reason) if guard.reason else ("died", "did it run out of memory?")
        raise NotebookError(
            f"the kernel of {name} {fate} at code cell [{number}], which begins {line!r}: {what}\n"
            f"The executed copy is {wanted['shown']}",
            f"[{number}] {line}",
            guard.reason or "the kernel died",
        ) from error
    except RuntimeError as error:
        raise NotebookError(f"the kernel of {name} did not start: {error}") from error
    finally:
        guard.stop()
    return recorded(wanted["output"])


def _first_line(source: str | None) -> str:
    lines = (source or "").strip().splitlines()
    return lines[0] if lines else ""


def parameters_of(notebook: str | Path) -> dict[str, Parameter]:
    """Read the parameters of a notebook file.

    Raises
    ------
    ParameterError
        If the file is no notebook or has no cell tagged ``parameters``.
    """
    for cell in read_notebook(notebook).cells:
        if "parameters" in cell.metadata.get("tags", []):
            return declared(cell.source)
    raise ParameterError(
        f"{notebook} has no cell tagged 'parameters': add the tag to the cell with its parameters"
    )


def read_notebook(path: str | Path) -> nbformat.NotebookNode:
    """Read a notebook file.

    Raises
    ------
    ParameterError
        If it is none.
    """
    try:
        return nbformat.read(str(path), as_version=4)
    except _UNREADABLE as error:
        raise ParameterError(f"{path} can't be read as a notebook: {error}") from error


def recorded(executed: str | Path) -> dict[str, Any]:
    """Return the values that an executed notebook recorded; the last one of a name counts."""
    values: dict[str, Any] = {}
    for cell in nbformat.read(str(executed), as_version=4).cells:
        for output in cell.get("outputs", []):
            entry = output.get("data", {}).get(RECORD_MIME)
            if entry is not None:
                values.update(json.loads(entry) if isinstance(entry, str) else entry)
    return values
