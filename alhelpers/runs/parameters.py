"""A notebook's parameters: read from its parameters cell, and checked before anything runs.

papermill only warns about a parameter that the notebook does not have, and accepts any type; a sweep with a typo would
silently run the default.
"""

import ast
import difflib
from dataclasses import dataclass
from typing import Any

_TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}


class ParameterError(ValueError):
    """A parameters cell is not valid, or a value is unknown or of another type."""


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: type = default  # help``."""

    name: str
    type_name: str
    default: Any
    help: str


def declared(source: str) -> dict[str, Parameter]:
    """Parse a parameters cell into parameters by name, in the cell's order.

    A line has the form ``name: type = literal  # help``; the type is one of bool, int, float, str, ``list[...]`` and
    ``dict[str, ...]`` of these. Any other form raises ParameterError: papermill loses a line with a second equals sign,
    cuts a value at a hash, and turns every key into a string.
    """
    try:
        nodes = ast.parse(source).body
    except SyntaxError as error:
        raise ParameterError(
            f"line {error.lineno} of the parameters cell is not valid Python: {error.msg},"
            f" {(error.text or '').strip()!r}"
        ) from error
    lines = source.splitlines()
    parameters: dict[str, Parameter] = {}
    last_line = 0
    for node in nodes:
        line = lines[node.lineno - 1]
        if not (
            isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        ):
            raise ParameterError(
                f"line {node.lineno} of the parameters cell is not 'name: type = value': {line!r}"
            )
        if node.lineno == last_line or node.target.id in parameters:
            raise ParameterError(
                f"parameter {node.target.id!r} is not on a line of its own, or comes twice: {line!r}"
            )
        last_line = node.end_lineno
        parameter = _parameter(node, lines)
        check_value(parameter, parameter.default)
        parameters[parameter.name] = parameter
    return parameters


def _parameter(node: ast.AnnAssign, lines: list[str]) -> Parameter:
    name = node.target.id
    if not _is_type(node.annotation):
        raise ParameterError(
            f"parameter {name!r} has the type {ast.unparse(node.annotation)}: use bool, int, float, str,"
            " list[...] or dict[str, ...]"
        )
    try:
        default = ast.literal_eval(node.value)
    except (ValueError, TypeError) as error:
        raise ParameterError(
            f"parameter {name!r} must have a literal value, not {ast.unparse(node.value)}"
        ) from error
    # Offsets count bytes.
    comment = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode().strip()
    source = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
    if source.count("=") > 1 or any(isinstance(text, str) and "#" in text for text in texts):
        raise ParameterError(
            f"parameter {name!r} has a second equals sign, or a hash in its value, which papermill misreads:"
            f" {source!r}"
        )
    return Parameter(name, ast.unparse(node.annotation), default, comment.removeprefix("#").strip())


def _is_type(node: ast.expr) -> bool:
    """Return whether an annotation is a type that a parameter may have."""
    if isinstance(node, ast.Name):
        return node.id in _TYPES
    if not (isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)):
        return False
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if node.value.id == "dict":
        return len(inner) == 2 and ast.unparse(inner[0]) == "str" and _is_type(inner[1])
    return node.value.id == "list" and len(inner) == 1 and _is_type(inner[0])


def check_value(parameter: Parameter, value: Any) -> None:
    """Raise ParameterError unless the value has the parameter's type; an int is a float too."""
    annotation = ast.parse(parameter.type_name, mode="eval").body
    if _is_a(value, annotation):
        return
    outer = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    what = f"is {value!r} ({type(value).__name__})"
    if outer is not annotation and _is_a(value, outer):
        what = f"has an element of another type in {value!r}"
    example = "" if value is parameter.default else f", such as {parameter.default!r}"
    raise ParameterError(f"parameter {parameter.name!r} {what}: it takes {parameter.type_name}{example}")


def check(parameters: dict[str, Parameter], values: dict[str, Any], *, where: str) -> None:
    """Raise ParameterError if a name is unknown (with the nearest known one) or a value has another type."""
    for name, value in values.items():
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"did you mean {near[0]!r}? It" if near else "it"
            known = ", ".join(parameters) or "none"
            raise ParameterError(f"{where} has no parameter {name!r}: {hint} takes {known}")
        check_value(parameters[name], value)


def _is_a(value: Any, annotation: ast.expr) -> bool:
    """Return whether a value has a type; the elements of a list or dict are checked too."""
    if isinstance(annotation, ast.Name):
        wanted = _TYPES[annotation.id]
        if isinstance(value, bool):
            return wanted is bool
        return isinstance(value, (int, float)) if wanted is float else isinstance(value, wanted)
    if not _is_a(value, annotation.value):
        return False
    if isinstance(value, dict):
        of_keys, of_values = annotation.slice.elts
        return all(_is_a(key, of_keys) and _is_a(entry, of_values) for key, entry in value.items())
    return all(_is_a(entry, annotation.slice) for entry in value)


def given(pair: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE`` of a command line; a value that is not a Python literal is a string."""
    name, text = given_text(pair)
    return name, literal(text)


def given_text(pair: str) -> tuple[str, str]:
    """Split ``NAME=TEXT``; raise ParameterError if there is no ``=``."""
    name, equals, text = pair.partition("=")
    if not equals:
        raise ParameterError(f"{pair!r} is not NAME=VALUE")
    return name, text


def literal(text: str) -> Any:
    """Parse a Python literal; anything else is a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
