"""Run a notebook with parameters, by papermill."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alhelpers.files import write_text
from alhelpers.runs.errors import NotebookError
from alhelpers.runs.kernels import ForkedKernel, Guard, find_kernel, kernel_of, manager_class
from alhelpers.runs.notebooks import (
    merge_streams,
    nbformat,
    parameters_in,
    read_notebook,
    recorded_in,
    tags_of,
)
from alhelpers.runs.parameters import check
from alhelpers.runs.processes import Processes


@dataclass(frozen=True)
class Run:
    """A finished run: the executed copy, the values that the notebook recorded, and how long it took."""

    notebook: Path
    output: Path
    parameters: dict[str, Any]
    recorded: dict[str, Any]
    seconds: float


def run(
    notebook: str | Path,
    parameters: dict[str, Any],
    output: str | Path,
    *,
    cwd: str | Path | None = None,
    kernel: str | None = None,
    seconds: float | None = None,
    memory: int | None = None,
    processes: Processes | None = None,
) -> Run:
    """Execute a notebook with parameters, and write the executed copy.

    A cell tagged ``raises-exception`` may fail, as in Jupyter's own tools; papermill counts it as a failure at the end.

    Parameters
    ----------
    notebook : path
        Has a cell tagged ``parameters``, unless it takes none.
    parameters : dict
        Values by name; the rest keep their defaults. Where the cell declares types, values must have them.
    output : path
        The executed copy; if a cell fails or the kernel dies, it has the outputs so far.
    cwd : path, optional
        Working folder of the notebook; the default is the notebook's own folder.
    kernel : str, optional
        Name of the kernel that runs it, in place of the one that the notebook names.
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
        If a cell fails, the kernel is not installed or dies, a limit is exceeded, or the output's name does not end in
        ``.ipynb``.
    OSError
        If the copy can't be written, or is the notebook itself (FileExistsError); where this is known before, nothing
        is run.
    """
    notebook, output = Path(notebook), Path(output)
    document = read_notebook(notebook)
    kernel = kernel_of(document, kernel)
    check(parameters_in(document, find_kernel(kernel).language), parameters, where=notebook.name)
    if output.suffix != ".ipynb" or output.is_dir():
        raise NotebookError(f"the output {output} must be a notebook: choose a name that ends in .ipynb")
    if output.resolve() == notebook.resolve():
        raise FileExistsError(
            f"the output {output} is the notebook itself: choose another path for the executed copy"
        )
    folder = working_folder(notebook, cwd)
    with _naming(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output.parent):  # raises where nothing can be written
            pass
    request = make_request(document, notebook, folder, kernel, seconds=seconds, memory=memory)
    request |= {"parameters": parameters, "output": os.path.abspath(output)}
    answer = execute(request) if processes is None else processes.execute(request)
    if "copy" in answer:
        with _naming(output):
            write_text(output, answer["copy"])
    if "recorded" not in answer:
        raise NotebookError(answer["message"], answer["cell"], answer["error"])
    return Run(notebook, output, dict(parameters), answer["recorded"], answer["seconds"])


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name a file in the system's errors, which name a temporary one, or none if the disk is full."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def working_folder(notebook: Path, cwd: str | Path | None) -> Path:
    """Return the folder in which a notebook runs; raise NotebookError if it is missing."""
    folder = Path(cwd or notebook.parent).resolve()
    if not folder.is_dir():
        raise NotebookError(f"the working folder {folder} does not exist")
    return folder


def make_request(
    document: nbformat.NotebookNode, notebook: Path, folder: Path, kernel: str, **limits: float | None
) -> dict[str, Any]:
    """Return what runs of a notebook as it is now have in common, as plain JSON: all but ``parameters`` and ``output``.

    The limits are ``seconds`` and ``memory``; raises NotebookError if one is not above 0.
    """
    for name, limit in limits.items():
        if limit is not None and not limit > 0:
            raise NotebookError(f"{name} is {limit!r}: it must be above 0")
    return limits | {
        "text": nbformat.writes(document),
        "notebook": os.path.abspath(notebook),
        "cwd": str(folder),
        "kernel": kernel,
    }


def execute(request: dict[str, Any], waiting: ForkedKernel | None = None) -> dict[str, Any]:
    """Execute a request in this process, with a kernel that may wait already; return its answer as plain JSON.

    The answer has ``seconds``, the executed ``copy`` if there is one, and ``recorded`` or the parts of an error.
    """
    started = time.monotonic()
    executed: list[nbformat.NotebookNode] = []
    try:
        _execute(request, waiting, executed)
        answer: dict[str, Any] = {"recorded": recorded_in(executed[0])}
    except NotebookError as error:
        answer = error.as_answer()
    if executed:
        for cell in executed[0].cells:
            if "outputs" in cell:
                cell.outputs = merge_streams(cell.outputs)
        executed[0].metadata.papermill.update(input_path=request["notebook"], output_path=request["output"])
        answer["copy"] = nbformat.writes(executed[0])
    return answer | {"seconds": round(time.monotonic() - started, 3)}


def _execute(
    request: dict[str, Any], waiting: ForkedKernel | None, executed: list[nbformat.NotebookNode]
) -> None:
    """Execute a request; the notebook, with the outputs so far, goes into a list."""
    import papermill  # only a run needs it, and it is slow to import
    from nbclient.exceptions import DeadKernelError

    from alhelpers.runs.engine import ENGINE, no_guesses, register

    register()
    name = Path(request["notebook"]).name
    guard = Guard(request["seconds"], request["memory"])
    try:
        spec = find_kernel(request["kernel"])
        with no_guesses(), tempfile.TemporaryDirectory(prefix="alhelpers-") as folder:
            papermill.execute_notebook(
                nbformat.reads(request["text"], as_version=4),
                None,
                parameters=request["parameters"],
                cwd=request["cwd"],
                engine_name=ENGINE,
                kernel_name=request["kernel"],
                language=spec.language,
                progress_bar=False,
                autosave_cell_every=0,
                kernel_manager_class=manager_class(folder, guard, spec, waiting),
                executed=executed,
            )
    except papermill.PapermillExecutionError as error:
        if _is_expected(executed[0]):
            papermill.execute.remove_error_markers(executed[0])
            return
        reason = f"{error.ename}: {error.evalue}"
        raise _stopped(f"{name} stopped", error.exec_count, error.source, reason, request) from error
    except DeadKernelError as error:
        number, source = _mark_last_cell(executed[0])
        fate, reason = ("was killed", guard.reason) if guard.reason else ("died", "did it run out of memory?")
        found = _stopped(f"the kernel of {name} {fate}", number, source, reason, request)
        found.error = guard.reason or "the kernel died"
        raise found from error
    except papermill.exceptions.PapermillException as error:
        # it cannot write parameters in the kernel's language
        raise NotebookError(f"papermill can't run {name}: {error}") from error
    except (RuntimeError, OSError) as error:
        raise NotebookError(f"the kernel of {name} did not start: {error}") from error
    finally:
        guard.stop()


def _is_expected(document: nbformat.NotebookNode) -> bool:
    """Return whether every cell that failed is tagged ``raises-exception``."""
    failed = [
        cell
        for cell in document.cells
        if any(output.output_type == "error" for output in cell.get("outputs", []))
    ]
    return not document.metadata.papermill.exception and all(
        "raises-exception" in tags_of(cell) for cell in failed
    )


def _mark_last_cell(document: nbformat.NotebookNode) -> tuple[int, str]:
    """Mark the last cell that was started as papermill marks one that failed; return its number and source."""
    started = [
        cell
        for cell in document.cells
        if cell.cell_type == "code" and cell.metadata.papermill["start_time"] and cell.source.strip()
    ]
    started[-1].metadata.papermill.update(exception=True, status="failed")
    document.metadata.papermill["exception"] = True
    return len(started), started[-1].source


def _stopped(
    what: str, number: int | None, source: str | None, reason: str, request: dict[str, Any]
) -> NotebookError:
    line = next(iter((source or "").strip().splitlines()), "")
    return NotebookError(
        f"{what} at code cell [{number}], which begins {line!r}: {reason}\n"
        f"The executed copy is {request['output']}",
        f"[{number}] {line}",
        reason,
    )
