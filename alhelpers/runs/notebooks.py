"""Notebook files: read, with their parameters and the values that they recorded."""

import base64
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from alhelpers.runs.parameters import Parameter, ParameterError, declared

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

#: The key of an output's metadata for what the kit adds to it: a value's tolerance, or that a figure is the result.
METADATA_KEY = "alhelpers"

#: What nbformat raises for a file that is not a notebook.
_UNREADABLE = (OSError, ValueError, AttributeError, nbformat.ValidationError)


def read_notebook(path: str | Path) -> nbformat.NotebookNode:
    """Read a notebook file; raise ParameterError if it is not a notebook.

    Parameters that papermill has injected earlier are left out, as its next run would leave out some of them.
    """
    try:
        document = nbformat.read(str(path), as_version=4)
    except _UNREADABLE as error:
        raise ParameterError(f"{path} can't be read as a notebook: {error}") from error
    document.cells = [cell for cell in document.cells if "injected-parameters" not in tags_of(cell)]
    return document


def tags_of(cell: nbformat.NotebookNode) -> list[str]:
    """Return the tags of a cell."""
    return cell.metadata.get("tags", [])


def code_of(document: nbformat.NotebookNode) -> str:
    """Return the source of all code cells."""
    return "\n".join(cell.source for cell in document.cells if cell.cell_type == "code")


def parameters_of(notebook: str | Path) -> dict[str, Parameter]:
    """Read the parameters of a notebook file."""
    return parameters_in(read_notebook(notebook))


def parameters_in(document: nbformat.NotebookNode, language: str | None = None) -> dict[str, Parameter]:
    """Return the parameters of a notebook, none if no cell is tagged; the default is the language that it names."""
    named = document.metadata.get("kernelspec", {}).get("language") or document.metadata.get(
        "language_info", {}
    ).get("name")
    for cell in document.cells:
        if "parameters" in tags_of(cell):
            return declared(cell.source, language or named or "python")
    return {}


def recorded(executed: str | Path) -> dict[str, Any]:
    """Return the values that an executed notebook recorded, by name; the last one of each name."""
    return recorded_in(nbformat.read(str(executed), as_version=4))


def recorded_in(document: nbformat.NotebookNode) -> dict[str, Any]:
    """Return the values that the cells of a notebook recorded."""
    return {name: value for name, value, _ in _records_in(document)}


def tolerances_in(document: nbformat.NotebookNode) -> dict[str, float]:
    """Return the tolerances that were recorded with values, by their names."""
    return {name: tolerance for name, _, tolerance in _records_in(document) if tolerance is not None}


def results_in(document: nbformat.NotebookNode) -> list[tuple[bytes, str]]:
    """Return the pictures that were shown as the notebook's result, as PNG, each with its alternative text."""
    return [
        (base64.b64decode(output.data["image/png"]), output.metadata["image/png"]["alt"])
        for output in _outputs_in(document)
        if output.get("metadata", {}).get(METADATA_KEY, {}).get("result")
    ]


def merge_streams(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Return a cell's outputs with prints in one piece, and of a progress bar its last state.

    nbclient's own ``coalesce_streams`` also moves prints before the figures that were shown between them.
    """
    merged: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and last.output_type == "stream" == output.output_type and last.name == output.name:
            last.text += output.text
        else:
            merged.append(output)
    for output in merged:
        if output.output_type == "stream":
            output.text = "\n".join(map(_last_state, output.text.split("\n")))
    return merged


def _last_state(line: str) -> str:
    """Return what a terminal shows: a carriage return writes over what stands before it, as progress bars do."""
    return line[line.rstrip("\r").rfind("\r") + 1 :]


def _records_in(document: nbformat.NotebookNode) -> Iterator[tuple[str, Any, float | None]]:
    for output in _outputs_in(document):
        entry = output.get("data", {}).get(RECORD_MIME)
        if entry is not None:
            tolerance = output.metadata.get(METADATA_KEY, {}).get("tolerance")
            for name, value in (json.loads(entry) if isinstance(entry, str) else entry).items():
                yield name, value, None if tolerance is None else float(tolerance)


def _outputs_in(document: nbformat.NotebookNode) -> Iterator[nbformat.NotebookNode]:
    for cell in document.cells:
        yield from cell.get("outputs", [])
