"""Functions in files that the user names on the command line, as FILE.py:NAME; configurations never load code."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def is_function(text: str) -> bool:
    """Return whether a text has the form of a function in a file."""
    return ".py:" in text


def function_of(text: str) -> Callable[..., Any]:
    """Run a file and return its function; raise a ValueError that names what is wrong.

    The file may import its neighbours, as a script may.
    """
    path, _, name = text.rpartition(":")
    file = Path(path)
    if not path.endswith(".py") or not name.isidentifier():
        raise ValueError(f"{text!r} must be a file and a function in it, such as my_file.py:my_function")
    if not file.is_file():
        raise ValueError(f"{path} is not a file: {text!r} must be a file and a function in it")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == file.stem]
        raise ValueError(f"{path} has no function {name!r}; it has: {', '.join(own) or 'none'}")
    return found
