"""Run a notebook with parameters, by papermill, and read what it recorded."""

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Three quarters of the import time of nbformat and papermill is this optional grammar of a schema check that
# notebooks never need.
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat  # noqa: E402
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel  # noqa: E402
from jupyter_client.manager import AsyncKernelManager  # noqa: E402
from nbclient.exceptions import DeadKernelError  # noqa: E402
from traitlets import default  # noqa: E402

from alhelpers.experiments.parameters import ParameterError, check, declared  # noqa: E402

#: The mime type under which ``notebook.record`` leaves a value in an executed notebook.
RECORD_MIME = "application/vnd.alhelpers.record+json"

#: A Unix socket's name has at most 107 bytes, on some systems 103.
_LONGEST_SOCKET_NAME = 103

#: What nbformat raises for a file that is no notebook.
_UNREADABLE = (OSError, ValueError, AttributeError, nbformat.ValidationError)


class NotebookError(RuntimeError):
    """A notebook stopped: which one, at which cell, and with which error."""


@dataclass(frozen=True)
class Run:
    """A finished run: the executed copy, and the values that the notebook recorded."""

    notebook: Path
    output: Path
    parameters: dict[str, Any]
    recorded: dict[str, Any]


def run(
    notebook: str | Path, parameters: dict[str, Any], output: str | Path, *, cwd: str | Path | None = None
) -> Run:
    """Execute a notebook with parameters, and keep the executed copy.

    Parameters
    ----------
    notebook : path
        Has a cell tagged ``parameters``.
    parameters : dict
        Values by name; the rest keep their defaults.
    output : path
        Where the executed copy goes; it is kept, as far as it came, when a cell fails.
    cwd : path, optional
        Working folder of the notebook; the default is the notebook's own folder.

    Returns
    -------
    Run

    Raises
    ------
    ParameterError
        If a parameter is unknown or has another type; nothing is run or written.
    NotebookError
        If a cell fails, or the kernel dies.
    FileExistsError
        If the output is the notebook itself.
    """
    notebook, output = Path(notebook), Path(output)
    check(parameters_of(notebook), parameters, where=notebook.name)
    if output.resolve() == notebook.resolve():
        raise FileExistsError(
            f"the output {output} is the notebook itself: choose another path for the executed copy"
        )
    _check_kernel()
    import papermill  # only a run needs it, and it is slow to import

    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="alhelpers-") as folder:
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=parameters,
                cwd=str(cwd or notebook.parent),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                request_save_on_cell_execute=False,
                autosave_cell_every=0,
                kernel_manager_class=_kernel_manager_class(folder),
            )
    except papermill.PapermillExecutionError as error:
        cell = (error.source or "").strip().splitlines()
        raise NotebookError(
            f"{notebook.name} stopped at code cell [{error.exec_count}], which begins {cell[0] if cell else ''!r}:"
            f" {error.ename}: {error.evalue}\nThe executed copy is {output}"
        ) from error
    except DeadKernelError as error:
        raise NotebookError(
            f"the kernel of {notebook.name} died: did it run out of memory? Run it in JupyterLab to see at which cell"
        ) from error
    return Run(notebook, output, dict(parameters), recorded(output))


def parameters_of(notebook: str | Path) -> dict[str, Any]:
    """Read the parameters of a notebook file.

    Raises
    ------
    ParameterError
        If the file is no notebook or has no cell tagged ``parameters``.
    """
    try:
        document = nbformat.read(str(notebook), as_version=4)
    except _UNREADABLE as error:
        raise ParameterError(f"{notebook} can't be read as a notebook: {error}") from error
    for cell in document.cells:
        if "parameters" in cell.metadata.get("tags", []):
            return declared(cell.source)
    raise ParameterError(
        f"{notebook} has no cell tagged 'parameters': add the tag to the cell with its parameters"
    )


def recorded(executed: str | Path) -> dict[str, Any]:
    """Return the values that an executed notebook recorded; the last one of a name counts."""
    values: dict[str, Any] = {}
    for cell in nbformat.read(str(executed), as_version=4).cells:
        for output in cell.get("outputs", []):
            entry = output.get("data", {}).get(RECORD_MIME)
            if entry is not None:
                values.update(json.loads(entry) if isinstance(entry, str) else entry)
    return values


def _kernel_manager_class(folder: str) -> type[AsyncKernelManager]:
    """Return a manager whose kernels talk over sockets in a folder, where the system can do that.

    Two kernels that start at once may be given the same TCP port. Without a folder of its own for every kernel,
    Jupyter puts the sockets into the working folder, where kernels of two runs take each other's messages.
    """
    sockets = os.path.join(folder, "kernel")

    class FolderTransport(AsyncKernelManager):
        @default("transport")
        def _transport(self) -> str:
            return "ipc"

        @default("ip")
        def _ip(self) -> str:
            return sockets

    usable = os.name == "posix" and len(f"{sockets}-5".encode()) <= _LONGEST_SOCKET_NAME
    return FolderTransport if usable else AsyncKernelManager


def _check_kernel() -> None:
    """Raise unless the kernel ``python3`` is this interpreter: another one would run other versions."""
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
