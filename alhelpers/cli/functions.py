"""Python files that the user names on the command line, as FILE.py:NAME; configurations never load code."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


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
    if not file.is_file() or file.suffix != ".py":
        raise ValueError(f"{file} is not a file of Python: name one, as FILE.py:NAME")
    # under its own name, unless that is another module's
    name = file.stem if file.stem not in sys.modules else f"_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{file} cannot be run: {described(error)}") from error
    finally:
        sys.path.pop(0)
    return module


def names_in(module: ModuleType) -> list[str]:
    """Return the names that a file itself defines."""
    return [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]


def described(error: Exception) -> str:
    """Return the kind and the first line of an error."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}"
