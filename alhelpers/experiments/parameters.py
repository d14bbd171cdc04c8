"""A notebook's parameters: read from its parameters cell, and checked before anything runs.

papermill only warns about a parameter that the notebook does not have, and takes any type; a sweep with a
typo would silently run the default.
"""

import ast
import difflib
from dataclasses import dataclass
from typing import Any

_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}


class ParameterError(ValueError):
    """A parameters cell that can't be read, or a value that the notebook does not take."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: type = default  # help``."""

    name: str
    type_name: str
    default: Any
    help: str


def declared(source: str) -> dict[str, Parameter]:
    """Read a parameters cell.

    Parameters
    ----------
    source : str
        Lines of the form ``name: type = literal  # help``; the type is one of bool, int, float, str,
        ``list[...]`` and ``dict[...]`` of these.

    Returns
    -------
    dict of str to Parameter
        In the cell's order.

    Raises
    ------
    ParameterError
        If a line has another form: papermill would lose or misread it.
    """
    lines = source.splitlines()
    parameters = {}
    for node in ast.parse(source).body:
        if not (
            isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        ):
            raise ParameterError(
                f"line {node.lineno} of the parameters cell is not 'name: type = value': {lines[node.lineno - 1]!r}"
            )
        name, type_name = node.target.id, ast.unparse(node.annotation)
        if type_name.split("[")[0] not in _TYPES:
            raise ParameterError(
                f"parameter {name!r} has the type {type_name}: use one of {', '.join(_TYPES)}"
            )
        try:
            default = ast.literal_eval(node.value)
        except ValueError as error:
            raise ParameterError(
                f"parameter {name!r} must have a literal value, not {ast.unparse(node.value)}"
            ) from error
        comment = lines[node.end_lineno - 1][node.end_col_offset :].strip()
        parameters[name] = Parameter(name, type_name, default, comment.removeprefix("#").strip())
        check_value(parameters[name], default)
    return parameters


def check_value(parameter: Parameter, value: Any) -> None:
    """Raise ParameterError unless the value has the parameter's type; an int is a float too."""
    name, _, inner = parameter.type_name.partition("[")
    if not _is_a(value, name):
        raise ParameterError(
            f"parameter {parameter.name!r} is {value!r} ({type(value).__name__}): it takes {parameter.type_name},"
            f" such as {parameter.default!r}"
        )
    inner_names = [part.strip() for part in inner.rstrip("]").split(",") if part.strip()]
    if name == "list" and inner_names:
        parts = [(entry, inner_names[0]) for entry in value]
    elif name == "dict" and len(inner_names) == 2:
        parts = [
            pair for key, entry in value.items() for pair in ((key, inner_names[0]), (entry, inner_names[1]))
        ]
    else:
        parts = []
    for part, part_type in parts:
        if not _is_a(part, part_type):
            raise ParameterError(
                f"parameter {parameter.name!r} holds {part!r}: it takes {parameter.type_name}"
            )


def check(parameters: dict[str, Parameter], values: dict[str, Any], *, where: str) -> None:
    """Check given values against a notebook's parameters.

    Raises
    ------
    ParameterError
        If a name is unknown (the nearest known one is suggested) or a value has another type.
    """
    for name, value in values.items():
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"did you mean {near[0]!r}? It" if near else "it"
            raise ParameterError(f"{where} has no parameter {name!r}: {hint} takes {', '.join(parameters)}")
        check_value(parameters[name], value)


def _is_a(value: Any, type_name: str) -> bool:
    wanted = _TYPES.get(type_name)
    if wanted is None:
        return True
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
