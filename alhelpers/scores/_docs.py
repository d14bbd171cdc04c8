"""Sections of docstrings that several scores share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

_Score = TypeVar("_Score", bound=Callable)


def documented(parameters: str, raises: str) -> Callable[[_Score], _Score]:
    """Return a decorator that adds shared Parameters and Raises around the Returns section of a docstring."""

    def decorate(score: _Score) -> _Score:
        if score.__doc__:
            summary, returns, *rest = inspect.cleandoc(score.__doc__).split("\n\n")
            first = f"Parameters\n----------\n{inspect.cleandoc(parameters)}"
            last = f"Raises\n------\nScoreError\n    {raises}"
            score.__doc__ = "\n\n".join([summary, first, returns, last, *rest])
        return score

    return decorate
