"""What a run reads, as digests: another digest means another run."""

import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alhelpers.runs.kernels import find_kernel, is_a_fork
from alhelpers.runs.notebooks import code_of, nbformat, tags_of

_PACKAGE = Path(__file__).resolve().parents[1]

#: The names of the first digests of a run.
NOTEBOOK = ("notebook", "kernel")

#: Of files with code; a notebook counts where its whole name stands in the code, a module without its suffix.
_SUFFIXES = {".py", ".r", ".jl", ".ipynb"}
_WORDS = re.compile(r"[\w-]+\.ipynb|\w+")

#: The code files of a module, by the module's name.
Modules = dict[str, list[Path]]


def notebook_digests(document: nbformat.NotebookNode, kernel: str) -> dict[str, str]:
    """Return digests of a notebook's cells without outputs, and of its kernel."""
    cells = [(cell.cell_type, cell.source, tags_of(cell)) for cell in document.cells]
    spec = find_kernel(kernel)
    program = sys.version if is_a_fork(spec) else [spec.argv, spec.env]
    return dict(zip(NOTEBOOK, (digest_of(cells), digest_of(program)), strict=True))


def modules_of(document: nbformat.NotebookNode, folder: Path) -> Modules:
    """Return this package and the modules that a notebook finds in its working folder, PYTHONPATH or ``sys.path``.

    A module counts if its name stands in the notebook's code, however it is imported or run, or in the code of such a
    module; of a folder all Python files count.
    """
    code = code_of(document)
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if "sys.path" in code:
        others += re.findall(r"[\"']([^\"'\n]+)[\"']", code)
    places = dict.fromkeys(folder / other for other in others if os.path.isdir(folder / other))
    entries = [entry for place in places | {folder: None} for entry in place.iterdir()]
    found = {_PACKAGE.name: sorted(_PACKAGE.rglob("*.py"))}
    local: dict[str, list[Path]] = {}
    for entry in entries:
        if entry.suffix.lower() in _SUFFIXES or entry.is_dir():
            local.setdefault(entry.name if entry.suffix == ".ipynb" else entry.stem, []).append(entry)
    texts = [code]
    while texts:
        for word in set(_WORDS.findall(texts.pop())) & local.keys() - found.keys():
            files = [
                file
                for entry in local[word]
                for file in (sorted(entry.rglob("*.py")) if entry.is_dir() else [entry])
            ]
            found[word] = files
            texts += [file.read_text(encoding="utf-8", errors="replace") for file in files]
    return {name: files for name, files in found.items() if files}


def module_digests(modules: Modules) -> dict[str, str]:
    """Return a digest of each module."""
    return {
        name: digest_of([(file.name, _file_digest(file)) for file in files])
        for name, files in modules.items()
    }


def file_digests(values: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return digests of the files that parameters name, as they name them."""
    paths = {text: folder / os.path.expanduser(text) for text in texts_in(values)}
    return {text: _file_digest(path) for text, path in paths.items() if os.path.isfile(path)}


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in a value, also those in a list or dict."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, Mapping)):
        for entry in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(entry)


def digest_of(value: Any) -> str:
    """Return a digest of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    try:
        status = path.stat()
        return _read_digest(path, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        return "missing"


@functools.cache
def _read_digest(path: Path, *_: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
