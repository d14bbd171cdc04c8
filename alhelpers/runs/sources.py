"""What a run reads, as digests: another digest means another run."""

import ast
import functools
import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
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

#: What may be a text in code that is not Python, such as a cell with a magic.
_BETWEEN_QUOTES = re.compile(r"[\"'\\\n]+")
#: Functions that write the files that they name.
_WRITERS = re.compile(r"to_|save|write|dump")
_WRITING_MODE = re.compile("[wax][bt+]*")

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


def texts_in_code(document: nbformat.NotebookNode, modules: Modules, defaults: set[str]) -> set[str]:
    """Return the texts in a notebook's cells and its modules that may name data files.

    Those that a writing function takes are left out, and the ``defaults`` of the parameters cell, which settings
    replace.
    """
    found: set[str] = set()
    for cell in document.cells:
        if cell.cell_type == "code":
            found |= _texts(cell.source) - (defaults if "parameters" in tags_of(cell) else set())
    own = [file for name, files in modules.items() if name != _PACKAGE.name for file in files]
    for file in own:
        found |= _texts(file.read_text(encoding="utf-8", errors="replace"))
    return found - {file.name for file in own}  # whose content counts already


def _texts(source: str) -> set[str]:
    """Return the texts of code that it does not name in order to write them."""
    try:
        with warnings.catch_warnings(action="ignore"):
            nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return set(_BETWEEN_QUOTES.split(source)) - {""}
    return {text for node in nodes if (text := _text(node))} - set(_written_in(nodes))


def _text(node: ast.AST | None) -> str:
    """Return the text of a literal, or of ``Path`` of one; else an empty one."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Call(
            func=ast.Name(id="Path") | ast.Attribute(attr="Path"), args=[ast.Constant(value=str(text))]
        ):
            return text
    return ""


def _written_in(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr=name)):
                pass
            case ast.Call(func=ast.Name(id=name)):
                owner = None
            case _:
                continue
        given = [_text(each) for each in (owner, *node.args, *(keyword.value for keyword in node.keywords))]
        if _WRITERS.match(name) or (name == "open" and any(map(_WRITING_MODE.fullmatch, given))):
            yield from given


def module_digests(modules: Modules) -> dict[str, str]:
    """Return a digest of each module."""
    return {
        name: digest_of([(file.name, _file_digest(file)) for file in files])
        for name, files in modules.items()
    }


def file_digests(values: Any, folder: Path) -> dict[str, str]:
    """Return digests of the files that the texts in values name, as they name them."""
    return {text: _file_digest(path) for text, path in files_named(values, folder).items()}


def files_named(values: Any, folder: Path) -> dict[str, Path]:
    """Return the files that the texts in values name."""
    paths = {text: folder / os.path.expanduser(text) for text in texts_in(values)}
    return {text: path for text, path in paths.items() if os.path.isfile(path)}


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in a value, also those in a list or dict."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, set, Mapping)):
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
