"""The arguments of a function that makes a learner from the parameters of a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def arguments_of(
    build: Callable[..., Any], named: str, parameters: Mapping[str, Any], offered: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call: all parameters, and of what is offered what the function has a name for."""
    takes = inspect.signature(build).parameters
    if any(each.kind is each.POSITIONAL_ONLY for each in takes.values()):
        raise ValueError(f"{named} has parameters that can't be passed by name: remove the '/' from it")
    takes_any = any(each.kind is each.VAR_KEYWORD for each in takes.values())
    if "class_names" in parameters:
        raise ValueError("'class_names' are the model's labels: remove them from 'parameters'")
    own = {name: value for name, value in parameters.items() if name not in offered}
    if unknown := [name for name in own if name not in takes and not takes_any]:
        raise ValueError(
            f"{named} has no parameter {unknown[0]!r}; it has {', '.join(takes) or 'none'}: correct 'parameters'"
        )
    arguments = {name: value for name, value in offered.items() if name in takes} | own
    needed = {
        name
        for name, each in takes.items()
        if each.default is each.empty and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
    if missing := sorted(needed - arguments.keys()):
        raise ValueError(
            f"{named} needs {missing[0]!r}: give it in 'parameters' (it gets {', '.join(offered)} without)"
        )
    return arguments
