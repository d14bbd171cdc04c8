"""Python files that the user names on the command line, as FILE.py:NAME; configurations never load code."""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

# The folders of the files that were run.
_FOLDERS: set[Path] = set()


class OwnCodeError(ValueError):
    """The user's own code raised an exception; the message names the file, the line and the exception."""


@contextmanager
def own_errors() -> Iterator[None]:
    """Convert an exception that the user's own code raised, or caused in what it called; others are not touched."""
    try:
        yield
    except Exception as error:
        place = own_line(error)
        if place is None or isinstance(error, OwnCodeError):
            raise
        file, line = place
        raise OwnCodeError(f"{file}, line {line} failed: {described(error)}") from error


def own_line(error: BaseException) -> tuple[str, int] | None:
    """Return the innermost file and line of the user's own code that an exception passed through, or None."""
    own = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).parent in _FOLDERS and frame.lineno is not None
    ]
    return (Path(own[-1][0]).name, own[-1][1]) if own else None


def is_function(text: str) -> bool:
    """Return whether a text has the form of a function in a file."""
    return ".py:" in text


def function_of(text: str) -> Callable[..., Any]:
    """Run a file and return its function; raise a ValueError that names what is wrong."""
    path, _, name = text.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise ValueError(f"{text!r} must be a file and a function in it, such as my_file.py:my_function")
    module = run_file(Path(path))
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"{path} has no function {name!r}; it has: {', '.join(names_in(module)) or 'none'}")
    return found


def run_file(file: Path) -> ModuleType:
    """Run a Python file, which may import its neighbours, as a script may; raise a ValueError if that fails."""
    check_python(file)
    # under its own name, unless that is another module's
    name = file.stem if file.stem not in sys.modules else f"_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _FOLDERS.add(Path(spec.origin).parent)
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{file} cannot be run: {described(error)}{in_line(error)}") from error
    finally:
        sys.path.pop(0)
    return module


def check_python(file: Path) -> None:
    """Raise a ValueError if there is no such Python file."""
    if not file.is_file() or file.suffix != ".py":
        raise ValueError(f"{file} is not a file of Python: name one, as FILE.py:NAME")


def names_in(module: ModuleType) -> list[str]:
    """Return the names that a file itself defines."""
    return [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]


def in_line(error: Exception) -> str:
    """Return the line of the user's own code where an exception comes from, in brackets, or nothing."""
    place = own_line(error)
    return "" if place is None else " ({}, line {})".format(*place)


def described(error: Exception) -> str:
    """Return the kind and the first line of an error."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
